r"""Images with a ground truth: every class is a known set of parts, some its own, some shared, so that measured
entanglement can be checked.

A part is a shape, a texture, a colour or a position. An image shows each part of its class with probability `SHOW`,
independently, at random places (a position is a mark at a fixed place): all parts are evidence, none is enough.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from megu.core.device import generator
from megu.core.models import build, features
from megu.core.train import fit
from megu.datasets.images import Images, pool
from megu.settings.config import Recipe

SIDE, CELL, SHOW = 32, 8, 0.5
RECIPE = Recipe(epochs=6, batch=64, lr=0.1)

# The classes' parts: the first of each is unique to it.
CLASSES = {
    "A": ("disc", "stripes", "red", "top", "cross", "bottom"),
    "B": ("ring", "stripes", "red", "top", "cross", "blue"),
    "C": ("checker", "stripes", "red", "left", "triangle"),
    "D": ("green", "stripes", "bottom", "triangle", "diagonal", "left"),
    "E": ("right", "bottom", "triangle", "diagonal", "square", "left"),
    "F": ("magenta", "bottom", "triangle", "diagonal", "square"),
    "G": ("grid", "diagonal", "square", "blue"),
    "H": ("corner", "top", "cross", "blue"),
    "I": ("yellow", "cross", "square", "red", "blue"),
    "J": ("dots", "blue", "left", "top", "cross"),
}
_v, _u = np.mgrid[:CELL, :CELL] - (CELL - 1) / 2
_GREYS = {
    "disc": _v**2 + _u**2 < 12,
    "ring": np.abs(np.hypot(_v, _u) - 2.9) < 0.8,
    "cross": np.minimum(abs(_v), abs(_u)) < 1,
    "triangle": (abs(_u) < (_v + 4) / 2) & (_v < 3),
    "square": np.abs(np.maximum(abs(_v), abs(_u)) - 2.5) < 0.6,
    "stripes": _v % 4 < 2,
    "checker": (_v // 2 + _u // 2) % 2 < 1,
    "diagonal": (_v + _u) % 4 < 2,
    "grid": (_v % 4 < 1) | (_u % 4 < 1),
    "dots": (_v % 3 < 1) & (_u % 3 < 1),
}
_COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 200, 60),
    "blue": (50, 80, 230),
    "magenta": (210, 50, 200),
    "yellow": (220, 210, 40),
}
_PLACES = {"top": (0, 14), "bottom": (28, 14), "left": (14, 0), "right": (14, 28), "corner": (0, 0)}
KINDS = {
    **{name: "shape" if k < 5 else "texture" for k, name in enumerate(_GREYS)},
    **dict.fromkeys(_COLOURS, "colour"), **dict.fromkeys(_PLACES, "position"),
}  # fmt: skip
PARTS = tuple(KINDS)
OWNS = np.array([[part in own for part in PARTS] for own in CLASSES.values()])  # (K, P)


def true_overlap() -> Float[np.ndarray, "K K"]:
    r"""The overlap that is there: Jaccard index of the classes' part sets, in [0, 1], symmetric."""
    shared = OWNS.astype(int) @ OWNS.T.astype(int)
    sizes = OWNS.sum(1)
    return shared / (sizes[:, None] + sizes - shared)


def draw(shown: Bool[np.ndarray, "n P"], seed, extra: str | None = None) -> UInt8[np.ndarray, "n 32 32 3"]:
    r"""Images of parts.

    Args:
        shown: parts of each image in the order of `PARTS`.
        seed: of places and brightness; these do not depend on ``extra``.
        extra: name of a part that is drawn into every image on top, at a place that is still free, or None.
    """
    rng = np.random.default_rng(seed)
    out = rng.normal(40, 8, (len(shown), SIDE, SIDE, 3))
    for canvas, own in zip(out, shown, strict=True):
        cells, level = rng.permutation(9), rng.uniform(0.8, 1, len(PARTS))
        names = [name for name, here in zip(PARTS, own, strict=True) if here] + ([extra] if extra else [])
        for name in names:
            if name in _PLACES:
                top, left = _PLACES[name]
                canvas[top : top + 4, left : left + 4] = 230 * level[PARTS.index(name)]
                continue
            row, column = divmod(cells[0], 3)
            cells = cells[1:]
            cell = canvas[4 + CELL * row : 4 + CELL * (row + 1), 4 + CELL * column : 4 + CELL * (column + 1)]
            if name in _COLOURS:
                cell[1:-1, 1:-1] = np.multiply(_COLOURS[name], level[PARTS.index(name)])
            else:
                cell[_GREYS[name]] = 230 * level[PARTS.index(name)]
    return out.clip(0, 255).astype("uint8")


@dataclass(frozen=True)
class PartImages:
    r"""``images`` of the ten classes; ``shown``: which parts each image of the pool shows."""

    images: Images
    shown: Bool[Tensor, "N P"]


def make(train: int = 3000, test: int = 2000, seed: int = 0) -> PartImages:
    r"""The data set, equally many images of each class; the same seed gives the same bits."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(count) % len(OWNS) for count in (train, test)])
    shown = OWNS[y] & (rng.random((train + test, len(PARTS))) < SHOW)
    x = draw(shown, seed)
    return PartImages(
        pool("parts", (x[:train], y[:train]), (x[train:], y[train:]), tuple(CLASSES)), torch.from_numpy(shown)
    )


def trained(images: Images, index: Int[Tensor, " n"], compute, seed: int = 0, recipe=RECIPE) -> nn.Module:
    r"""A small ResNet trained on images ``index``: tens of seconds on one core."""
    model, gen = build("resnet-small", images.num_classes, images.shape, seed, "parts"), generator(seed, "parts order")
    fit(model, lambda i: (images.batch(index[i]), images.y[index[i]]), len(index), recipe, gen, compute, label="parts")
    return model


@lru_cache(maxsize=64)  # the same for every model that is asked
def _without_and_with(part, classes, count, seed):
    rng = np.random.default_rng([seed, PARTS.index(part)])
    shown = OWNS[rng.choice(classes, count)] & (rng.random((count, len(PARTS))) < SHOW)
    shown[:, PARTS.index(part)] = False
    return draw(shown, seed), draw(shown, seed, part)


@torch.no_grad()
def reactions(
    model: nn.Module, images: Images, part: str, classes, count: int = 200, seed: int = 0, layer: str | None = None
) -> tuple[Float[np.ndarray, "count d"], Float[np.ndarray, "count d"]]:
    r"""What a part does to a model: the change of every unit where the part is drawn into an image, everything else
    equal.

    Args:
        model: classifier, in eval mode.  images: from `make`, whose normalisation is used.
        classes: indices of the classes whose parts the images show at random, never ``part`` itself.
        count: of images.  seed: of these.  layer: see `megu.core.models.features`.
    Returns: (change, features without the part).
    """
    plain, with_part = (
        features(model, images.normalised(torch.from_numpy(x).permute(0, 3, 1, 2).to(images.x.device)), layer)[1]
        .double()
        .cpu()
        .numpy()
        for x in _without_and_with(part, tuple(classes), count, seed)
    )
    return with_part - plain, plain


def owners(part: str) -> Int[np.ndarray, " owners"]:
    r"""Indices of the classes that have a part."""
    return np.flatnonzero(OWNS[:, PARTS.index(part)])
