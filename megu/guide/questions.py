"""What a guide is asked: exemplars of every class, each with every label."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from megu.core.device import generator
from megu.datasets.images import Images
from megu.settings.errors import SettingsError
from megu.settings.files import hash_bytes
from megu.settings.values import closest

Pixels, PixelBatch = UInt8[np.ndarray, "C H W"], UInt8[np.ndarray, "n C H W"]
Index = Int64[Tensor, " _"]  # positions in the images of a data set
Shots = tuple[tuple[Pixels, bool], ...]


def _image_hash(image):
    return hash_bytes(str(image.shape), image.tobytes())[:16]


@dataclass(frozen=True, eq=False)
class Question:
    """Does this image show a photo of ``label``?  ``shots``: worked examples (image, whether it shows ``label``);
    ``data``: name of the data set."""

    image: Pixels
    label: str
    shots: Shots = ()
    data: str = ""

    @cached_property
    def image_hash(self) -> str:
        """Sixteen hex digits over shape and pixels."""
        return _image_hash(self.image)

    @cached_property
    def shots_hash(self) -> list[tuple[str, bool]]:
        """Pairs (hash of the image, True or False)."""
        return [(_image_hash(image), holds) for image, holds in self.shots]

    def key(self, guide) -> str:
        """Sixteen hex digits over guide, version, image, label and shots."""
        about = [guide.name, guide.version, self.image_hash, self.label, self.shots_hash]
        return hash_bytes(json.dumps(about))[:16]


def codes(classes):
    """A name without words where the classes have such, as numbers (``7``), WordNet's (``n01440764``) or all with the
    same word (``class 3``); else None."""
    letters = {name: re.sub(r"[\W\d_]+", "", name).casefold() for name in classes}
    bare = [name for name, word in letters.items() if not word]
    coded = [name for name, word in letters.items() if len(word) < 3 and any(map(str.isdigit, name))]
    if bare or len(coded) == len(letters) or len({*letters.values()}) == 1:
        return next(iter(bare or letters))
    return None


def draw_exemplars(images: Images, allowed: Index, count: int, seed: int = 0) -> Index:
    """``count`` exemplars of each class (fewer where it is smaller) among ``allowed``, class by class (A1).  Raises:
    SettingsError where a class has none."""
    allowed, gen = allowed.cpu(), generator(seed, images.name, "exemplars", *images.classes)
    y = images.y.cpu()[allowed]
    members = [allowed[y == k] for k in range(images.num_classes)]
    for name, some in zip(images.classes, members, strict=True):
        if not len(some):
            raise SettingsError(f"class {name!r} has no image that could be an exemplar: add training images of it")
    return torch.cat([some[torch.randperm(len(some), generator=gen)[:count]] for some in members])


def draw_shots(images: Images, allowed: Index, count: int, seed: int = 0) -> dict[str, Shots]:
    """Two worked examples for every label: an image of it (True) and one of some other class (False), which come next
    in the same `draw_exemplars`: none is an exemplar, unless a class has no more images.
    Source: arXiv 2602.17088 section 4.1."""
    drawn, k = draw_exemplars(images, allowed, count + 1, seed), images.num_classes
    last = [drawn[images.y.cpu()[drawn] == label][-1].item() for label in range(k)]
    example = images.x[last].cpu().numpy()
    other = (torch.arange(k) + torch.randint(1, k, (k,), generator=generator(seed, "shots"))) % k
    return {label: ((example[at], True), (example[other[at]], False)) for at, label in enumerate(images.classes)}


def only_classes(images: Images, names) -> Images:
    """The pool with these classes alone; images of others belong to none (-1).  Raises: SettingsError for fewer than
    two names, or an unknown one."""
    names = tuple(dict.fromkeys(names))
    if len(names) < 2:
        raise SettingsError(f"--classes names {len(names)} class: give at least two")
    for name in names:
        if name not in images.classes:
            raise SettingsError(closest(name, images.classes, f"--classes: in {images.name} the class"))
    place = [names.index(name) if name in names else -1 for name in images.classes]
    return replace(images, y=torch.tensor(place, device=images.y.device)[images.y], classes=names)


def questions_for(images: Images, exemplars: Index, shots: dict[str, Shots] | None = None) -> Iterator[Question]:
    """Every exemplar with every candidate label, exemplar by exemplar; ``shots`` of `draw_shots`."""
    for image in images.x[exemplars.to(images.x.device)].cpu().numpy():
        for label in images.classes:
            yield Question(image, label, shots[label] if shots else (), images.name)
