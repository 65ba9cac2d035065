r"""Stand-ins for absent data and long trainings."""

import numpy as np
import torch

from megu.core.splits import Split
from megu.datasets.identity import CIFAR, counts
from megu.datasets.images import Images, by_superclass, pool
from megu.settings.class_names import known_names
from megu.settings.config import Noise, Part, Recipe, Settings
from megu.settings.errors import SettingsError


def stand_in(settings: Settings, where: str | torch.device = "cpu", side: int = 2) -> Images:
    r"""Random images of ``side`` pixels with a CIFAR's number, labels and names.

    Raises: SettingsError for other data.
    """
    name = settings.data.name
    if name not in CIFAR:
        raise SettingsError(f"the numbers of data {name!r} are not known: set data.path or take {', '.join(CIFAR)}")
    names, coarse = known_names(name)
    images = balanced(name, counts(name), names, where, side)
    return by_superclass(images, coarse) if settings.label_level == "superclass" else images


def balanced(name: str, sizes: tuple[int, int], names: tuple[str, ...], where="cpu", side: int = 2) -> Images:
    """Random images, ``sizes``: (training, test), of classes in turn."""
    rng = np.random.default_rng(0)
    parts = [(rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8), np.arange(n) % len(names)) for n in sizes]
    return pool(name, *parts, names, where)


def shortened(part: Part, most: int) -> Part:
    r"""A method's settings for one epoch, one step of noise, and at most ``most`` images at a time."""
    small = {"epochs": 1, "steps": 1, "copies": 1}
    small |= {name: min(most, getattr(part, name, most)) for name in ("batch", "images", "noises")}
    inner = {name: shortened(value, most) for name, value in part if isinstance(value, Recipe | Noise)}
    return part.model_copy(update={name: small[name] for name in small if name in type(part).model_fields} | inner)


def few_of(split: Split, batch: int) -> Split:
    r"""One batch of forget and retain images together, and half as many of each other part."""
    half = batch // 2
    return Split(**{part: index[: batch - half if part == "retain" else half] for part, index in vars(split).items()})
