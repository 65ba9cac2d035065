r"""Floating-point operations of a network, counted; a product and a sum are two."""

from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from torchvision.models import resnet50

from megu.core import models, weights

_ATEN = torch.ops.aten
_CPU = {  # attention of a CPU, which torch's counter leaves out
    _ATEN._scaled_dot_product_flash_attention_for_cpu: lambda *args, **_: sdpa_flop_count(*args[:3]),
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: lambda *args, **_: sdpa_backward_flop_count(*args[:4]),
}
_LARGE = {  # made without memory for their weights
    "resnet50": resnet50,
    "vit-b16": lambda num_classes: models.ViT(weights.vit_b16(num_classes, "random")),
}


def counted():
    r"""A context whose ``get_total_flops()`` are those of products of matrices, convolutions and attention in it."""
    return FlopCounterMode(display=False, custom_mapping=_CPU)


@lru_cache
def forward_flops(arch, num_classes, shape):
    r"""Operations of a network's forward pass of one image; nothing is computed.

    Args:
        arch: of `megu.core.models.build`, or torchvision's ``resnet50``.
        num_classes: K.  shape: (C, H, W) of an image, before the network resizes it, which is not counted.

    >>> [round(forward_flops(arch, 100, (3, 32, 32)) / 1e9, 1) for arch in ("resnet18", "vit-b16")]
    [1.1, 35.1]
    """
    if arch in _LARGE:
        with torch.device("meta"):
            model = _LARGE[arch](num_classes=num_classes)
    else:
        model = models.build(arch, num_classes, shape, 0)
    side = getattr(model, "size", None)
    with counted() as count, torch.no_grad():
        model.to("meta").eval()(torch.empty(1, shape[0], *((side, side) if side else shape[1:]), device="meta"))
    return count.get_total_flops()
