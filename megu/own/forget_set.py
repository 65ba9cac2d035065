r"""What is to be forgotten: names of classes or sub-classes, or single images, turned into a split."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from megu.core.splits import Split, of_classes, split_of
from megu.datasets.folder import class_name
from megu.settings.errors import SettingsError
from megu.settings.files import hash_bytes
from megu.settings.values import closest

_LARGEST = 50_000_000  # bytes of a file of positions


@dataclass(frozen=True)
class ForgetSet:
    r"""What is to be forgotten.

    Attributes:
        scenario: ``class``, ``subclass`` or ``random`` (single images).
        names: of the classes or sub-classes; empty for single images.
        split: without validation images.
        digest: SHA-256 over the sorted names or positions of the forget images, one a line.
    """

    scenario: str
    names: tuple[str, ...]
    split: Split
    digest: str


def forget_set(forget, images, ids) -> ForgetSet:
    r"""The images that ``forget`` means.

    Args:
        forget: a name or list of names of classes, or of sub-classes; or integers, positions of training images; or a
            `pathlib.Path` of a text file with one position, or one of ``ids``, a line.
        images: `megu.datasets.images.Images`.
        ids: what each training image is called.
    Raises: SettingsError where a name or position does not exist, or nothing would be forgotten or retained.
    """
    if isinstance(forget, Path):
        forget = read_positions(forget, ids)
    if isinstance(forget, str):
        forget = [forget]
    if isinstance(forget, np.ndarray | Tensor):
        forget = forget.tolist()
    if not isinstance(forget, list | tuple | range) or not len(forget):
        raise SettingsError(
            f"forget is {str(forget)[:50]!r}: give names of classes, positions of images, or a pathlib.Path of a file"
            " of positions"
        )
    scenario, names = "random", ()
    if all(isinstance(one, str) for one in forget):
        scenario, names = check_names(forget, images)
    goes = of_classes(images, scenario, names) if names else at_positions(forget, images)
    split = split_of(images, goes)
    lines = "\n".join(sorted(ids[i] for i in split.forget.tolist()))
    return ForgetSet(scenario, names, split, hash_bytes(lines))


def check_names(names, images):
    r"""(scenario, names) of names of classes, or of sub-classes."""
    names = tuple(dict.fromkeys(class_name(name) for name in names))
    for name in names:
        if name not in images.classes + images.fine_classes:
            known = tuple(dict.fromkeys(images.classes + images.fine_classes))
            raise SettingsError(closest(name, known, f"forget: in {images.name!r} the class"))
    of_class = [name in images.classes for name in names]
    if any(of_class) and not all(of_class):
        raise SettingsError(
            f"forget names classes and sub-classes ({', '.join(names)}): make two requests, one kind at a time"
        )
    known = images.classes if of_class[0] else images.fine_classes
    if len(names) == len(known):
        raise SettingsError(f"forget names all {len(known)} classes: keep at least one")
    return "class" if of_class[0] else "subclass", names


def at_positions(positions, images) -> Bool[Tensor, " N"]:
    r"""Which images are at these positions of training images."""
    last, goes = images.num_train - 1, torch.zeros(len(images.y), dtype=torch.bool)
    for one in positions:
        if isinstance(one, bool) or not isinstance(one, int | np.integer):
            raise SettingsError(
                f"forget has {str(one)[:50]!r} among positions: give integers from 0 to {last} only, or names only"
            )
        if not 0 <= one <= last:
            raise SettingsError(
                f"forget has position {one}, but the training images are 0 to {last}: give positions among these"
            )
        if goes[one]:
            raise SettingsError(f"forget has position {one} twice: list every image once")
        goes[one] = True
    return goes.to(images.y.device)


def read_positions(path, ids):
    r"""Positions from a text file: one integer, or one of ``ids``, a line; empty lines and lines that begin with # are
    skipped.

    Raises: SettingsError naming file and line.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise SettingsError(
                f"{path.name} has {path.stat().st_size} bytes: a file of positions has one number or file name a line"
            )
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SettingsError(f"{path.name} cannot be read ({why}): give a text file") from None
    position, out = {name: i for i, name in enumerate(ids)}, []
    for number, line in enumerate(lines, 1):
        if line in position:
            out.append(position[line])
        elif re.fullmatch(r"[+-]?[0-9]{1,18}", line):
            out.append(int(line))
        elif line and not line.startswith("#"):
            raise SettingsError(
                f"line {number} of {path.name} is {line[:50]!r}: give a position from 0 to {len(ids) - 1}, or the name"
                " of a training image"
            )
    if not out:
        raise SettingsError(f"{path.name} lists no image: give one position or file name a line")
    return out
