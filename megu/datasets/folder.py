r"""Images in files, one folder for each class or a CSV: brought to one size and read."""

import logging
import math
import shutil
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import ExifTags, Image
from torch import Tensor

from megu.datasets.listing import SUFFIXES, Listing, class_names, has_images, list_images, say_unseen, subfolders
from megu.datasets.table import list_csv
from megu.settings.class_names import TRAIN, UNSEEN
from megu.settings.errors import SettingsError
from megu.settings.files import unfetched
from megu.settings.progress import Bar

TURNED = (
    "photos carry a turn (EXIF) and are read without it, as torchvision does: if the model was trained on turned ones,"
    " turn them (PIL.ImageOps.exif_transpose)"
)
DEEP = "images have 16 bits, of which the upper 8 are read (torchvision cuts the values at 255)"
MOVING = "images have several frames or pages, of which the first is read, as torchvision does"
SQUEEZED = (
    "images are squeezed into another shape: if the model was trained on a part of each (CenterCrop), give a Dataset"
    " with its transforms"
)
RESIZED = "images are resized"  # said where training and unseen images differ in it
_BROKEN = 10  # images that cannot be read are named together, so many at most


class ImagePart(NamedTuple):
    r"""Images: uint8, or float as the network sees them; classes, sub-classes, ids (files below the folder, or
    positions in a Dataset); share of those that were resized here."""

    x: UInt8[Tensor, "n C H W"] | Float32[Tensor, "n C H W"]
    y: Int64[Tensor, " n"]
    sub: tuple[str, ...] | None
    ids: tuple[str, ...]
    resized: float = 0.0


class ClassFolders(NamedTuple):
    r"""Classes, images of each, (height, width): as chosen, else that of all training images, else 224."""

    classes: tuple[str, ...]
    train: Listing
    test: Listing | None
    size: tuple[int, int]

    def read(self, listing, mode="RGB", into=None) -> ImagePart:
        r"""The images of a `Listing`; ``mode``: see `read_image`; ``into``: a tensor to be filled.  What is left out is
        said, and photos that carry a turn.  Raises: SettingsError for no image, or one that cannot be read."""
        what = listing.root.name
        if not listing.files:
            raise SettingsError(f"{what!r} lists no images: add some, or leave it out")
        files, y, subs = zip(*listing.files, strict=True)
        x, notes, broken = room(self.shape_of(mode, listing)) if into is None else into, {}, {}
        for i, file in enumerate(Bar(files, desc=f"images of {what}", unit="image")):
            try:
                pixels, remarks = read_image(file, self.size, mode)
            except SettingsError as error:
                broken[listing.ids[i]] = error
                if len(broken) == _BROKEN:
                    break
                continue
            x[i] = torch.from_numpy(pixels.copy()).view(*self.size, len(mode)).permute(2, 0, 1)
            for remark in remarks:
                notes.setdefault(remark, []).append(i)
        if broken:
            many = f"{len(broken)}{' or more' * (len(broken) == _BROKEN)} cannot be read: {', '.join(broken)}"
            raise SettingsError(f"{next(iter(broken.values()))}{f'; {many}' if len(broken) > 1 else ''}")
        names = (self.classes[k] for k in y)
        sub = tuple(f"{name}/{sub}" if sub else name for name, sub in zip(names, subs, strict=True))
        ids, resized = listing.ids, len(notes.pop(RESIZED, ())) / len(files)
        _say(what, listing, {remark: [ids[i] for i in places] for remark, places in notes.items()})
        return ImagePart(x, torch.tensor(y), sub if any(subs) else None, ids, resized)

    def shape_of(self, mode, *listings):
        r"""(n, C, H, W) of all images of some listings together."""
        return sum(len(listing.files) for listing in listings), len(mode), *self.size


def room(shape) -> UInt8[Tensor, "..."]:
    r"""An empty tensor; where it would take more than half of the free memory, it lies in a nameless file of the
    temporary folder (``$TMPDIR``), which goes with the process; this is said.  Raises: SettingsError where the disk is
    too small."""
    size, free = math.prod(shape), psutil.virtual_memory().available
    if size <= free / 2:
        return torch.empty(shape, dtype=torch.uint8)
    what = f"{size / 1e9:.1f} GB of images are too many for {free / 1e9:.1f} GB of free memory"
    if size > 0.9 * (left := shutil.disk_usage(tempfile.gettempdir()).free):
        remedy = "set $TMPDIR to a folder with more space or a smaller size, or give fewer images"
        raise SettingsError(f"{what} and {left / 1e9:.1f} GB of disk: {remedy}")
    logging.getLogger("megu").warning(f"{what}: they are kept in a file of the temporary folder ($TMPDIR)")
    with tempfile.TemporaryFile() as file:
        return torch.from_numpy(np.memmap(file, np.uint8, "w+", shape=tuple(shape)))


def _say(what, listing, notes):
    reads = f"it reads {' '.join(SUFFIXES)} in folders of classes"
    for why, names in {
        f"files are left out, as torchvision's ImageFolder does ({reads})": listing.skipped,
        "hidden images are left out: ImageFolder counts them (a hidden folder is one of its classes)": listing.hidden,
        **notes,
    }.items():
        say_note(what, why, names)


def say_note(what, why, names):
    r"""Of how many images something is to be said, and of which for example."""
    if names:
        logging.getLogger("megu").warning(f"{what}: {len(names)} {why}; e.g. {names[0]}")


