r"""What data are, whatever order their images come in: a hash of their content, and what is publicly known of CIFAR."""

import json
from functools import cache
from importlib.resources import files

import torch

from megu.datasets.images import levels
from megu.settings.errors import SettingsError
from megu.settings.files import hash_bytes

CIFAR = {"cifar10": "cifar10", "cifar20": "cifar100", "cifar100": "cifar100"}  # data.name -> whose images they are
SHAPE = (3, 32, 32)  # of each of them


def image_hash(pixels, name):
    r"""SHA-256, 64 hex digits, of pixels ``(C, H, W)`` uint8 (numpy), their shape and the name of their class."""
    return hash_bytes(f"{name}|{pixels.shape}|", pixels.tobytes())


def image_hashes(images, part):
    r"""`image_hash` of every image of a part, ``train`` or ``test``, in their order."""
    index = _index(images, part)
    pairs = zip(images.x[index].cpu().numpy(), images.fine[index].tolist(), strict=True)
    return [image_hash(x, images.fine_classes[k]) for x, k in pairs]


def content_hash(hashes):
    r"""$\sum_i h_i \bmod 2^{128}$ over the `image_hash` of each image, 32 hex digits: the same in any order, another
    where a pixel, label or image differs.  It guards against accidents, not against forgers."""
    return f"{sum(int(one, 16) for one in hashes) % 2**128:032x}"


def _index(images, part):
    return slice(images.num_train) if part == "train" else slice(images.num_train, None)


@cache
def facts(name):
    r"""What is known of a CIFAR (nothing of other data): part -> number of ``images``, ``sums`` of pixel values and of
    their ``squares`` by channel, ``witnesses`` (class -> first digits of the `image_hash`, without a name, of one
    image)."""
    known = json.loads((files("megu.datasets") / "assets" / "cifar.json").read_text())
    return known.get(CIFAR.get(name), {})


def counts(name):
    r"""(training images, test images) of a whole CIFAR."""
    return tuple(facts(name)[part]["images"] for part in ("train", "test"))


def described(images):
    r"""A note for the manifest: name, classes, shape, mean and std; part -> number of ``images``, ``content`` (see
    `content_hash`) and, of CIFAR, how much of it is there (``official``)."""
    out = {"name": images.name, "classes": list(images.classes), "shape": list(images.shape)}
    out |= {"mean": images.mean.tolist(), "std": images.std.tolist()}
    for part in ("train", "test"):
        hashes = image_hashes(images, part)
        out[part] = {"images": len(hashes), "content": content_hash(hashes)}
        if known := facts(images.name).get(part):
            whole = len(hashes) == known["images"]
            out[part]["official"] = "complete" if whole else f"subset, {len(hashes)} of {known['images']} images"
    return out


def check(images, known=None):
    r"""Refuse CIFAR images that are not CIFAR's; ``known``: by default the `facts` of their name.

    A complete part has equally many images of each class (and superclass), the exact sums of pixel values and of their
    squares in each channel, and in every class one known image.  So one changed pixel is found, and classes in another
    order; two swapped labels are not: compare ``content`` with another source's.  Of a subset the number of images of
    each class is checked, and the classes of those known images that it holds.

    Raises: SettingsError with what differs.
    """
    meant = "where that is meant, use data.name npz"
    if images.name in CIFAR and images.shape != SHAPE:
        raise SettingsError(
            f"images of {images.name} are {SHAPE} (C, H, W), these are {images.shape}: {meant} or folder"
        )
    for part, fact in (facts(images.name) if known is None else known).items():
        if differs := _difference(images, part, fact):
            raise SettingsError(
                f"the {part} images are not those of {images.name}: {differs}; get them again, or, {meant}"
            )


def _difference(images, part, fact):
    index, count = _index(images, part), fact["images"]
    x, complete = images.x[index], len(images.x[index]) == count
    for labels, names in ((images.fine, images.fine_classes), (images.y, images.classes)):
        most = count // len(names)
        for name, found in zip(names, labels[index].bincount(minlength=len(names)).tolist(), strict=True):
            if found > most or (complete and found != most):
                return f"class {name!r} has {found} images, not {most}{'' if complete else ' at most'}"
    if complete:
        counts, level = levels(x).double(), torch.arange(256, dtype=torch.float64)  # integers below 2^53: exact
        for what, power in (("sums", 1), ("squares", 2)):
            found = [int(total) for total in (counts @ level**power).tolist()]
            if found != fact[what]:
                return f"the {what} of the pixel values by channel are {found}, not {fact[what]}"
    return _misplaced(x, [images.fine_classes[k] for k in images.fine[index].tolist()], fact["witnesses"], complete)


def _misplaced(x, names, witnesses, complete):
    # A subset may lack known images; one alone in another class may be a twin that the data set itself has there (half
    # of CIFAR-100 has three such pairs), while classes in another order move at least two.
    class_of, held = {witness: name for name, witness in witnesses.items()}, {}
    for pixels, name in zip(x.cpu().numpy(), names, strict=True):
        if known := class_of.get(image_hash(pixels, "")[:16]):
            held.setdefault(known, []).append(name)
    lost = [name for name in witnesses if name not in held.get(name, () if complete else (name,))]
    if len(lost) < (1 if complete else 2):
        return ""
    where = f"in class {held[lost[0]][0]!r}" if lost[0] in held else "not there"
    return f"the image known to be in class {lost[0]!r} is {where} (so in {len(lost)} of {len(witnesses)} classes)"
