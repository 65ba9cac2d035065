r"""Floating-point operations of a network, counted; a product and a sum are two operations."""

from contextlib import nullcontext
from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from torchvision.models import resnet50

from megu.core import models
from megu.core import weights as pretrained

_CPU = {  # attention of a CPU, which torch's counter leaves out
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: (
        sdpa_backward_flop_count(g, q, k, v)
    ),
}


def counted():
    r"""A context that counts what runs inside it: ``get_total_flops()`` of what it gives.  Products of matrices,
    convolutions and attention count."""
    return FlopCounterMode(display=False, custom_mapping=_CPU)


def network(arch, num_classes, shape, seed=0, purpose="original"):
    r"""A network of the right shape without weights from outside: random where `megu.core.models.build` would read
    them.

    Args: as of `megu.core.models.build`; ``arch`` may be ``resnet50``, torchvision's, for comparison with other data
        sets.
    """
    if arch == "resnet50":
        return resnet50(num_classes=num_classes)
    if arch == "vit-b16":
        return models.ViT(pretrained.vit_b16(num_classes, "random"))
    return models.build(arch, num_classes, shape, seed, purpose)


@lru_cache
def forward_flops(arch, num_classes, shape):
    r"""Operations of one image on its way through a network; nothing is computed and no weights are needed.

    Args:
        arch: see `network`.  num_classes: K.  shape: (C, H, W) of an image, before the network resizes it.
    Returns: int.

    >>> [round(forward_flops(arch, 100, (3, 32, 32)) / 1e9, 1) for arch in ("resnet18", "vit-b16")]
    [1.1, 35.1]
    """
    with (
        torch.device("meta") if arch in ("vit-b16", "resnet50") else nullcontext()
    ):  # the others draw weights from a generator of the CPU
        model = network(arch, num_classes, shape).to("meta")
    side = getattr(model, "size", None)  # resizing is not counted
    with counted() as count, torch.no_grad():
        model.eval()(torch.empty(1, shape[0], *((side, side) if side else shape[1:]), device="meta"))
    return count.get_total_flops()
