r"""Which image files there are, and of which class: below folders in torchvision's order."""

import json
import logging
import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from megu.settings.class_names import TRAIN, UNSEEN, different
from megu.settings.errors import SettingsError
from megu.settings.files import ordinary
from megu.settings.values import closest, shown

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")  # those of ImageFolder
_JOINED = re.compile("(?<=[^\0-\x7f])[\u200c\u200d](?=[^\0-\x7f])")


class Listing(NamedTuple):
    r"""(File, class, sub-class or None) of every image, whose names are relative to ``root``; files left out; hidden
    images; what others would count as well, in words, so that positions may mean other images."""

    root: Path
    files: list[tuple[Path, int, str | None]]
    skipped: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    uncounted: str = ""

    @property
    def ids(self) -> tuple[str, ...]:
        r"""What each image is called."""
        return tuple(Path(os.path.relpath(file, self.root)).as_posix() for file, *_ in self.files)


def class_name(name):
    r"""A name in composed Unicode, stripped.  Raises: SettingsError where it is empty, over 200 characters or not
    printable; joiners may stand where scripts (Persian, Hindi, ...) and emoji have them."""
    text = unicodedata.normalize("NFC", str(name)).strip()
    if not text or not _JOINED.sub("", text).isprintable() or len(text) > 200:
        wrong, remedy = "empty, over 200 characters or cannot be printed", "rename it"
        if any("\udc80" <= sign <= "\udcff" for sign in text):  # as Python stands in for bytes that it cannot read
            wrong, remedy = "no text by this system's encoding of names", "set LC_ALL=C.UTF-8, or rename it"
        raise SettingsError(f"class name {str(name)[:50]!r} is {wrong}: {remedy}")
    return text


def in_order(names, what):
    r"""Names in the order of their numbers, where they are a dictionary of both; else as they are.

    Raises: SettingsError for a set, and where the numbers are not 0 to K - 1.
    """
    if isinstance(names, set | frozenset):
        raise SettingsError(f"{what} is a set, which has no order: give a list, in the order of the numbers")
    if hasattr(names, "to_dict"):  # of pandas, whose index may hold the numbers
        names = names.to_dict()
    if not isinstance(names, Mapping):
        return names.tolist() if hasattr(names, "tolist") else names  # of numpy, pandas
    numbered = any(isinstance(name, str) for name in names.values())
    of = {str(k): name for k, name in (names.items() if numbered else ((k, name) for name, k in names.items()))}
    if len(of) < len(names) or {*of} != {*map(str, range(len(of)))}:
        raise SettingsError(f"{what} is {shown(names)}: give a list, or each name with its number, from 0 on")
    return [of[str(k)] for k in range(len(of))]


def class_names(names, what):
    r"""Each `class_name`.  Raises: SettingsError for fewer than two, or the same twice."""
    try:
        names = list(names)
    except TypeError:
        raise SettingsError(f"{what} is {shown(names)}: give names, or a pathlib.Path to a file of them") from None
    names = different(map(class_name, names), what)
    if len(names) < 2:
        remedy = "give at least two, a folder of images for each, or a .csv of path and label"
        raise SettingsError(f"{what} has {len(names)} class folders or names {list(names)}: {remedy}")
    return names


def subfolders(folder):
    r"""The folders and links to folders in a folder, sorted; hidden ones are none."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def is_image(name) -> bool:
    r"""Whether torchvision's ImageFolder would read a file of this name."""
    return str(name).lower().endswith(SUFFIXES)


def has_images(folder) -> bool:
    r"""Whether an image lies anywhere below a folder."""
    return any(is_image(name) for _, names in _walk(folder, folder.parent) for name in names)


