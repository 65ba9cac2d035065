r"""What is forgotten, what is retained, what is held out: index tensors into `megu.datasets.images.Images`."""

import hashlib
from dataclasses import dataclass, fields

import torch

from megu.core.device import generator
from megu.settings.errors import SettingsError


@dataclass(frozen=True)
class Split:
    r"""Disjoint parts of the pool, each an ``(n,)`` int64 index tensor on the images' device.

    The validation images are carved from the training images once per data set and stay out of every training; all
    choices use them.  ``*_forget`` parts hold images of the forgotten (sub-)classes and are empty for random
    forgetting, where nothing but the forget images themselves is to be forgotten.
    """

    forget: torch.Tensor
    retain: torch.Tensor
    val_forget: torch.Tensor
    val_retain: torch.Tensor
    test_forget: torch.Tensor
    test_retain: torch.Tensor

    @property
    def train(self):
        """D = retain and forget images together, in the pool's order."""
        return torch.cat([self.retain, self.forget]).sort().values

    def digest(self):
        """Twelve hex digits over all six parts, for the manifest."""
        digest = hashlib.sha256()
        for part in fields(self):
            digest.update(part.name.encode() + getattr(self, part.name).cpu().numpy().tobytes())
        return digest.hexdigest()[:12]


def validation_indices(images, fraction):
    r"""The validation images: ``fraction`` of each class of the training images, drawn once per data set.

    Returns: ``(n,)`` int64, sorted.  The draw depends on the data alone, not on the run's seed.
    """
    gen = generator(0, images.name, "validation")
    fine = images.fine[: images.num_train].cpu()
    chosen = []
    for k in range(len(images.fine_classes)):
        members = torch.nonzero(fine == k).flatten()
        chosen.append(members[torch.randperm(len(members), generator=gen)[: round(fraction * len(members))]])
    return torch.cat(chosen).sort().values.to(images.x.device)


def masks(images, fraction):
    r"""Which images of the pool are for training, for validation and for tests: three ``(N,)`` bool, disjoint,
    complete."""
    is_train = torch.arange(len(images.y), device=images.y.device) < images.num_train
    is_val = torch.zeros_like(is_train)
    is_val[validation_indices(images, fraction)] = True
    return is_train & ~is_val, is_val, ~is_train


def make_split(images, settings):
    r"""The `Split` of a forgetting request.

    Args:
        images: `megu.datasets.images.Images`.
        settings: `megu.settings.config.Settings`; ``forget`` says what goes, ``data.validation`` how much is held out.
    Raises: SettingsError where nothing would be forgotten or retained.
    """
    device, forget = images.x.device, settings.forget
    train, is_val, test = masks(images, settings.data.validation)

    if forget.scenario == "random":
        members = torch.nonzero(train).flatten()
        if forget.count >= len(members):
            raise SettingsError(
                f"forget.count is {forget.count}, but there are {len(members)} training images: forget fewer"
            )
        chosen = torch.randperm(len(members), generator=generator(0, images.name, "forget"))[: forget.count].to(device)
        goes = torch.zeros_like(train)
        goes[members[chosen]] = True
    else:
        names = images.classes if forget.scenario == "class" else images.fine_classes
        labels = images.y if forget.scenario == "class" else images.fine
        goes = torch.isin(labels, torch.tensor([names.index(name) for name in forget.classes], device=device))

    def part(mask):
        return torch.nonzero(mask).flatten()

    split = Split(
        part(train & goes),
        part(train & ~goes),
        part(is_val & goes),
        part(is_val & ~goes),
        part(test & goes),
        part(test & ~goes),
    )
    if not len(split.forget) or not len(split.retain):
        raise SettingsError(
            f"{len(split.forget)} images to forget and {len(split.retain)} to retain: both must be there"
        )
    return split


def forgotten_classes(images, split, settings):
    r"""Indices of the classifier's classes that disappear altogether (class-wise forgetting), else an empty tuple."""
    if settings.forget.scenario != "class":
        return ()
    return tuple(sorted(images.y[split.forget].unique().tolist()))
