r"""Images as a network may have been trained on them, where they were given in another way."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from megu.datasets.images import Images
from megu.datasets.user_images import moments
from megu.settings.known import NORMALISE

_SCALES = (1 / 7, 2 / 7, 3 / 7, 1 / 2, 2 / 3, 3 / 4, 7 / 8, 8 / 7, 4 / 3)  # of 224 pixels 32, 64, 96, ..., 256, 299
_LARGER = (3 / 2, 2.0)  # of small images, where they cost little
_SMALL = 96  # pixels
_CUT = 1 / 16  # of the side: what CenterCrop(224) takes from each edge after Resize(256)
_PLAIN = 0.02  # beyond [0, 1], by rounding
_BGR = "with their channels in the order BGR"


def other_preparations(images: Images, like: Float[Tensor, "m C H W"] | None = None) -> Iterator[tuple[str, Images]]:
    r"""(What is other, the images so prepared): normalisation, size, central part, BGR for RGB, rows for columns,
    upside down, negative; of float images also with the mean and spread of ``like``."""
    x = images.x
    yield from _normalised(images)
    white = x.amax((0, 2, 3)).view(-1, 1, 1) + x.amin((0, 2, 3)).view(-1, 1, 1) if x.is_floating_point() else 255
    if x.shape[1] == 3:
        yield _BGR, replace(images, x=x.flip(1))
    if x.shape[2] == x.shape[3]:
        yield "with rows for columns", replace(images, x=x.mT)
    yield "upside down", replace(images, x=x.flip(2))
    yield "as negatives", replace(images, x=white - x)
    sides = x.shape[2:]
    for scale in _SCALES + _LARGER * (max(sides) <= _SMALL):
        size = [round(scale * side) for side in sides]
        if min(size) >= 8:
            yield f"at {size[0]} x {size[1]} pixels", replace(images, x=_resized(x, size))
    top, left = (round(_CUT * side) for side in sides)
    if top and left:
        yield "cut to their central part", replace(images, x=_resized(x[:, :, top:-top, left:-left], sides))
    if like is not None and x.is_floating_point():
        (mean, std), (to_mean, to_std) = map(spread, (x, like))
        alike = (x - mean) / std * to_std + to_mean
        yield "with the mean and spread of the training images", replace(images, x=alike)


def spread(x: Float[Tensor, "n C H W"]) -> tuple[Float[Tensor, "C 1 1"], Float[Tensor, "C 1 1"]]:
    r"""Mean and standard deviation of each channel."""
    return x.mean((0, 2, 3)).view(-1, 1, 1), x.std((0, 2, 3)).clamp_min(1e-6).view(-1, 1, 1)


def _resized(x: Float[Tensor, "n C H W"] | UInt8[Tensor, "n C H W"], size):
    other = F.interpolate(x.float(), tuple(size), mode="bilinear", antialias=True)
    return other if x.is_floating_point() else other.round().clamp(0, 255).to(x.dtype)


def _normalised(images):
    x, said = images.x, "normalised by {}"
    presets = (name for name, (mean, _) in NORMALISE.items() if x.shape[1] in (1, 3) or len(mean) == 1)
    pairs = {name: [value.to(x.device) for value in moments(name, x)] for name in presets}
    levels = [torch.zeros_like(images.mean), torch.full_like(images.std, 1 / 255)]
    if not x.is_floating_point():
        pairs["data"] = [value.to(x.device) for value in moments("data", x)]
        for name, (mean, std) in pairs.items():
            yield said.format(name), replace(images, mean=mean, std=std)
        yield "from 0 to 255", replace(images, mean=levels[0], std=levels[1])
        return
    said += " (normalise= does so to 8-bit images alone: let the Dataset do it, or give such)"
    pairs = {name: [value.view(-1, 1, 1) for value in pair] for name, pair in pairs.items()}
    for mean, std in [(0, 1 / 255)] if x.max() > 9 else pairs.values():
        plain = x * std + mean
        if plain.min() < -_PLAIN or plain.max() > 1 + _PLAIN:
            continue
        if x.shape[1] == 3:  # exchanged before they were normalised
            yield _BGR, replace(images, x=(plain.flip(1) - mean) / std)
        for name, (other_mean, other_std) in pairs.items():
            yield said.format(name), replace(images, x=(plain - other_mean) / other_std)
        yield "from 0 to 255", replace(images, x=255 * plain)
