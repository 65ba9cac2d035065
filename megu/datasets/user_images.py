r"""Images that a user gives as torch Datasets, their normalisation, and training and test images put into one pool."""

import logging

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from megu.datasets.folder import ImagePart, class_name
from megu.datasets.images import Images
from megu.datasets.npz import fits_memory
from megu.settings.errors import SettingsError

NORMALISE = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0,), (1.0,)),
    "half": ((0.5,), (0.5,)),
    # What the public unlearning code gives every CIFAR: the moments of CIFAR-100's training images.
    "cifar100": ((0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)),
}


class ReadyImages(Images):
    r"""Images that are kept as the network sees them (float); mean and std only serve to show them."""

    def batch(self, index, augment=None, gen=None) -> Float32[Tensor, "n C H W"]:
        """Images as they came; they are not augmented."""
        return self.x[index]


def read_dataset(data, num_classes, mode, what, subclasses=None) -> ImagePart:
    r"""A torch Dataset of (image, class) pairs, each read once: give it the transforms of evaluation, not of training.

    Args:
        data: a PIL image or a uint8 ``(C, H, W)`` tensor is normalised like a file; a float ``(C, H, W)`` tensor is
            taken as the network sees it.
        num_classes: K.  mode: see `megu.datasets.folder.read_image`.  what: for messages.
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
        item, where = data[i], f"image {i} of {what}"
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise SettingsError(
                f"item {i} of {what} is a {type(item).__name__}: a Dataset must give (image, class) pairs"
            )
        image, label = to_tensor(item[0], mode, where), to_class(item[1], num_classes, where)
        if not images:
            fits_memory(len(data), image.numel() * image.element_size(), "give uint8 images, or fewer of them")
        elif image.shape != images[0].shape or image.dtype != images[0].dtype:
            raise SettingsError(f"{where} is {_kind(image)}, image 0 {_kind(images[0])}: give one size and type")
        images.append(image)
        labels.append(label)
    sub = None if subclasses is None else tuple(map(class_name, subclasses))
    return ImagePart(torch.stack(images), torch.tensor(labels), sub, tuple(map(str, range(len(data)))))


def _kind(image):
    return f"{tuple(image.shape)} {image.dtype}"


def to_tensor(image, mode, what) -> UInt8[Tensor, "C H W"] | Float32[Tensor, "C H W"]:
    r"""One image as a tensor.  Raises: SettingsError where it is none, or not finite."""
    if isinstance(image, Image.Image):
        array = np.array(image.convert(mode))
        return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)
    tensor = isinstance(image, Tensor)
    if (
        not tensor
        or image.ndim != 3
        or not image.numel()
        or not (image.dtype == torch.uint8 or image.is_floating_point())
    ):
        kind = f"tensor of shape {tuple(image.shape)}, {image.dtype}" if tensor else type(image).__name__
        raise SettingsError(f"{what} is a {kind}: give a PIL image, or a (C, H, W) tensor of uint8 or float")
    if image.is_floating_point() and not image.isfinite().all():
        count = int((~image.isfinite()).sum())
        raise SettingsError(f"{what} has {count} values that are no numbers (NaN or infinite): remove or mend it")
    return image.cpu() if image.dtype == torch.uint8 else image.cpu().float()


def to_class(label, num_classes, what):
    r"""A label as an integer in [0, K).  Raises: SettingsError where it is not."""
    try:
        k = int(label)
        if isinstance(label, bool | str) or k != label or not 0 <= k < num_classes:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        value = label.tolist() if isinstance(label, Tensor) and label.numel() < 5 else label
        raise SettingsError(
            f"{what} has the class {str(value)[:50]!r}: give an integer from 0 to {num_classes - 1}, the number of the"
            " model's output"
        ) from None
    return k


def moments(normalise, x: UInt8[Tensor, "n C H W"] | Float32[Tensor, "n C H W"]):
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
        mean, std = ((v.mean() if channels == 1 else v).expand(channels) for v in (mean, std))
        if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
            raise ValueError
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise SettingsError(
            f"normalise is {normalise!r}: choose from {', '.join([*NORMALISE, 'data'])}, or give (mean, std) of"
            f" {channels} channels in [0, 1], std above 0"
        ) from None
    return mean.clone(), std.clone()


def pool_parts(name, classes, train, test, normalise, device) -> Images:
    r"""Training images and test images (or None) in one pool, on the device.

    Raises: SettingsError where the parts do not fit, or a class has no training image.
    """
    parts = [train] if test is None else [train, test]
    if test is not None and _kind(train.x[0]) != _kind(test.x[0]):
        raise SettingsError(
            f"training images are {_kind(train.x[0])}, test images {_kind(test.x[0])}: give one size and type"
        )
    if empty := [k for k, count in enumerate(train.y.bincount(minlength=len(classes)).tolist()) if not count]:
        raise SettingsError(
            f"there are no training images of class {classes[empty[0]]!r}: there must be images of every class (a"
            " sample of the retained is enough)"
        )
    if skipped := sum(part.skipped for part in parts):
        logging.getLogger("megu").warning("%d files that are no images were left out", skipped)
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
    kind = ReadyImages if x.is_floating_point() else Images
    return kind(name, x, y, fine, classes, fine_classes, len(train.y), mean, std)


def as_pictures(images, index) -> Images:
    r"""Images ``index`` in uint8 as a pool of their own, for guides, who look at pictures."""
    x = images.x[index]
    if x.is_floating_point():
        x = (images.restore(x) * 255).round().to(torch.uint8)
    y, fine, names = images.y[index], images.fine[index], (images.classes, images.fine_classes)
    return Images(images.name, x, y, fine, *names, len(index), images.mean, images.std)
