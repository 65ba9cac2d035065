"""Images with a ground truth: every class is a known set of parts (shapes, textures, colours, marks at a position).

An image shows each part of its class with probability `SHOW`, independently: all are evidence, none is enough.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from megu.core.models import features
from megu.datasets.images import Images, pool

SIDE, CELL, SHOW = 32, 8, 0.5

# The first part of each class is unique to it.
CLASSES = {
    "A": "disc stripes red top cross bottom",
    "B": "ring stripes red top cross blue",
    "C": "checker stripes red left triangle",
    "D": "green stripes bottom triangle diagonal left",
    "E": "right bottom triangle diagonal square left",
    "F": "magenta bottom triangle diagonal square",
    "G": "grid diagonal square blue",
    "H": "corner top cross blue",
    "I": "yellow cross square red blue",
    "J": "dots blue left top cross",
}
CLASSES = {name: tuple(parts.split()) for name, parts in CLASSES.items()}
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
_COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 80, 230)}
_COLOURS |= {"magenta": (210, 50, 200), "yellow": (220, 210, 40)}
_PLACES = {"top": (0, 14), "bottom": (28, 14), "left": (14, 0), "right": (14, 28), "corner": (0, 0)}
KINDS = {name: "shape" if k < 5 else "texture" for k, name in enumerate(_GREYS)}
KINDS |= dict.fromkeys(_COLOURS, "colour") | dict.fromkeys(_PLACES, "position")
PARTS = tuple(KINDS)
OWNS = np.array([[part in own for part in PARTS] for own in CLASSES.values()])  # (K, P)


def true_overlap() -> Float[np.ndarray, "K K"]:
    """The overlap that is there: Jaccard index of the classes' part sets."""
    shared = OWNS.astype(int) @ OWNS.T.astype(int)
    sizes = OWNS.sum(1)
    return shared / (sizes[:, None] + sizes - shared)


def draw(shown: Bool[np.ndarray, "n P"], seed, extra: str | None = None) -> UInt8[np.ndarray, "n 32 32 3"]:
    """Images of parts, at places and in brightness of ``seed`` alone; ``extra``: a part that all of them show."""
    rng = np.random.default_rng(seed)
    out = rng.normal(40, 8, (len(shown), SIDE, SIDE, 3))
    for canvas, own in zip(out, shown, strict=True):
        cells, levels = iter(rng.permutation(9)), dict(zip(PARTS, rng.uniform(0.8, 1, len(PARTS)), strict=True))
        for name in [*np.array(PARTS)[own], *([extra] if extra else [])]:
            if name in _PLACES:
                top, left = _PLACES[name]
                canvas[top : top + 4, left : left + 4] = 230 * levels[name]
                continue
            top, left = 4 + CELL * np.array(divmod(next(cells), 3))
            cell = canvas[top : top + CELL, left : left + CELL]
            if name in _COLOURS:
                cell[1:-1, 1:-1] = np.multiply(_COLOURS[name], levels[name])
            else:
                cell[_GREYS[name]] = 230 * levels[name]
    return out.clip(0, 255).astype("uint8")


@dataclass(frozen=True)
class PartImages:
    """Images of the ten classes, and which parts each shows."""

    images: Images
    shown: Bool[Tensor, "N P"]


def make(seed: int, train: int = 3000, test: int = 2000) -> PartImages:
    """The data set, equally many images of each class; the same seed gives the same bits."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(count) % len(OWNS) for count in (train, test)])
    shown = OWNS[y] & (rng.random((train + test, len(PARTS))) < SHOW)
    x = draw(shown, seed)
    parts = ((x[at], y[at]) for at in (slice(train), slice(train, None)))
    return PartImages(pool("parts", *parts, tuple(CLASSES)), torch.from_numpy(shown))


@lru_cache(maxsize=64)  # the same for every model that is asked
def _without_and_with(part, classes, count):
    rng = np.random.default_rng([0, PARTS.index(part)])
    shown = OWNS[rng.choice(classes, count)] & (rng.random((count, len(PARTS))) < SHOW)
    shown[:, PARTS.index(part)] = False
    return draw(shown, 0), draw(shown, 0, part)


@torch.no_grad()
def reactions(
    model: nn.Module, images: Images, part: str, classes, count: int = 200, layer: str | None = None
) -> tuple[Float[np.ndarray, "count d"], Float[np.ndarray, "count d"]]:
    """What a part does to a model in eval mode: (change of every unit where it is drawn into an image, features without
    it), for ``count`` images, normalised as ``images``, with random other parts of the ``classes``."""

    def look(x):
        x = images.normalised(torch.from_numpy(x).permute(0, 3, 1, 2).to(images.x.device))
        return features(model, x, layer)[1].double().cpu().numpy()

    plain, with_part = map(look, _without_and_with(part, tuple(classes), count))
    return with_part - plain, plain


def owners(part: str) -> Int[np.ndarray, " owners"]:
    """Indices of the classes that have a part."""
    return np.flatnonzero(OWNS[:, PARTS.index(part)])
