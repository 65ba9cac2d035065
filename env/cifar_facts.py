r"""Builds megu/datasets/assets/cifar.json, what `megu.datasets.identity` knows of the whole CIFAR: `python
env/cifar_facts.py FOLDER`.

Sums of the pixel values and of their squares come from the moments of each channel that public code gives to full
    double precision: a mean times 255 times the number of pixels must be a whole number, which no wrong digit would
    give. The test images of CIFAR-100 are all 60,000 less the
training images. FOLDER holds real, perhaps incomplete CIFAR arrays (cifar10_small.npz, cifar100_medium.npz); the first
image of each class is the witness.
"""

import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

from megu.datasets.images import image_hash

ASSETS = Path(__file__).parents[1] / "megu" / "datasets" / "assets"
PIXELS = 32 * 32
PUBLISHED = {  # data set -> part -> (images, mean, standard deviation of each channel)
    "cifar10": {
        "train": (50_000, ("0.49139967861519607", "0.48215840839460783", "0.44653091444546567"),
            ("0.2470322324632819", "0.24348512800005573", "0.26158784172796434")),
        "test": (10_000, ("0.4942142800245098", "0.4851313890165441", "0.4504090927542892"),
            ("0.24665251509498004", "0.24289226346005355", "0.26159237802202373")),
    },
    "cifar100": {
        "train": (50_000, ("0.5070751592371323", "0.48654887331495095", "0.4409178433670343"),
            ("0.26733428587924035", "0.2564384629170881", "0.2761504713256853")),
        "test": (10_000, ("0.5087964127604166", "0.48739301317401956", "0.44194221124387256"),
            ("0.2682515741720806", "0.2573637364478126", "0.2770957707973048")),
    },
}  # fmt: skip
FILES = {"cifar10": "cifar10_small.npz", "cifar100": "cifar100_medium.npz"}


def whole(value):
    """The integer that a published number stands for; more than a hundredth away from one, the number is wrong."""
    near = round(value)
    if abs(value - near) > 0.01:
        sys.exit(f"{float(value)} is no whole number: the published moments are not those of 8-bit images")
    return near


def sums(count, mean, std):
    """Exact sums of pixel values and of their squares, one for each channel."""
    n = count * PIXELS
    first = [whole(Fraction(m) * 255 * n) for m in mean]
    second = [
        whole((Fraction(s) ** 2 + Fraction(f, 255 * n) ** 2) * 255**2 * n) for f, s in zip(first, std, strict=True)
    ]
    return {"sums": first, "squares": second}


def witnesses(arrays, part):
    """First sixteen digits of the hash, without a name, of the first image of each class."""
    names = [str(name).replace("_", " ") for name in arrays["class_names"]]
    x, y = arrays[f"x_{part}"].transpose(0, 3, 1, 2), arrays[f"y_{part}"]
    return {name: image_hash(x[np.flatnonzero(y == k)[0]], "")[:16] for k, name in enumerate(names)}


def main(folder):
    facts = {}
    for name, parts in PUBLISHED.items():
        arrays = np.load(folder / FILES[name], allow_pickle=False)
        facts[name] = {
            part: {"images": given[0], **sums(*given), "witnesses": witnesses(arrays, part)}
            for part, given in parts.items()
        }
    (ASSETS / "cifar.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"cifar.json: {(ASSETS / 'cifar.json').stat().st_size / 1e3:.1f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
