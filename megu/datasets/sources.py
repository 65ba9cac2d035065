r"""Where images come from: the embedded set, CIFAR, a folder, an ``.npz``; CIFAR is checked by its content."""

import io
import json
from importlib.resources import files

import numpy as np

from megu.datasets import identity
from megu.datasets.cifar import read_cifar
from megu.datasets.folder import find_classes
from megu.datasets.images import Images, by_superclass, pool
from megu.datasets.npz import existing_path, read_npz
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
            "asset fashion_mini.npz is damaged (wrong hash): `git checkout megu/datasets/assets`, or install megu again"
        )
    arrays = np.load(io.BytesIO(content), allow_pickle=False)
    names, coarse = known_names("fashion-mini")
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"]), names, coarse


def _folder(data):
    root = existing_path(data, "a folder with train/<class>/*.png and test/<class>/*.png")
    found = find_classes(root, size=data.size)
    if found.test is None:
        raise SettingsError(f"{root.name!r} has no folders train and test beside each other: make both")
    parts = (found.read(found.train), found.read(found.test))
    return *((part.x.permute(0, 2, 3, 1).numpy(), part.y.numpy()) for part in parts), found.classes, ()