def find_classes(root, classes=None, size=None, unseen=True) -> ClassFolders:
    r"""The classes of ``root/<class>/...``, of ``root/train/<class>/...`` beside ``root/test`` (or val), or of a CSV.

    A folder called train is a class where folders with images stand beside it that are neither test nor val.

    Args:
        classes: names in the order of the model's outputs; None: the sorted folders, see `list_csv`.
        size: of the images, size x size pixels, or None.  unseen: whether unseen ones are looked for.
    Raises: SettingsError without such a folder, or where class folders and names do not agree.
    """
    root = Path(root).expanduser()
    if root.suffix.lower() == ".csv" and not root.is_dir():
        names, train, test = list_csv(root, classes, unseen)
    elif not root.is_dir():
        raise SettingsError(f"data {root.name!r} is no folder: give one with a folder of images per class, or a .csv")
    else:
        folder, unseen = split_folders(root, classes, unseen)
        there = class_names([path.name for path in subfolders(folder)], f"data {root.name!r}")
        names = there if classes is None else class_names(classes, "classes")
        if missing := [name for name in names if name not in there]:
            raise SettingsError(f"class {missing[0]!r} has no folder in {folder.name!r}: give images of every class")
        train = list_images(folder, names)
        try:
            test = None if unseen is None else list_images(unseen, names)
        except SettingsError as error:
            raise SettingsError(f"{error}; or give {root.name}/{folder.name} to leave {unseen.name} out") from None
    if empty := set(range(len(names))).difference(k for _, k, _ in train.files):
        what = f"{train.root.name}/{names[min(empty)]} holds no images ({' '.join(SUFFIXES)})"
        if root.is_file():
            what = f"{root.name} lists no training image of the class {names[min(empty)]!r}"
        raise SettingsError(f"{what}: add some, or remove the class")
    if not (known := (size, size) if size else _common_size(train.files)):
        told = "photos of several sizes are resized to 224 x 224 pixels: give size (--size) if the model knows another"
        logging.getLogger("megu").warning(told)
    return ClassFolders(names, train, test, known or (224, 224))


def split_folders(root, classes=None, unseen=True) -> tuple[Path, Path | None]:
    r"""Where training images and unseen ones lie below a folder; ``classes``, ``unseen``: see `find_classes`.  What was
    assumed of a folder called train is said."""
    there = [path for path in subfolders(root) if has_images(path) or path.name.lower() in (*TRAIN, *UNSEEN)]
    found, seen = ([path for one in names for path in there if path.name.lower() == one] for names in (TRAIN, UNSEEN))
    train, beside = next(iter(found), None), [path.name for path in there if path not in (*found, *seen)]
    if train and (beside if classes is None else {train.name, *beside} & {*map(str, classes)}):
        why = f" beside {', '.join(beside[:3])}: give {root.name}/{train.name} if it holds the classes"
        logging.getLogger("megu").warning(f"{root.name}/{train.name} is taken for a class{why if beside else ''}")
    elif train:
        if more := [path.name for path in found[1:] if has_images(path)]:
            what = f"{root.name!r} has training images in {train.name} and in {', '.join(more)}"
            raise SettingsError(f"{what}: put them into one folder, or give {root.name}/{train.name} (and test)")
        name = say_unseen(root.name, [path.name for path in seen]) if unseen else None
        return train, train.with_name(name) if name else None
    return root, None


def _common_size(files):
    sizes = set()
    for file, *_ in files:
        with suppress(Exception), Image.open(file) as image:  # `read_image` says what cannot be read
            sizes.add(image.size[::-1])
        if len(sizes) > 1:
            return None
    return sizes.pop() if sizes else None


def read_image(file, size=None, mode="RGB") -> tuple[UInt8[np.ndarray, "H W *C"], list[str]]:
    r"""One image file, resized to (height, width) or not, and what is to be said of it; ``mode``: ``RGB``, or ``L`` for
    grey.  16 bits keep their upper 8.  Raises: SettingsError for damage, a kind without 8-bit meaning, under 2 x 2 or
    over 89 million pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", "Corrupt EXIF")
            with Image.open(file) as image:
                said, image = remarks(image, size), in_8_bits(image, mode)
                image = image if size is None else image.resize(size[::-1], Image.Resampling.BILINEAR)
                return np.asarray(image), said
    except Exception as error:  # each format's reader fails in its own ways
        name = f"{file.parent.name}/{file.name}"
        if lacks := unfetched(file):
            raise SettingsError(f"{name} is {lacks}") from None
        raise SettingsError(f"{name} is not a readable image ({error}): remove or replace it") from None


def in_8_bits(image, mode) -> Image.Image:
    r"""A picture in ``RGB`` or ``L``; 16 bits keep their upper 8.  Raises: ValueError for other kinds."""
    if min(image.size) < 2 or image.mode in ("I", "F"):
        raise ValueError(f"{image.width} x {image.height} pixels of mode {image.mode}")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
    return image.convert(mode)


def remarks(image, size=None) -> list[str]:
    r"""What is to be said of a picture that is read at (height, width) or as large as it is."""
    out, (width, height) = [DEEP] if image.mode.startswith("I;16") else [], image.size
    out += [MOVING] if getattr(image, "is_animated", False) else []
    with suppress(Exception):  # a damaged note; torchvision does not look at it
        out += [TURNED] if image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9) else []
    out += [RESIZED] if size and size != (height, width) else []
    squeezed = size and abs(width * size[0] / (height * size[1]) - 1) > 0.05
    return [*out, SQUEEZED] if squeezed else out
