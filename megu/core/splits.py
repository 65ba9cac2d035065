r"""What is forgotten, what is retained, what is held out: index tensors into `megu.datasets.images.Images`."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from megu.core.device import generator
from megu.core.tensors import hash_tensors
from megu.settings.errors import SettingsError


@dataclass(frozen=True)
class Split:
    r"""Disjoint parts of the pool, each an index on the images' device.

    The validation images are carved from the training images once per data set and stay out of every training; all
    choices use them.  ``*_forget`` parts hold images of the forgotten (sub-)classes and are empty for random
    forgetting, where nothing but the forget images themselves is to be forgotten.
    """

    forget: Int[Tensor, " _"]
    retain: Int[Tensor, " _"]
    val_forget: Int[Tensor, " _"]
    val_retain: Int[Tensor, " _"]
    test_forget: Int[Tensor, " _"]
    test_retain: Int[Tensor, " _"]

    @property
    def train(self) -> Int[Tensor, " _"]:
        """D = retain and forget images together, in the pool's order."""
        return torch.cat([self.retain, self.forget]).sort().values

    def digest(self):
        """Twelve hex digits over all six parts, for the manifest."""
        return hash_tensors({part.name: getattr(self, part.name) for part in fields(self)})[:12]


def validation_indices(images, fraction: float) -> Int[Tensor, " n"]:
    r"""The validation images: ``fraction`` of each class of the training images, drawn once per data set.

    Returns: sorted.  The draw depends on the data alone, not on the run's seed.
    """
    gen = generator(0, images.name, "validation")
    fine = images.fine[: images.num_train].cpu()
    chosen = []
    for k in range(len(images.fine_classes)):
        members = torch.nonzero(fine == k).flatten()
        chosen.append(members[torch.randperm(len(members), generator=gen)[: round(fraction * len(members))]])
    return torch.cat(chosen).sort().values.to(images.x.device)


def masks(images, fraction: float) -> tuple[Bool[Tensor, " N"], ...]:
    r"""Which images of the pool are for training, for validation and for tests: disjoint,
    complete."""
    is_train = torch.arange(len(images.y), device=images.y.device) < images.num_train
    is_val = torch.zeros_like(is_train)
    is_val[validation_indices(images, fraction)] = True
    return is_train & ~is_val, is_val, ~is_train


def split_of(images, goes: Bool[Tensor, " N"], validation=0.0) -> Split:
    r"""The split of a pool in which the images ``goes`` are to be forgotten.

    Args:
        images: `megu.datasets.images.Images`.
        goes: which images of the pool; of test and validation images those that are no longer to be named right.
        validation: share of each class of the training images that is held out.
    Raises: SettingsError where nothing would be forgotten or retained.
    """
    train, held_out, test = masks(images, validation)
    parts = (mask & which for mask in (train, held_out, test) for which in (goes, ~goes))
    split = Split(*(torch.nonzero(part).flatten() for part in parts))
    if not len(split.forget) or not len(split.retain):
        raise SettingsError(
            f"{len(split.forget)} of {len(split.train)} training images would be forgotten and {len(split.retain)}"
            " retained: both must be there"
        )
    return split


def of_classes(images, scenario, names) -> Bool[Tensor, " N"]:
    r"""Which images are of these classes (``scenario`` class) or sub-classes (subclass)."""
    known, labels = (images.classes, images.y) if scenario == "class" else (images.fine_classes, images.fine)
    return torch.isin(labels, torch.tensor([known.index(name) for name in names], device=labels.device))


def make_split(images, settings) -> Split:
    r"""The `Split` of a forgetting request.

    Args:
        images: `megu.datasets.images.Images`.
        settings: `megu.settings.config.Settings`; ``forget`` says what goes, ``data.validation`` how much is held out.
    Raises: SettingsError where nothing would be forgotten or retained.
    """
    forget, validation = settings.forget, settings.data.validation
    if forget.scenario != "random":
        return split_of(images, of_classes(images, forget.scenario, forget.classes), validation)
    train = masks(images, validation)[0]
    members = torch.nonzero(train).flatten()
    if forget.count >= len(members):
        raise SettingsError(
            f"forget.count is {forget.count}, but there are {len(members)} training images: forget fewer"
        )
    chosen = torch.randperm(len(members), generator=generator(0, images.name, "forget"))[: forget.count]
    goes = torch.zeros_like(train)
    goes[members[chosen.to(train.device)]] = True
    return split_of(images, goes, validation)


def forgotten_classes(images, split: Split, settings) -> tuple[int, ...]:
    r"""Indices of the classifier's classes that disappear altogether (class-wise forgetting), else an empty tuple."""
    if settings.forget.scenario != "class":
        return ()
    return tuple(sorted(images.y[split.forget].unique().tolist()))
