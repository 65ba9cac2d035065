r"""A user's images: normalised, put into one pool."""

import logging
from dataclasses import replace

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from megu.datasets.folder import ImagePart
from megu.datasets.images import Images, image_hash, levels, same_pixels
from megu.datasets.pairs import kind
from megu.settings.errors import SettingsError
from megu.settings.known import NORMALISE, read_pair

_SCALE = 20  # times the spread: levels from 0 to 255 beside others, whatever these are normalised by
_ALIKE = 0.1  # in shares of images


def moments(normalise, x: UInt8[Tensor, "n C H W"] | Float32[Tensor, "n C H W"]):
    r"""(mean, std), each ``(C,)`` float: of a name in `NORMALISE`, of these images (``data``), or as given, perhaps in
    words (`read_pair`).  Raises: SettingsError for anything else."""
    channels = x.shape[1]
    if isinstance(normalise, str) and normalise == "data":
        sample = x[:: max(1, len(x) // 2000)]
        if x.is_floating_point():
            sample = sample.double() / 255
            return sample.mean((0, 2, 3)).float(), sample.std((0, 2, 3)).clamp_min(1e-3).float()
        counts = sum(levels(part) for part in sample.split(100)).double()  # exact, without a float copy
        level, count = torch.arange(256).double() / 255, counts.sum(1)
        mean = counts @ level / count
        variance = (counts * (level - mean[:, None]).square()).sum(1) / (count - 1)
        return mean.float(), variance.sqrt().clamp_min(1e-3).float()
    try:
        # torchvision's Normalize; a preset (weights.transforms()) has these as well, but also resizes and cuts
        like = type(normalise).__name__ == "Normalize" and isinstance(normalise.std, list | tuple)
        pair = (normalise.mean, normalise.std) if like else normalise
        if isinstance(normalise, str):
            pair = NORMALISE[normalise] if normalise in NORMALISE else read_pair(normalise)
        mean, std = (torch.as_tensor(value, dtype=torch.float32).flatten() for value in pair)
        mean, std = ((v.mean() if channels == 1 else v).expand(channels) for v in (mean, std))
        if not (((0 <= mean) & (mean <= 1)).all() and ((0 < std) & (std <= 1)).all()):
            raise ValueError
    except (SyntaxError, TypeError, ValueError, RuntimeError):
        remedy = f"or give (mean, std) of {channels} channels in [0, 1], std above 0, e.g. '0.5,0.5,0.5; 0.2,0.2,0.2'"
        names = ", ".join([*NORMALISE, "data"])
        raise SettingsError(f"normalise is {normalise!r}: choose from {names}, {remedy}") from None
    return mean.clone(), std.clone()


def pool_parts(name, classes, train, test, normalise, device, whole=None) -> Images:
    r"""Training and test images (or None) in one pool; test images with the pixels of a training image are left out.

    Args:
        normalise: see `moments`; None: by imagenet.
        whole: a tensor in which training and test images lie one after the other, if they do.
    Raises: SettingsError where their kinds differ, a class has no training image, or no test image is left.
    """
    parts = [train] if test is None else [train, test]
    ours, theirs = (kind(part.x[0]) for part in (train, parts[-1]))
    if ours != theirs:
        raise SettingsError(f"training images are {ours}, test images {theirs}: give one size and type")
    if train.x.is_floating_point():
        small, *_, large = sorted([*(float(part.x[:2000].std()) for part in parts)] * 2)
        if large > _SCALE * small:
            told = f"standard deviations of training and test images are {small:.3g} and {large:.3g}, or the other way"
            raise SettingsError(f"{told}: prepare both alike (levels divided by 255 or not)")
        ours, theirs = (_levels(part.x) for part in (train, parts[-1]))
        if ours and theirs and not _same_levels(*ours, *theirs):
            told = f"an 8-bit level is a step of {ours[0]:.5f} in training images and of {theirs[0]:.5f} in test images"
            raise SettingsError(f"{told}, or begins elsewhere: normalise both by the same mean and deviation")
    if abs(train.resized - parts[-1].resized) > _ALIKE:
        told = " and ".join(f"{100 * part.resized:.0f} %" for part in parts)
        logging.getLogger("megu").warning(
            f"{told} of the training and of the test images are resized: an attack may tell them apart by that alone;"
            " prepare both alike"
        )
    if empty := set(range(len(classes))).difference(train.y.tolist()):
        what = f"no training image is of class {classes[min(empty)]!r}"
        raise SettingsError(f"{what}: give some (of retained classes a sample is enough), or cut off its output")
    if test is not None:
        parts[1] = _unseen(train, test)
        if absent := sorted(set(range(len(classes))).difference(parts[1].y.tolist())):
            told = f"no test image is of {', '.join(repr(classes[k]) for k in absent[:6])}{', ...' * (len(absent) > 6)}"
            logging.getLogger("megu").warning(f"{told}: what is measured on test images says nothing of them")
    y = torch.cat([part.y for part in parts])
    x = torch.cat([part.x for part in parts]) if whole is None else whole[: len(y)]
    fine_classes, fine = classes, y
    if train.sub is not None:
        sub = [name for part in parts for name in part.sub or [classes[k] for k in part.y.tolist()]]
        fine_classes = tuple(sorted(set(sub)))
        fine = torch.tensor([fine_classes.index(name) for name in sub])
    if x.is_floating_point() and normalise is not None:
        told = "normalise is applied to 8-bit images alone: these are float, and taken as they come; if they lack it,"
        logging.getLogger("megu").warning(f"{told} let the Dataset normalise them, or give uint8 images")
    usual = (0.5, 0.25) if x.is_floating_point() and x.shape[1] not in (1, 3) else "imagenet"  # of float: to show them
    mean, std = moments(usual if normalise is None else normalise, x[: len(train.y)])
    if x.is_floating_point() and 0 <= float(x.min()) and float(x.max()) <= 1:
        mean, std = torch.zeros_like(mean), torch.ones_like(std)  # shown as they are
    x, y, fine, mean, std = (value.to(device) for value in (x, y, fine, mean, std))
    return Images(name, x, y, fine, classes, fine_classes, len(train.y), mean, std)


def _levels(x):
    # (step, place of 0 within one) of the first channel, where its values are levels of 8 bits, and so many that two
    # are neighbours, unlike in drawings of a few colours; else None
    values = x[:: max(1, len(x) // 50), 0].double().unique()
    if not 64 <= len(values) <= 256:
        return None
    step = float(values.diff().min())
    places = values / step
    places -= (first := places[0].item())
    return (step, first % 1) if (places - places.round()).abs().max() < 0.01 else None


def _same_levels(step, zero, other_step, other_zero):
    ratio = max(step, other_step) / min(step, other_step)  # above 1, of images with every second level alone
    off = abs(zero - other_zero) if round(ratio) == 1 else 0.0
    return abs(ratio - round(ratio)) < 1e-3 and min(off, 1 - off) < 0.02


def _unseen(train, test):
    if not (twins := same_pixels(*((image_hash(x.cpu().numpy(), "") for x in part.x) for part in (train, test)))):
        return test
    at, of = next(iter(twins.items()))
    what = f"{len(twins)} of {len(test.y)} test images are training images, pixel by pixel"
    what += f" (test image {test.ids[at]} = training image {train.ids[of]})"
    if len(twins) == len(test.y):
        raise SettingsError(f"{what}: give images that the model has not seen, or none")
    logging.getLogger("megu").warning(f"{what}; these are left out")
    keep = [i for i in range(len(test.y)) if i not in twins]
    for to, i in enumerate(keep):  # in place: there may be no memory for a copy
        test.x[to] = test.x[i]
    sub, ids = (values and tuple(values[i] for i in keep) for values in (test.sub, test.ids))
    return ImagePart(test.x[: len(keep)], test.y[keep], sub, ids, test.resized)


def as_pictures(images, index) -> Images:
    r"""Images ``index`` as uint8 in a pool of their own, for guides."""
    x = images.x[index]
    if x.is_floating_point():
        x = (images.restore(x) * 255).round().to(torch.uint8)
    return replace(images, x=x, y=images.y[index], fine=images.fine[index], num_train=len(index))
