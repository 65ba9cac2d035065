r"""A deletion request: names of classes or sub-classes, or positions of single images, turned into a split."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from megu.core.splits import Split
from megu.datasets.folder import plain
from megu.settings.errors import SettingsError
from megu.settings.values import closest

_LARGEST = 50_000_000  # bytes of a file of positions


@dataclass(frozen=True)
class Request:
    r"""What is to be forgotten.

    Attributes:
        scenario: ``class``, ``subclass`` or ``random`` (single images).
        names: of the classes or sub-classes; empty for single images.
        split: `megu.core.splits.Split` without validation images.
        digest: SHA-256 over the sorted names or positions of the forget images, one a line.
    """

    scenario: str
    names: tuple[str, ...]
    split: Split
    digest: str


def request(forget, images, ids):
    r"""The `Request` that ``forget`` means.

    Args:
        forget: a name or list of names of classes, or of sub-classes; or integers, positions of training images; or a
            `pathlib.Path` of a text file with one position, or one of ``ids``, a line.
        images: `megu.datasets.images.Images`.
        ids: what each training image is called.
    Raises: SettingsError where a name or position does not exist, or nothing would be forgotten or kept.
    """
    if isinstance(forget, Path):
        forget = read_positions(forget, ids)
    if isinstance(forget, str):
        forget = [forget]
    if isinstance(forget, np.ndarray | torch.Tensor):
        forget = forget.tolist()
    if not isinstance(forget, list | tuple | range) or not len(forget):
        raise SettingsError(
            f"forget is {str(forget)[:50]!r}: give names of classes, positions of images, or a pathlib.Path of a file"
            " of positions"
        )
    if all(isinstance(one, str) for one in forget):
        scenario, names, goes = named(forget, images)
    else:
        scenario, names, goes = "random", (), placed(forget, images)
    train = torch.arange(len(images.y), device=images.y.device) < images.num_train
    empty = torch.empty(0, dtype=torch.int64, device=images.y.device)

    def part(mask):
        return torch.nonzero(mask).flatten()

    split = Split(part(train & goes), part(train & ~goes), empty, empty, part(~train & goes), part(~train & ~goes))
    if not len(split.forget) or not len(split.retain):
        raise SettingsError(
            f"{len(split.forget)} of {images.num_train} training images would be forgotten and {len(split.retain)}"
            " kept: both must be there"
        )
    listed = "\n".join(sorted(ids[i] for i in split.forget.tolist()))
    return Request(scenario, names, split, hashlib.sha256(listed.encode()).hexdigest())


def named(names, images):
    r"""(scenario, names, ``(N,)`` bool: which images) of names of classes, or of sub-classes."""
    names = tuple(dict.fromkeys(plain(name) for name in names))
    of_class = [name in images.classes for name in names]
    for name, known in zip(names, of_class, strict=True):
        if not known and name not in images.fine_classes:
            several = tuple(dict.fromkeys(images.classes + images.fine_classes))
            raise SettingsError(closest(name, several, f"forget: in {images.name!r} the class"))
    if any(of_class) and not all(of_class):
        raise SettingsError(
            f"forget names classes and sub-classes ({', '.join(names)}): make two requests, one kind at a time"
        )
    known, labels = (images.classes, images.y) if of_class[0] else (images.fine_classes, images.fine)
    if len(names) == len(known):
        raise SettingsError(f"forget names all {len(known)} classes: keep at least one")
    goes = torch.isin(labels, torch.tensor([known.index(name) for name in names], device=labels.device))
    return "class" if of_class[0] else "subclass", names, goes


def placed(positions, images):
    r"""``(N,)`` bool: which images, of positions of training images."""
    last, seen = images.num_train - 1, set()
    for one in positions:
        if isinstance(one, bool) or not isinstance(one, int | np.integer):
            raise SettingsError(
                f"forget has {str(one)[:50]!r} among positions: give integers from 0 to {last} only, or names only"
            )
        if not 0 <= one <= last:
            raise SettingsError(
                f"forget has position {one}, but the training images are 0 to {last}: give positions among these"
            )
        if one in seen:
            raise SettingsError(f"forget has position {one} twice: list every image once")
        seen.add(int(one))
    goes = torch.zeros(len(images.y), dtype=torch.bool, device=images.y.device)
    goes[sorted(seen)] = True
    return goes


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
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path.name} cannot be read ({getattr(error, 'strerror', None) or 'it is not UTF-8 text'}): give a text"
            " file"
        ) from None
    where, out = {name: i for i, name in enumerate(ids)}, []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text in where:
            out.append(where[text])
        elif re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            out.append(int(text))
        else:
            raise SettingsError(
                f"line {number} of {path.name} is {text[:50]!r}: give a position from 0 to {len(ids) - 1}, or the name"
                " of a training image"
            )
    if not out:
        raise SettingsError(f"{path.name} lists no image: give one position or file name a line")
    return out
