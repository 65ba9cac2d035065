r"""Floating-point operations of a network, counted; a product and a sum are two operations."""

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
_LARGE = {  # made without memory for their weights; those of the others are drawn by a generator of the CPU
    "resnet50": lambda num_classes: resnet50(num_classes=num_classes),
    "vit-b16": lambda num_classes: models.ViT(pretrained.vit_b16(num_classes, "random")),
}


def counted():
    r"""A context that counts products of matrices, convolutions and attention inside it: its ``get_total_flops()``."""
    return FlopCounterMode(display=False, custom_mapping=_CPU)


@lru_cache
def forward_flops(arch, num_classes, shape):
    r"""Operations of one image on its way through a network; nothing is computed and no weights are needed.

    Args:
        arch: of `megu.core.models.build`, or torchvision's ``resnet50``, for comparison with other data sets.
        num_classes: K.  shape: (C, H, W) of an image, before the network resizes it, which is not counted.

    >>> [round(forward_flops(arch, 100, (3, 32, 32)) / 1e9, 1) for arch in ("resnet18", "vit-b16")]
    [1.1, 35.1]
    """
    if arch in _LARGE:
        with torch.device("meta"):
            model = _LARGE[arch](num_classes)
    else:
        model = models.build(arch, num_classes, shape, 0)
    side = getattr(model, "size", None)
    with counted() as count, torch.no_grad():
        model.to("meta").eval()(torch.empty(1, shape[0], *((side, side) if side else shape[1:]), device="meta"))
    return count.get_total_flops()
