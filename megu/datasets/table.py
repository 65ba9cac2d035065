r"""Images in a CSV of path, label and perhaps split."""

import csv
import logging
import os
import re
from collections import Counter
from pathlib import Path

from megu.datasets.listing import Listing, class_name, class_names, read_lines, say_unseen
from megu.settings.class_names import TRAIN, UNSEEN
from megu.settings.errors import SettingsError
from megu.settings.values import closest

COLUMNS = {  # what a header may call it
    "path": ("path", "file", "filename", "file_name", "filepath", "image"),
    "label": ("label", "class", "category", "target"),
    "split": ("split", "set", "part", "subset"),
}
_TRUTHS = {"true", "false", "yes", "no", "0", "1", "0.0", "1.0"}


def read_csv(path) -> tuple[list[tuple[Path, str, str]], list[str]]:
    r"""(File, label, split) of every image that a CSV lists, see `list_csv`; the columns that say nothing of these.

    Raises: SettingsError naming the line that does not fit, a file that is not there, or columns of which it cannot be
        told what they mean: two for one of `COLUMNS`, or a split that is called otherwise.
    """
    lines = [*filter(str.strip, read_lines(path))]
    apart = next((sign for sign in (",", ";", "\t") if sign in "".join(lines[:1])), ",")
    table = csv.DictReader(lines, delimiter=apart)
    try:
        table.fieldnames = heads = [str(name).strip() for name in table.fieldnames or ()]
        rows = [*table]
    except csv.Error as error:
        raise SettingsError(f"{path.name} cannot be read as a CSV ({error}): mend it") from None
    meant = {what: [head for head in heads if head.lower() in names] for what, names in COLUMNS.items()}
    if not (meant["path"] and meant["label"]):
        found = ", ".join(heads)[:100]
        raise SettingsError(f"{path.name} has the columns {found!r}: name them path, label and, if you like, split")
    for what, several in meant.items():
        if len(several) > 1:
            names = " and ".join(map(repr, several))
            raise SettingsError(f"{path.name} has the columns {names}, each of which may be the {what}: keep one")
    if wide := next((number for number, row in enumerate(rows, 1) if any(map(str.strip, row.get(None) or ()))), None):
        what = f"{path.name}, image {wide}, has more cells than the {len(heads)} columns"
        raise SettingsError(f'{what}: quote a name that has a {apart!r} in it ("a{apart} b")')
    unread = [head for head in heads if head and not any(head in several for several in meant.values())]
    if hidden := [head for head in unread if not meant["split"] and _splits(head, rows)]:
        what = f"{path.name} has the column {hidden[0]!r}, which seems to say what was trained on, and is not read"
        raise SettingsError(f"{what}: call it split, with train, test or val in it, or leave it out")
    column = [next(iter(several), None) for several in meant.values()]
    cells = [[(name and row[name] or "").strip() for name in column] for row in rows]
    found, where, usual = [], set(), "" if any(split for *_, split in cells) else "train"
    for number, (file, label, split) in enumerate(cells, 1):
        file = Path(os.path.normpath(path.parent / file.replace("\\", "/")))
        said = f"{path.name}, image {number}"
        split = (split or usual).lower()
        if not file.is_file():
            raise SettingsError(f"{said}: {file.name!r} is no file: give paths relative to the CSV's folder")
        if file in where:
            raise SettingsError(f"{said}: {file.name!r} is listed twice: list each image once")
        if split not in (*TRAIN, *UNSEEN):
            raise SettingsError(f"{said} has the split {split!r}: write train, test or val")
        try:
            found.append((file, class_name(label), split))
        except SettingsError as error:
            raise SettingsError(f"{said}: {error}") from None
        where.add(file)
    return found, unread


def _splits(head, rows):
    """Whether a column names parts of the data, or is called so and says yes or no."""
    held = {(row[head] or "").strip() for row in rows} - {""}
    return bool(held) and (
        all(map(_of_a_part, held)) or (_of_a_part(head) and all(value.lower() in _TRUTHS for value in held))
    )


def _of_a_part(text):
    return any(word.lower() in (*TRAIN, *UNSEEN) for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", text))


def list_csv(path, classes=None, unseen=True) -> tuple[tuple[str, ...], Listing, Listing | None]:
    r"""Class names, training images and unseen ones of a CSV with the columns path, label and perhaps split.

    Paths are relative to the CSV's folder.  ``split`` is in `TRAIN` or `UNSEEN`.  ``classes`` None: the labels, sorted
    (numbers by value).  Labels 0 to K - 1 are positions in ``classes``.  ``unseen``: whether unseen ones are wanted.
    Raises: SettingsError naming the line that does not fit.
    """
    found, unread = read_csv(path)
    if unread:
        logging.getLogger("megu").warning(f"{path.name}: columns that are not read: {', '.join(unread)[:100]}")
    bare = [label.removesuffix(".0") for _, label, _ in found]  # as pandas writes integers beside an empty cell
    if (numbers := all(label.isdecimal() for label in bare)) and not {*(classes or ())} >= {one[1] for one in found}:
        found = [(file, label, split) for (file, _, split), label in zip(found, bare, strict=True)]
    labels = [label for _, label, _ in found]
    names = sorted({*labels}, key=int if numbers else None) if classes is None else [*classes]
    names = class_names(names, path.name)
    plain = Counter(map(str.casefold, names))
    if alike := [name for name in names if plain[name.casefold()] > 1]:
        logging.getLogger("megu").warning(f"{path.name}: classes differ in case alone: {', '.join(alike)[:100]}")
    of = {name: k for k, name in enumerate(names)}
    if numbers and not of.keys() >= {*labels}:
        of = {str(k): k for k in range(len(names))}
    if unknown := [label for label in labels if label not in of]:
        raise SettingsError(closest(unknown[0], names, f"{path.name}: the class"))
    parts, counted = {name: [] for name in ("train", *UNSEEN)}, ""
    for file, label, split in found:
        parts["train" if split in TRAIN else split].append((file, of[label], None))
    splits = [split in TRAIN for *_, split in found]
    if any(splits) and not all(splits[: sum(splits)]):
        first = splits.index(False) + 1
        counted = f"has unseen images before training ones (image {first}), which its rows count"
    where = say_unseen(path.name, [name for name in UNSEEN if parts[name]]) if unseen else None
    train = Listing(path.parent, parts["train"], uncounted=counted)
    return names, train, Listing(path.parent, parts[where]) if where else None
