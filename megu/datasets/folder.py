r"""Images that a user brings: a folder by class or a torch Dataset, checked and put into one pool."""

import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from megu.datasets.images import Images
from megu.datasets.sources import fits_memory, picture
from megu.settings.errors import SettingsError
from megu.settings.values import closest

NORMALISE = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0,), (1.0,)),
    "half": ((0.5,), (0.5,)),
}
# What the public unlearning code gives every CIFAR: the moments of CIFAR-100's training images.
NORMALISE["cifar100"] = ((0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047))
SUFFIXES = set(Image.registered_extensions())
_PARTS = {"train": ("train",), "test": ("test", "val", "validation")}


class ReadyImages(Images):
    r"""Images that are kept as the network sees them (float); mean and std only serve to show them."""

    def batch(self, index, augment=None, gen=None):
        """``(n, C, H, W)`` float32, as they came; they are not augmented."""
        return self.x[index]


@dataclass(frozen=True)
class Brought:
    r"""Images of one part as read.

    Attributes:
        x: ``(n, C, H, W)`` uint8, or float as the network sees them.
        y: ``(n,)`` int64, class.
        sub: n names of sub-classes, or None.
        ids: n names: the files below their folder, or the positions in the Dataset.
        left_out: files that are no images.
    """

    x: torch.Tensor
    y: torch.Tensor
    sub: tuple[str, ...] | None
    ids: tuple[str, ...]
    left_out: int = 0


def plain(name):
    r"""A class name as compared: composed Unicode, no spaces around it.  Raises: SettingsError where it is empty or
    cannot be printed."""
    text = unicodedata.normalize("NFC", str(name)).strip()
    if not text or not text.isprintable() or len(text) > 200:
        raise SettingsError(
            f"class name {str(name)[:50]!r} is empty, longer than 200 characters or cannot be printed: rename the class"
        )
    return text


def class_names(names, what):
    r"""Names of K classes as compared.  Raises: SettingsError for fewer than two, or the same twice."""
    names = tuple(map(plain, names))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SettingsError(f"{what} has the class {twice[0]!r} twice: give every class a name of its own")
    if len(names) < 2:
        raise SettingsError(
            f"{what} has {len(names)} classes {list(names)}: there must be at least two, one to forget and one to keep"
        )
    return names


