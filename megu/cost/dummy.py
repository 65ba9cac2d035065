r"""What stands in for data that are not here and for long trainings: the same shapes, a short time."""

from dataclasses import fields

import numpy as np
import torch

import megu
from megu.core.device import generator
from megu.core.loading import weights_digest
from megu.core.splits import Split
from megu.datasets.identity import CIFAR, counts
from megu.datasets.images import by_superclass, pool
from megu.measure.metrics import Seen
from megu.own.checkpoint import STEMS, About
from megu.settings.class_names import known_names
from megu.settings.config import Noise, Recipe
from megu.settings.errors import SettingsError

SIDE = 32  # pixels


def stand_in(settings, where="cpu"):
    r"""Random images with the number, size, labels and names of a data set that is not here:
    `megu.datasets.images.Images`.

    Raises: SettingsError where the data set's numbers are not known.
    """
    name = settings.data.name
    if name not in CIFAR:
        raise SettingsError(
            f"the numbers of data {name!r} are not known: set data.path, or take one of {', '.join(CIFAR)}"
        )
    names, coarse = known_names("cifar10" if name == "cifar10" else "cifar100")
    rng = np.random.default_rng(0)
    parts = [
        (rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8), np.arange(count) % len(names))
        for count in counts(name)
    ]
    images = pool(name, *parts, names, where)
    return by_superclass(images, coarse) if settings.label_level == "superclass" else images


def shortened(part, most):
    r"""A method's settings for one step: recipes of one epoch, one step of noise, at most ``most`` images or noises at
    a time."""
    small = {"epochs": 1, "steps": 1, "copies": 1} | {
        name: min(most, getattr(part, name, most)) for name in ("batch", "images", "noises")
    }
    changes = {name: small[name] for name in small if name in type(part).model_fields}
    inner = {name: shortened(value, most) for name, value in part if isinstance(value, Recipe | Noise)}
    return part.model_copy(update={**changes, **inner})


def few_of(split, batch):
    r"""A `megu.core.splits.Split` with one batch of forget and retain images together, and half as many of each other
    part."""
    half = batch // 2
    most = {"forget": half, "retain": batch - half}
    return Split(**{part.name: getattr(split, part.name)[: most.get(part.name, half)] for part in fields(Split)})


def dreamt(split, num_classes, width, seed):
    r"""A `megu.measure.metrics.Seen` of random logits ``(n, K)`` and features ``(n, width)`` for every part of a
    split."""
    gen = generator(seed, "dreamt")
    return Seen(
        *(
            {
                part: torch.randn(len(index), columns, generator=gen).to(index.device)
                for part, index in vars(split).items()
            }
            for columns in (num_classes, width)
        )
    )


def about_it(settings, images, split, model):
    r"""The `megu.own.checkpoint.About` of an original, without the hash of its images."""
    counts = {"train": images.num_train, "test": len(images.y) - images.num_train}
    return About(
        arch=settings.arch,
        stem=STEMS[settings.arch],
        classes=images.classes,
        shape=images.shape,
        mean=images.mean.tolist(),
        std=images.std.tolist(),
        method="original",
        seed=settings.seed,
        forget=None,
        split=split.digest(),
        data=images.name,
        weights=weights_digest(model),
        code="rehearsal",
        images={part: {"images": count, "content": "rehearsal"} for part, count in counts.items()},
        megu=megu.__version__,
    )
