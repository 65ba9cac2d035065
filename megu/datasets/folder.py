r"""Folders of images, one folder for each class: found, brought to one size and read."""

import unicodedata
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from torch import Tensor

from megu.datasets.images import different
from megu.datasets.npz import fits_memory
from megu.settings.errors import SettingsError
from megu.settings.progress import Bar
from megu.settings.values import closest

SUFFIXES = set(Image.registered_extensions())


class ImagePart(NamedTuple):
    r"""Images: uint8, or float as the network sees them; classes, sub-classes, ids (files below the folder, or
    positions in a Dataset); how many files were no images."""

    x: UInt8[Tensor, "n C H W"] | Float32[Tensor, "n C H W"]
    y: Int64[Tensor, " n"]
    sub: tuple[str, ...] | None
    ids: tuple[str, ...]
    skipped: int = 0


class ClassFolders(NamedTuple):
    r"""Classes, folders with one for each, (height, width): as chosen, else that of all training images, else 224."""

    classes: tuple[str, ...]
    train: Path
    test: Path | None
    size: tuple[int, int]

    def read(self, folder, mode="RGB") -> ImagePart:
        r"""The images of ``folder/<class>/...`` or ``<class>/<sub-class>/...``; ``mode``: see `read_image`.  Raises:
        SettingsError for no image, one that cannot be read, or a class that is not known."""
        found, skipped = list_images(folder, self.classes)
        if not found:
            raise SettingsError(f"{folder.name!r} holds no images: put them into one folder per class")
        files, y, subs = zip(*found, strict=True)
        shape = height, width, channels = *self.size, len(mode)
        fits_memory(len(files) * height * width * channels, "set a smaller size, or give fewer images")
        x = torch.empty(len(files), channels, height, width, dtype=torch.uint8)
        for i, file in enumerate(Bar(files, desc=f"images of {folder.name}", unit="image")):
            pixels = torch.from_numpy(read_image(file, self.size, mode).copy())
            x[i] = pixels.view(shape).permute(2, 0, 1)
        names = (self.classes[k] for k in y)
        sub = tuple(f"{name}/{sub}" if sub else name for name, sub in zip(names, subs, strict=True))
        ids = tuple(file.relative_to(folder).as_posix() for file in files)
        return ImagePart(x, torch.tensor(y), sub if any(subs) else None, ids, skipped)


def find_classes(root, classes=None, size=None) -> ClassFolders:
    r"""The classes of ``root/<class>/...``, or of ``root/train/<class>/...`` beside ``root/test`` (or val).

    Args:
        classes: names in the order of the model's outputs; None: the sorted folders.
        size: of the images, size x size pixels, or None.
    Raises: SettingsError without such a folder, or where class folders and names do not agree.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise SettingsError(f"data {root.name!r} is no folder: give one with a folder of images per class")
    train = root / "train" if (root / "train").is_dir() else root
    beside = [root / name for name in ("test", "val", "validation")] if train != root else []
    there = class_names([path.name for path in _subfolders(train)], f"data {root.name!r}")
    names = there if classes is None else class_names(classes, "classes")
    if missing := [name for name in names if name not in there]:
        raise SettingsError(f"class {missing[0]!r} has no folder in {train.name!r}: give images of every class")
    files, _ = list_images(train, names)
    if empty := set(range(len(names))).difference(k for _, k, _ in files):
        raise SettingsError(f"{train.name}/{names[min(empty)]} holds no images: add some, or remove folder and class")
    size = (size, size) if size else _common_size(files) or (224, 224)
    return ClassFolders(names, train, next(filter(Path.is_dir, beside), None), size)


def _subfolders(folder):
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def class_name(name):
    r"""A name in composed Unicode, stripped.  Raises: SettingsError where it is empty, over 200 characters or not
    printable."""
    text = unicodedata.normalize("NFC", str(name)).strip()
    if not text or not text.isprintable() or len(text) > 200:
        wrong = "empty, over 200 characters or cannot be printed"
        raise SettingsError(f"class name {str(name)[:50]!r} is {wrong}: rename it")
    return text


def class_names(names, what):
    r"""Each `class_name`.  Raises: SettingsError for fewer than two, or the same twice."""
    names = different(map(class_name, names), what)
    if len(names) < 2:
        raise SettingsError(f"{what} has {len(names)} class folders or names {list(names)}: give at least two")
    return names


def list_images(folder, classes):
    r"""(file, class, sub-class or None) of every image, and the number of other files.  Raises: SettingsError for a
    class that is not known, or has two folders."""
    folders = _subfolders(folder)
    names = different([class_name(path.name) for path in folders], repr(folder.name))
    by_name = dict(zip(names, folders, strict=True))
    if unknown := [name for name in by_name if name not in classes]:
        raise SettingsError(closest(unknown[0], classes, f"{folder.name!r} has a class folder, but the class"))
    files, skipped = [], 0
    for k, name in enumerate(classes):
        for file in sorted(by_name[name].rglob("*")) if name in by_name else ():
            parts = file.relative_to(by_name[name]).parts
            if file.is_dir() or any(part.startswith(".") for part in parts):
                continue
            if file.suffix.lower() in SUFFIXES:
                files.append((file, k, class_name(parts[0]) if len(parts) > 1 else None))
            else:
                skipped += 1
    return files, skipped


def _common_size(files):
    sizes = set()
    for file, *_ in files:
        with suppress(Exception), Image.open(file) as image:  # `read_image` says what cannot be read
            sizes.add(image.size[::-1])
        if len(sizes) > 1:
            return None
    return sizes.pop() if sizes else None


def read_image(file, size=None, mode="RGB") -> UInt8[np.ndarray, "H W *C"]:
    r"""One image file, resized to (height, width) or not; ``mode``: ``RGB``, or ``L`` for grey.  16 bits keep their
    upper 8.  Raises: SettingsError for damage, a kind without 8-bit meaning, under 2 x 2 or over 89 million pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                if min(image.size) < 2 or image.mode in ("I", "F"):
                    raise ValueError(f"{image.width} x {image.height} pixels of mode {image.mode}")
                if image.mode.startswith("I;16"):
                    image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
                image = image.convert(mode)
                return np.asarray(image if size is None else image.resize(size[::-1], Image.Resampling.BILINEAR))
    except Exception as error:  # each format's reader fails in its own ways
        name = f"{file.parent.name}/{file.name}"
        raise SettingsError(f"{name} is not a readable image ({error}): remove or replace it") from None
