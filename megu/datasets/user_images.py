r"""A user's images: read from torch Datasets, normalised, put into one pool."""

import logging
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor

from megu.datasets.folder import ImagePart, class_name
from megu.datasets.images import Images
from megu.datasets.npz import fits_memory
from megu.settings.errors import SettingsError
from megu.settings.progress import Bar

NORMALISE = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0,), (1.0,)),
    "half": ((0.5,), (0.5,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    # Public unlearning code gives these to every CIFAR
    "cifar100": ((0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)),
}


def read_dataset(data, num_classes, mode, what, subclasses=None) -> ImagePart:
    r"""A torch Dataset of (image, class) pairs, each read once, so with the transforms of evaluation.

    Args:
        data: gives PIL images, uint8 ``(C, H, W)`` tensors, or float ones as the network sees them.
        mode: ``RGB`` or ``L``.  what: for messages.  subclasses: a name for each item, or None.
    Raises: SettingsError naming the item that is not of this kind.
    """
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        remedy = "give a folder, or a torch Dataset with a length, no DataLoader"
        raise SettingsError(f"{what} is a {type(data).__name__}: {remedy}")
    if not (count := len(data)):
        raise SettingsError(f"{what} is empty: give images of every class")
    if subclasses is not None and len(subclasses) != count:
        raise SettingsError(f"subclasses has {len(subclasses)} names for {count} images of {what}: give one for each")
    images, labels = [], []
    for i in Bar(range(count), desc=what, unit="image"):
        item, where = data[i], f"image {i} of {what}"
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise SettingsError(f"{where} is a {type(item).__name__}: give (image, class) pairs")
        image, label = _to_tensor(item[0], mode, where), _to_class(item[1], num_classes, where)
        if not images:
            fits_memory(count * image.nbytes, "give uint8 images, or fewer")
        elif _kind(image) != _kind(images[0]):
            raise SettingsError(f"{where} is {_kind(image)}, image 0 {_kind(images[0])}: give one size and type")
        images.append(image)
        labels.append(label)
    sub = None if subclasses is None else tuple(map(class_name, subclasses))
    return ImagePart(torch.stack(images), torch.tensor(labels), sub, tuple(map(str, range(count))))


def _kind(image):
    return f"{tuple(image.shape)} {image.dtype}"


def _to_tensor(image, mode, what) -> UInt8[Tensor, "C H W"] | Float32[Tensor, "C H W"]:
    if isinstance(image, Image.Image):
        array = np.array(image.convert(mode))
        return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)
    if not isinstance(image, Tensor):
        kind = type(image).__name__
    elif image.ndim != 3 or not image.numel() or not (image.dtype == torch.uint8 or image.is_floating_point()):
        kind = f"tensor of shape {tuple(image.shape)}, {image.dtype}"
    elif wrong := int((~image.isfinite()).sum()):
        raise SettingsError(f"{what} has {wrong} values that are NaN or infinite: remove or mend it")
    else:
        return image.cpu() if image.dtype == torch.uint8 else image.cpu().float()
    raise SettingsError(f"{what} is a {kind}: give a PIL image, or a (C, H, W) tensor of uint8 or float")


def _to_class(label, num_classes, what):
    try:
        k = int(label)
        if isinstance(label, bool | str) or k != label or not 0 <= k < num_classes:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        value = label.tolist() if isinstance(label, Tensor) and label.numel() < 5 else label
        remedy = f"give an integer from 0 to {num_classes - 1}, the model's output"
        raise SettingsError(f"{what} has the class {str(value)[:50]!r}: {remedy}") from None
    return k


def moments(normalise, x: UInt8[Tensor, "n C H W"] | Float32[Tensor, "n C H W"]):
    r"""(mean, std), each ``(C,)`` float: of a name in `NORMALISE`, of these images (``data``), or as given.  Raises:
    SettingsError for anything else."""
    channels = x.shape[1]
    if isinstance(normalise, str) and normalise == "data":
        sample = x[:: max(1, len(x) // 2000)].double() / 255
        return sample.mean((0, 2, 3)).float(), sample.std((0, 2, 3)).clamp_min(1e-3).float()
    try:
        pair = NORMALISE[normalise] if isinstance(normalise, str) else normalise
        mean, std = (torch.as_tensor(value, dtype=torch.float32).flatten() for value in pair)
        mean, std = ((v.mean() if channels == 1 else v).expand(channels) for v in (mean, std))
        if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
            raise ValueError
    except (KeyError, TypeError, ValueError, RuntimeError):
        remedy = f"or give (mean, std) of {channels} channels in [0, 1], std above 0"
        names = ", ".join([*NORMALISE, "data"])
        raise SettingsError(f"normalise is {normalise!r}: choose from {names}, {remedy}") from None
    return mean.clone(), std.clone()


def pool_parts(name, classes, train, test, normalise, device) -> Images:
    r"""Training and test images (or None) in one pool.  Raises: SettingsError where their kinds differ, or a class has
    no training image."""
    parts = [train] if test is None else [train, test]
    ours, theirs = (_kind(part.x[0]) for part in (train, parts[-1]))
    if ours != theirs:
        raise SettingsError(f"training images are {ours}, test images {theirs}: give one size and type")
    if empty := set(range(len(classes))).difference(train.y.tolist()):
        what = f"no training image is of class {classes[min(empty)]!r}"
        raise SettingsError(f"{what}: give some (of retained classes a sample is enough)")
    if skipped := sum(part.skipped for part in parts):
        logging.getLogger("megu").warning(f"{skipped} files that are no images were left out")
    x, y = torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])
    fine_classes, fine = classes, y
    if train.sub is not None:
        sub = [name for part in parts for name in part.sub or [classes[k] for k in part.y.tolist()]]
        fine_classes = tuple(sorted(set(sub)))
        fine = torch.tensor([fine_classes.index(name) for name in sub])
    mean, std = moments(normalise, x)
    if x.is_floating_point() and 0 <= float(x.min()) and float(x.max()) <= 1:
        mean, std = torch.zeros_like(mean), torch.ones_like(std)  # shown as they are
    x, y, fine, mean, std = (value.to(device) for value in (x, y, fine, mean, std))
    return Images(name, x, y, fine, classes, fine_classes, len(train.y), mean, std)


def as_pictures(images, index) -> Images:
    r"""Images ``index`` as uint8 in a pool of their own, for guides."""
    x = images.x[index]
    if x.is_floating_point():
        x = (images.restore(x) * 255).round().to(torch.uint8)
    return replace(images, x=x, y=images.y[index], fine=images.fine[index], num_train=len(index))
