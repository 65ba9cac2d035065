"""What a model makes of every part of a split: all that its metrics are computed from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn

from megu.core.device import in_batches
from megu.core.models import features
from megu.core.splits import Split
from megu.core.weights import read_tensors
from megu.datasets.images import Images


@dataclass(frozen=True)
class Outputs:
    """``logits`` and ``features`` of a model: part of the split -> ``(n, K)``, ``(n, d)`` float32."""

    logits: dict[str, Float[Tensor, "_ K"]]
    features: dict[str, Float[Tensor, "_ d"]]


@torch.no_grad()
def collect_outputs(model: nn.Module, images: Images, split: Split, batch: int = 500, look: Callable = features):
    """The `Outputs` of a model, in eval mode and float32; ``look``: see `megu.core.models.features`."""
    model.eval()
    parts = vars(split)

    def both(part):
        return look(model, images.batch(part).contiguous(memory_format=torch.channels_last))

    pairs, sizes = in_batches(both, torch.cat([*parts.values()]), batch, fitted=True), [*map(len, parts.values())]
    tables = (torch.cat(pieces).float().split(sizes) for pieces in zip(*pairs, strict=True))
    return Outputs(*(dict(zip(parts, table, strict=True)) for table in tables))


def save_outputs(outputs: Outputs, path: Path) -> None:
    """Keep `Outputs` as safetensors."""
    flat = {f"{kind}/{part}": tensor for kind, parts in vars(outputs).items() for part, tensor in parts.items()}
    save_file({name: tensor.cpu().contiguous() for name, tensor in flat.items()}, path)


def load_outputs(path: Path, device) -> Outputs:
    """Read what `save_outputs` wrote."""
    kinds = {"logits": {}, "features": {}}
    for name, tensor in read_tensors(path, "artefact", device).items():
        kind, _, part = name.partition("/")
        kinds[kind][part] = tensor
    return Outputs(**kinds)


@torch.no_grad()
def blank_logits(model: nn.Module, images: Images, index: Int[Tensor, " n"]) -> Float[Tensor, "n K"]:
    """Logits in train mode, in batches of 64, as the public code asks its untrained network (compat)."""
    model.train()
    parts = [model(images.batch(part)).float() for part in index.split(64) if len(part)]
    return torch.cat(parts) if parts else torch.empty(0, images.num_classes)
