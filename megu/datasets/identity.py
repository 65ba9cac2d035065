r"""What data are: a hash of their content in any order, and what is publicly known of CIFAR."""

import json
from functools import cache
from importlib.resources import files

import torch

from megu.datasets.images import image_hash, levels
from megu.settings.errors import SettingsError

CIFAR = {"cifar10": "cifar10", "cifar20": "cifar100", "cifar100": "cifar100"}  # data.name -> whose images
SHAPE = (3, 32, 32)


def content_hash(images, part):
    r"""$\sum_i h_i \bmod 2^{128}$ over the `image_hash` of each image of ``train`` or ``test``, 32 hex digits; against
    accidents, not forgers."""
    index = _index(images, part)
    pairs = zip(images.x[index].cpu().numpy(), images.fine[index].tolist(), strict=True)
    return f"{sum(int(image_hash(x, images.fine_classes[k]), 16) for x, k in pairs) % 2**128:032x}"


def _index(images, part):
    return slice(images.num_train) if part == "train" else slice(images.num_train, None)


@cache
def facts(name):
    r"""Of a CIFAR, else nothing: part -> number of ``images``, ``sums`` of pixel values and of their ``squares`` by
    channel, ``witnesses`` (class -> first 16 digits of the nameless `image_hash` of one image)."""
    known = json.loads((files("megu.datasets") / "assets" / "cifar.json").read_text())
    return known.get(CIFAR.get(name), {})


def counts(name):
    r"""(training images, test images) of a whole CIFAR."""
    return tuple(facts(name)[part]["images"] for part in ("train", "test"))


def described(images):
    r"""A note for the manifest: name, classes, shape, mean, std; part -> number of ``images``, ``content`` (its
    `content_hash`), of CIFAR how much is there (``official``)."""
    out = {"name": images.name, "classes": list(images.classes), "shape": list(images.shape)}
    out |= {"mean": images.mean.tolist(), "std": images.std.tolist()}
    for part in ("train", "test"):
        count = len(images.x[_index(images, part)])
        out[part] = {"images": count, "content": content_hash(images, part)}
        if known := facts(images.name).get(part):
            whole = known["images"]
            out[part]["official"] = "complete" if count == whole else f"subset, {count} of {whole} images"
    return out


def check(images, known=None):
    r"""Refuse CIFAR images that are not CIFAR's; ``known``: by default the `facts` of their name.

    A complete part has as many images of each class and superclass, the sums of pixel values and of squares by channel,
    and one known image in every class; a subset at most as many images, its known ones in their classes.  Two swapped
    labels are not found: compare ``content``.

    Raises: SettingsError with what differs.
    """
    name = images.name
    if name in CIFAR and images.shape != SHAPE:
        raise SettingsError(f"images of {name} are {SHAPE} (C, H, W), not {images.shape}: use data.name npz or folder")
    for part, fact in (facts(name) if known is None else known).items():
        if differs := _difference(images, part, fact):
            what = f"the {part} images are not those of {name}: {differs}"
            raise SettingsError(f"{what}; get them again, or use data.name npz")


def _difference(images, part, fact):
    index, count = _index(images, part), fact["images"]
    x, complete = images.x[index], len(images.x[index]) == count
    for labels, names in ((images.fine, images.fine_classes), (images.y, images.classes)):
        most = count // len(names)
        for name, found in zip(names, labels[index].bincount(minlength=len(names)).tolist(), strict=True):
            if found > most or (complete and found != most):
                return f"class {name!r} has {found} images, not {most}{'' if complete else ' at most'}"
    if complete:
        counts, level = levels(x).double(), torch.arange(256).double()  # integers below 2^53: exact
        for what, power in (("sums", 1), ("squares", 2)):
            found = [int(total) for total in (counts @ level**power).tolist()]
            if found != fact[what]:
                return f"the {what} of the pixel values by channel are {found}, not {fact[what]}"
    class_of, held = {witness: name for name, witness in fact["witnesses"].items()}, {}
    for pixels, k in zip(x.cpu().numpy(), images.fine[index].tolist(), strict=True):
        if known := class_of.get(image_hash(pixels, "")[:16]):
            held.setdefault(known, []).append(images.fine_classes[k])
    lost = [name for name in class_of.values() if name not in held.get(name, () if complete else (name,))]
    if len(lost) < (1 if complete else 2):  # one of a subset may be a twin: half of CIFAR-100 has three such pairs
        return ""
    where = f"in class {held[lost[0]][0]!r}" if lost[0] in held else "not there"
    return f"the image known to be in class {lost[0]!r} is {where} (so in {len(lost)} of {len(class_of)} classes)"
