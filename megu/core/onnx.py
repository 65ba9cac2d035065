r"""A classifier as an ONNX file, held against the original before anyone sees it."""

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from megu.core.adapted import leaves, read_output
from megu.core.device import generator
from megu.core.models import copy_of
from megu.settings.errors import SettingsError
from megu.settings.extras import extra
from megu.settings.files import atomic

CLOSE = 1e-4  # largest difference of a logit, relative where logits are above 1
BATCHES = 1, 3  # images at a time that the file is tried with


def runtime():
    r"""The module onnxruntime.  Raises: MissingExtraError without the extra ``onnx``."""
    with extra("onnx"):
        import onnxruntime  # noqa: PLC0415  (an extra)
        import onnxscript  # noqa: F401, PLC0415  (torch imports it late)
    return onnxruntime


class _Reads(nn.Module):
    # What a model that gives more than logits says of images.

    def __init__(self, net, path):
        super().__init__()
        self.net, self.path = net, path

    def forward(self, x):
        return dict(leaves(self.net(x)))[self.path]


def write_onnx(model: nn.Module, shape: tuple[int, int, int], path: Path, num_classes: int | None = None) -> float:
    r"""Write ``images`` ``(n, C, H, W)`` float32 to ``logits`` ``(n, K)`` as ONNX; any n.

    Args: model: in eval mode, on any device.  shape: (C, H, W).  num_classes: K, where it gives more than logits.
    Returns: the largest difference from the model's logits, on images of uniform noise, by onnxruntime on the CPU.
    Raises: MissingExtraError without the extra ``onnx``; SettingsError, and no file is left, where the model cannot be
        exported or the file gives other logits.
    """
    onnxruntime = runtime()
    model, name = copy_of(model).cpu().float().eval(), type(model).__name__
    images = [torch.rand(n, *shape, generator=generator(0, "onnx")) for n in BATCHES]
    with torch.no_grad():
        given = model(images[-1].clone())
    if not isinstance(given, Tensor):
        model = _Reads(model, read_output(given, (len(images[-1]), num_classes), name)[0])
    with atomic(path) as part:
        try:
            _export(model, images[-1], part)
            session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])
            found = [torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0]) for x in images]
        except Exception as error:  # of torch, onnxscript or onnxruntime, each with its own kinds
            why = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:150]}"
            raise SettingsError(f"{name} cannot be written as ONNX ({why}): export it without") from None
        with torch.no_grad():
            wanted = [model(x) for x in images]
        off = max(((a - b).abs() / b.abs().clamp(min=1)).max().item() for a, b in zip(found, wanted, strict=True))
        if not off <= CLOSE:
            raise SettingsError(f"{name} as ONNX gives logits that differ by {off:.2g}: export it without")
    return off


def _export(model, x, path):
    """One file: weights inside."""
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for those who write exporters
            torch.onnx.export(
                model, (x,), path, input_names=["images"], output_names=["logits"], dynamo=True, verbose=False,
                dynamic_shapes=({0: torch.export.Dim("n", min=1)},), external_data=False,
            )  # fmt: skip
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