def folders(root, given=None):
    r"""Where a user's folder keeps what.

    Args:
        root: ``root/<class>/...``, or ``root/train/<class>/...`` with ``root/test/<class>/...`` (or val) beside it.
        given: class names in the order of the model's outputs, or None for the sorted names of the folders.
    Returns: (class names, folder of training images, folder of test images or None).
    Raises: SettingsError where there is no such folder, or class folders and names do not agree.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise SettingsError(
            f"data {root.name!r} is no folder: give a folder with one folder of images per class, or a torch Dataset"
        )
    found = {
        part: next((root / name for name in names if (root / name).is_dir()), None) for part, names in _PARTS.items()
    }
    train = found["train"] or root
    held = sorted(path.name for path in train.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = class_names(given if given is not None else held, f"data {root.name!r}" if given is None else "classes")
    have = class_names(held, f"data {root.name!r}")
    if extra := [name for name in have if name not in names]:
        raise SettingsError(closest(extra[0], names, "the folder of class"))
    if missing := [name for name in names if name not in have]:
        raise SettingsError(
            f"class {missing[0]!r} has no folder in {train.name!r}: there must be images of every class"
        )
    return names, train, found["test"] if found["train"] else None


def files_of(folder, names):
    r"""(file, class, sub-class or None) of every image below ``folder``, class by class, and the number of files that
    are no images."""
    out, left = [], 0
    by_name = {plain(path.name): path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
    for k, name in enumerate(names):
        for file in sorted(by_name[name].rglob("*")) if name in by_name else ():
            below = file.relative_to(by_name[name]).parts
            if file.is_dir() or any(part.startswith(".") for part in below):
                continue
            if file.suffix.lower() not in SUFFIXES:
                left += 1
                continue
            out.append((file, k, plain(below[0]) if len(below) > 1 else None))
    return out, left


def common_size(files):
    r"""(height, width) where all image files have the same, else None; only their heads are read."""
    sizes = set()
    for file, *_ in files:
        try:
            with Image.open(file) as image:
                sizes.add(image.size[::-1])
        except Exception:
            continue
        if len(sizes) > 1:
            return None
    return sizes.pop() if sizes else None


def read_folder(folder, names, size, mode):
    r"""`Brought` of a folder by class, and below it perhaps by sub-class.

    Args:
        folder: path.  names: of the classes.
        size: (height, width).  mode: see `megu.datasets.sources.picture`.
    Raises: SettingsError where it holds no image, or one that cannot be read.
    """
    files, left = files_of(folder, names)
    if not files:
        raise SettingsError(f"{folder.name!r} holds no images: put them into one folder per class")
    fits_memory(
        len(files),
        size[0] * size[1] * len(mode),
        "set a smaller size, or give fewer retain images (a sample is enough, see trained_on)",
    )
    x = np.stack(
        [
            picture(file, size, mode)
            for file, *_ in tqdm(files, desc=f"images of {folder.name}", unit="image", leave=False)
        ]
    )
    subs = (
        tuple(f"{names[k]}/{sub}" if sub else names[k] for _, k, sub in files)
        if any(sub for *_, sub in files)
        else None
    )
    x = torch.from_numpy(x if x.ndim == 4 else x[..., None]).permute(0, 3, 1, 2).contiguous()
    return Brought(
        x,
        torch.tensor([k for _, k, _ in files]),
        subs,
        tuple(file.relative_to(folder).as_posix() for file, *_ in files),
        left,
    )


def read_dataset(data, num_classes, mode, what, subclasses=None):
    r"""`Brought` of a torch Dataset of (image, class) pairs, each read once: give it the transforms of evaluation, not
    of training.

    Args:
        data: a PIL image or a uint8 ``(C, H, W)`` tensor is normalised like a file; a float ``(C, H, W)`` tensor is
            taken as the network sees it.
        num_classes: K.  mode: see `megu.datasets.sources.picture`.  what: for messages.
        subclasses: a name for each item, or None.
    Raises: SettingsError naming the item that is not of this kind.
    """
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise SettingsError(
            f"{what} is a {type(data).__name__}: give a folder, or a torch Dataset with a length (not a DataLoader)"
        )
    if len(data) == 0:
        raise SettingsError(f"{what} is empty: give at least one image of every class")
    if subclasses is not None and len(subclasses) != len(data):
        raise SettingsError(
            f"subclasses has {len(subclasses)} names for {len(data)} images of {what}: give one for each"
        )
    images, labels = [], []
    for i in tqdm(range(len(data)), desc=what, unit="image", leave=False):
        item = data[i]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise SettingsError(
                f"item {i} of {what} is a {type(item).__name__}: a Dataset must give (image, class) pairs"
            )
        image, label = (
            as_tensor(item[0], mode, f"image {i} of {what}"),
            as_class(item[1], num_classes, f"image {i} of {what}"),
        )
        if images and (image.shape != images[0].shape or image.dtype != images[0].dtype):
            raise SettingsError(
                f"image {i} of {what} is {tuple(image.shape)} {image.dtype}, image 0 {tuple(images[0].shape)}"
                f" {images[0].dtype}: give one size and type"
            )
        if not images:
            fits_memory(
                len(data),
                image.numel() * image.element_size(),
                "give uint8 images or fewer retain images (a sample is enough, see trained_on)",
            )
        images.append(image)
        labels.append(label)
    return Brought(
        torch.stack(images),
        torch.tensor(labels),
        None if subclasses is None else tuple(map(plain, subclasses)),
        tuple(map(str, range(len(data)))),
    )


def as_tensor(image, mode, what):
    r"""One image as a ``(C, H, W)`` uint8 or float32 tensor.  Raises: SettingsError where it is neither, or not
    finite."""
    if isinstance(image, Image.Image):
        array = np.asarray(image.convert(mode))
        return torch.from_numpy(array.copy() if array.ndim == 3 else array[..., None].copy()).permute(2, 0, 1)
    if (
        not isinstance(image, torch.Tensor)
        or image.ndim != 3
        or not image.numel()
        or not (image.dtype == torch.uint8 or image.is_floating_point())
    ):
        kind = (
            f"tensor of shape {tuple(image.shape)}, {image.dtype}"
            if isinstance(image, torch.Tensor)
            else type(image).__name__
        )
        raise SettingsError(f"{what} is a {kind}: give a PIL image, or a (C, H, W) tensor of uint8 or float")
    if image.is_floating_point() and not image.isfinite().all():
        raise SettingsError(
            f"{what} has {int((~image.isfinite()).sum())} values that are no numbers (NaN or infinite): remove or"
            " mend it"
        )
    return image.cpu() if image.dtype == torch.uint8 else image.cpu().float()


def as_class(label, num_classes, what):
    r"""A label as an integer in [0, K).  Raises: SettingsError where it is not."""
    try:
        k = int(label)
        if isinstance(label, bool | str) or k != label or not 0 <= k < num_classes:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        shown = label.tolist() if isinstance(label, torch.Tensor) and label.numel() < 5 else label
        raise SettingsError(
            f"{what} has the class {str(shown)[:50]!r}: give an integer from 0 to {num_classes - 1}, the number of the"
            " model's output"
        ) from None
    return k


def moments(normalise, x):
    r"""(mean, std), each ``(C,)`` float: of a name in `NORMALISE`, of these images (``data``), or as given.

    Raises: SettingsError where ``normalise`` is none of these.
    """
    channels = x.shape[1]
    if isinstance(normalise, str) and normalise == "data":
        sample = x[:: max(1, len(x) // 2000)].double() / 255
        return sample.mean((0, 2, 3)).float(), sample.std((0, 2, 3)).clamp_min(1e-3).float()
    try:
        pair = NORMALISE[normalise] if isinstance(normalise, str) else normalise
        mean, std = (torch.as_tensor(value, dtype=torch.float32).flatten() for value in pair)
        mean, std = (
            value.mean().expand(channels) if channels == 1 else value.expand(channels) for value in (mean, std)
        )
        if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
            raise ValueError
    except (KeyError, TypeError, ValueError, RuntimeError):
        names = ", ".join([*NORMALISE, "data"])
        raise SettingsError(
            f"normalise is {normalise!r}: choose from {names}, or give (mean, std) of {channels} channels in [0, 1],"
            " std above 0"
        ) from None
    return mean.clone(), std.clone()


def pooled(name, names, train, test, normalise, device):
    r"""`Images` of what was brought, test images (or None) last.  Raises: SettingsError where the parts do not fit, or
    a class has no training image."""
    parts = [train] if test is None else [train, test]
    if test is not None and (train.x.shape[1:] != test.x.shape[1:] or train.x.dtype != test.x.dtype):
        raise SettingsError(
            f"training images are {tuple(train.x.shape[1:])} {train.x.dtype}, test images {tuple(test.x.shape[1:])}"
            f" {test.x.dtype}: give one size and type"
        )
    empty = [names[k] for k, count in enumerate(train.y.bincount(minlength=len(names)).tolist()) if not count]
    if empty:
        raise SettingsError(
            f"there are no training images of class {empty[0]!r}: there must be images of every class (a sample of the"
            " retained is enough)"
        )
    x, y = torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])
    fine_names, fine = names, y
    if train.sub is not None:
        subs = [sub for part in parts for sub in part.sub or [names[k] for k in part.y.tolist()]]
        fine_names = tuple(sorted(set(subs)))
        fine = torch.tensor([fine_names.index(sub) for sub in subs])
    mean, std = moments(normalise, x)
    kind = ReadyImages if x.is_floating_point() else Images
    if kind is ReadyImages and 0 <= float(x.min()) and float(x.max()) <= 1:
        mean, std = torch.zeros_like(mean), torch.ones_like(std)  # shown as they are
    return kind(
        name,
        x.to(device),
        y.to(device),
        fine.to(device),
        names,
        fine_names,
        len(train.y),
        mean.to(device),
        std.to(device),
    )


def shown(images, index):
    r"""A small set of `Images` of training images ``index`` in uint8, for those who look at pictures: its pool is
    ``index`` in this order."""
    x = images.x[index]
    if x.is_floating_point():
        x = (images.restore(x) * 255).round().to(torch.uint8)
    return Images(
        images.name,
        x,
        images.y[index],
        images.fine[index],
        images.classes,
        images.fine_classes,
        len(index),
        images.mean,
        images.std,
    )