def list_images(folder, classes) -> Listing:
    r"""The images of ``folder/<class>/...``, in the order of torchvision's ImageFolder: by folder, then by name.

    Raises: SettingsError for a class that is not known or has two folders, and for what cannot be followed.
    """
    folders = subfolders(folder)
    names = different([class_name(path.name) for path in folders], repr(folder.name))
    if unknown := [name for name in names if name not in classes]:
        raise SettingsError(closest(unknown[0], classes, f"{folder.name!r} has a class folder, but the class"))
    aside = (path for path in folder.iterdir() if path.is_dir() and path.name.startswith("."))
    inside = (Path(below, name) for path in aside for below, names in _walk(path, folder) for name in names)
    files, hidden = [], [path.relative_to(folder).as_posix() for path in inside if is_image(path)]
    skipped = sorted(
        path.name for path in folder.iterdir() if path.is_file() and is_image(path) and path.name[0] != "."
    )
    for name, place in zip(names, folders, strict=True):
        k = list(classes).index(name)
        for inside, below in sorted(_walk(place, folder)):
            for file in sorted(below):
                path = Path(inside, file)
                parts = path.relative_to(place).parts
                if any(part.startswith(".") for part in parts):
                    if is_image(file):
                        hidden.append(path.relative_to(folder).as_posix())
                elif not path.is_file():
                    what = "a pipe, a socket or a device" if path.exists() else "a link to nothing"
                    raise SettingsError(f"{path.relative_to(folder)} is {what}: remove it, or put a file there")
                elif is_image(file):
                    files.append((path, k, class_name(parts[0]) if len(parts) > 1 else None))
                else:
                    skipped.append(path.relative_to(folder).as_posix())
    if not files:
        loose = sum(map(is_image, skipped))
        holds = f"{loose} images without class folders, whose classes nobody knows" if loose else "no images"
        raise SettingsError(f"{folder.name!r} holds {holds}: put them into one folder per class")
    inner = {sub.lower() for *_, sub in files if sub}
    train, unseen = (", ".join(inner.intersection(part)) for part in (TRAIN, UNSEEN))
    if train and unseen:
        what = f"the classes in {folder.name!r} hold folders {train} and {unseen}, all of which would be trained on"
        raise SettingsError(f"{what}: put the classes into these ({train}/{names[0]}), not these into the classes")
    counts = f"has hidden images, e.g. {hidden[0]}, which torchvision's ImageFolder counts" if hidden else ""
    return Listing(folder, files, tuple(skipped), tuple(hidden), counts)


def _walk(place, top):
    r"""(Folder, names of files) below ``place``; links are followed, but for those that lead back above themselves."""

    def cannot(error):
        raise SettingsError(f"{Path(error.filename).name!r} cannot be read ({error.strerror}): allow it, or remove it")

    for inside, folders, files in os.walk(place, onerror=cannot, followlinks=True):
        way = (inside, *map(str, Path(inside).parents))
        above = {os.path.realpath(one) for one in way if one == str(top) or Path(one).is_relative_to(top)}
        for name in [name for name in folders if os.path.realpath(os.path.join(inside, name)) in above]:
            folders.remove(name)
            said = Path(inside, name).relative_to(top)
            logging.getLogger("megu").warning(f"{said} links back to a folder above it, and is not followed")
        yield inside, files


def read_lines(path) -> list[str]:
    r"""The lines of a text file: UTF-8, or UTF-16 with its mark.  Raises: SettingsError for anything else."""
    try:
        if (size := ordinary(path).stat().st_size) > 200_000_000:
            raise SettingsError(f"{path.name} has {size} bytes: give one name or number a line")
        content = path.read_bytes()
        marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # as PowerShell writes
        return [line.strip(" ") for line in content.decode("utf-16" if marked else "utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "neither UTF-8 nor UTF-16"
        raise SettingsError(f"{path.name} cannot be read ({why}): give a text file in UTF-8") from None


def read_json(path):
    r"""What a JSON file holds.  Raises: SettingsError where it is none."""
    try:
        return json.loads("\n".join(read_lines(path)))
    except (ValueError, RecursionError) as error:
        why = str(error).splitlines()[0][:100]
        raise SettingsError(f"{path.name} cannot be read as JSON ({why}): mend it") from None


def read_names(path):
    r"""Class names of a file: one a line, or a list or numbered names in JSON, see `in_order`."""
    return (read_json(path) or []) if path.suffix == ".json" else [*filter(str.strip, read_lines(path))]


def say_unseen(what, there):
    r"""Which of the parts ``there`` is taken for unseen images; a choice among them is said."""
    if there and there[0].lower() != "test" or there[1:]:
        others = "".join(f"; {name} is not used" for name in there[1:])
        logging.getLogger("megu").warning(f"{what}: {there[0]} is taken for unseen images{others}")
    return there[0] if there else None
