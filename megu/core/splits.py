r"""What is forgotten, retained and held out of `megu.datasets.images.Images`."""

import logging
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from megu.core.device import generator
from megu.settings.errors import SettingsError
from megu.settings.files import hash_bytes

Index = Int[Tensor, " _"]


@dataclass(frozen=True)
class Split:
    r"""Disjoint parts of the pool, on the images' device.

    Validation images are for choices alone.  ``val_forget`` and ``test_forget`` of random images are empty.
    """

    forget: Index
    retain: Index
    val_forget: Index
    val_retain: Index
    test_forget: Index
    test_retain: Index

    @property
    def train(self) -> Index:
        """D = retain and forget images together, in the pool's order."""
        return torch.cat([self.retain, self.forget]).sort().values

    def digest(self):
        """Twelve hex digits over names and values of the parts."""
        return hash_bytes(*(x for name, part in vars(self).items() for x in (name, part.cpu().numpy().tobytes())))[:12]


def validation_indices(images, fraction: float) -> Int[Tensor, " n"]:
    r"""Validation images, sorted: ``fraction`` of each class of the training images, the same for every seed."""
    gen = generator(0, images.name, "validation")
    fine = images.fine[: images.num_train].cpu()
    chosen = []
    for k in range(len(images.fine_classes)):
        members = torch.nonzero(fine == k).flatten()
        chosen.append(members[torch.randperm(len(members), generator=gen)[: round(fraction * len(members))]])
    return torch.cat(chosen).sort().values.to(images.x.device)


def masks(images, fraction: float) -> tuple[Bool[Tensor, " N"], ...]:
    r"""Which images of the pool are for training, validation and tests."""
    is_train = torch.arange(len(images.y), device=images.y.device) < images.num_train
    is_val = torch.zeros_like(is_train)
    is_val[validation_indices(images, fraction)] = True
    return is_train & ~is_val, is_val, ~is_train


def split_of(images, goes: Bool[Tensor, " N"], validation=0.0) -> Split:
    r"""The split in which the images ``goes`` are forgotten, or no longer named right where they were held out.

    Raises: SettingsError where nothing would be forgotten or retained.
    """
    parts = (mask & which for mask in masks(images, validation) for which in (goes, ~goes))
    split = Split(*(torch.nonzero(part).flatten() for part in parts))
    gone, kept = len(split.forget), len(split.retain)
    if not gone or not kept:
        raise SettingsError(f"{gone} training images would be forgotten, {kept} retained: choose some of each")
    return split


def of_classes(images, scenario, names) -> Bool[Tensor, " N"]:
    r"""Which images are of these classes, or sub-classes where that is the ``scenario``."""
    known, labels = (images.classes, images.y) if scenario == "class" else (images.fine_classes, images.fine)
    return torch.isin(labels, torch.tensor([known.index(name) for name in names], device=labels.device))


def known_unseen(images, split: Split) -> Split:
    r"""A split of sub-classes without the test images that may be of what goes: those that name no sub-class of the
    training images, of classes of which one goes.  It is said how many these are."""
    known, test = {name: k for k, name in enumerate(images.fine_classes)}, split.test_retain
    own = torch.tensor([known.get(name, -1) for name in images.classes], device=test.device)
    strange, named = ~torch.isin(images.fine, images.fine[: images.num_train]), images.fine != own[images.y]
    if not named[images.num_train :].any():  # no test image names one, whatever training images do
        strange = ~named
    open_ = strange[test] & torch.isin(images.y[test], images.y[split.forget])
    if count := int(open_.sum()):
        told = "%d test images of classes of which a sub-class goes name none of training images: they are not measured"
        logging.getLogger("megu").warning(told, count)
    return replace(split, test_retain=test[~open_])


def make_split(images, settings) -> Split:
    r"""The `split_of` ``settings.forget``."""
    forget, validation = settings.forget, settings.data.validation
    if forget.scenario != "random":
        return split_of(images, of_classes(images, forget.scenario, forget.classes), validation)
    train = masks(images, validation)[0]
    members = torch.nonzero(train).flatten()
    if forget.count >= len(members):
        raise SettingsError(f"forget.count is {forget.count} of {len(members)} training images: forget fewer")
    chosen = torch.randperm(len(members), generator=generator(0, images.name, "forget"))[: forget.count]
    goes = torch.zeros_like(train).index_fill_(0, members[chosen.to(train.device)], True)
    return split_of(images, goes, validation)


def forgotten_classes(images, split: Split, settings) -> tuple[int, ...]:
    r"""Classes that disappear altogether: in class-wise forgetting."""
    return tuple(images.y[split.forget].unique().tolist()) if settings.forget.scenario == "class" else ()


def tenth(images, index: Index, most: int, seed: int) -> Index:
    r"""A tenth of an index at random, at most so many, sorted: of each class its share, and where that is below one
    image, one of some of these classes, as many as their shares make together; never all of a class.  Less than ten
    such images would say little, and none is taken."""
    share, chosen, rare, of_rare = min(0.1, most / max(1, len(index))), [index[:0]], [], 0
    for k in range(images.num_classes):
        members = index[images.y[index] == k]
        order = torch.randperm(len(members), generator=generator(seed, "held out", str(k))).to(members.device)
        if count := int(share * len(members)):
            chosen.append(members[order[:count]])
        else:
            rare += [members[order[:1]]] * (len(members) > 1)
            of_rare += len(members)
    if (count := int(share * of_rare)) >= 10:
        order = torch.randperm(len(rare), generator=generator(seed, "held out"))[:count]
        chosen += [rare[i] for i in order.tolist()]
    return torch.cat(chosen).sort().values


def some(index: Index, most: int = 500) -> Index:
    r"""At most so many of an index, at random: where labels repeat with a period, every k-th may be of one class."""
    return index[torch.randperm(len(index), generator=generator(0, "accuracy"))[:most].to(index.device)]
