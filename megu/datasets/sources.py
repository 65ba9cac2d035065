r"""Where images come from: the embedded set, CIFAR, a folder, an ``.npz``; CIFAR is checked by its content."""

import io
import json
import warnings
from importlib.resources import files

import numpy as np
from PIL import Image
from tqdm import tqdm

from megu.datasets import identity
from megu.datasets.cifar import read_cifar
from megu.datasets.images import Images, by_superclass, pool
from megu.datasets.npz import existing_path, fits_memory, read_npz  # noqa: F401
from megu.settings.class_names import known_names
from megu.settings.config import Settings
from megu.settings.errors import SettingsError
from megu.settings.files import hash_bytes
from megu.settings.values import check_class_names


def load(settings: Settings, device="cpu") -> Images:
    r"""The `megu.datasets.images.Images` that a run asks for, with the names that its classifier uses.

    Args:
        settings: `megu.settings.config.Settings`; ``data.name`` chooses, ``data.path`` is needed for ``folder`` and
            ``npz``.
        device: of the tensors.
    Raises: SettingsError where data are missing, damaged or not what they are called, or a class to forget does not
        exist in them.
    """
    read = {"fashion-mini": _embedded, "folder": _folder, "npz": read_npz}.get(settings.data.name, read_cifar)
    train, test, names, coarse = read(settings.data)
    images = pool(settings.data.name, train, test, names, device)
    if settings.label_level == "superclass":
        images = by_superclass(images, coarse)
    identity.check(images)
    if settings.forget.scenario != "random":
        known = images.classes if settings.forget.scenario == "class" else images.fine_classes
        check_class_names(settings.forget.classes, known, images.name)
    return images


def _embedded(_):
    folder = files("megu.datasets") / "assets"
    content = (folder / "fashion_mini.npz").read_bytes()
    expected = json.loads((folder / "fashion_mini.json").read_text())["sha256"]
    if hash_bytes(content) != expected:
        raise SettingsError(
            "asset fashion_mini.npz is damaged (wrong hash): `git checkout megu/assets`, or install megu again"
        )
    arrays = np.load(io.BytesIO(content), allow_pickle=False)
    names, coarse = known_names("fashion-mini")
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"]), names, coarse


def picture(file, size=None, mode="RGB"):
    r"""One image file as an array.

    Args:
        file: path.
        size: (height, width) to be resized to, or None.
        mode: ``RGB``, or ``L`` for grey.
    Returns: ``(H, W, 3)`` or ``(H, W)`` uint8; 16-bit images keep their upper 8 bits, CMYK and palettes are converted.
    Raises: SettingsError naming folder and file where it is truncated, no image, of a kind without 8-bit meaning, under
        2 or over 89 million pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                if min(image.size) < 2 or image.mode in ("I", "F"):
                    raise ValueError(f"{image.width} x {image.height} pixels of mode {image.mode}")
                if image.mode.startswith("I;16"):
                    image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
                image = image.convert(mode)
                return np.asarray(image if size is None else image.resize(size[::-1], Image.Resampling.BILINEAR))
    except Exception as error:  # a damaged file makes the readers of its format fail in their own ways
        raise SettingsError(
            f"{file.parent.name}/{file.name} is not a readable image ({error}): remove or replace it"
        ) from None


def _folder(data):
    root = existing_path(data, "a folder with train/<class>/*.png and test/<class>/*.png")
    names, tested = (
        tuple(sorted(path.name for path in (root / part).glob("[!.]*") if path.is_dir())) for part in ("train", "test")
    )
    if len(names) < 2:
        raise SettingsError(
            f"{root.name}/train has {len(names)} class folders: make one folder of images per class, at least two"
        )
    if other := [name for name in tested if name not in names]:
        raise SettingsError(
            f"{root.name}/test has the class folder {other[0]!r}, which {root.name}/train lacks: rename it, or give"
            " training images of it"
        )
    size = data.size or 32

    def part(which):
        found = [
            (file, k)
            for k, name in enumerate(names)
            for file in sorted((root / which / name).glob("*"))
            if file.is_file()
        ]
        if which == "train" and (empty := set(range(len(names))).difference(k for _, k in found)):
            raise SettingsError(
                f"{root.name}/train/{names[min(empty)]} holds no images: put some into it, or remove the folder"
            )
        images = []
        for file, _ in tqdm(found, desc=f"{which} images", unit="image"):
            images.append(picture(file, (size, size)))
        if not images:
            raise SettingsError(f"{root.name}/{which} holds no images: put them into {which}/<class>/")
        return np.stack(images), np.array([k for _, k in found])

    return part("train"), part("test"), names, ()
