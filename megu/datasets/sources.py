r"""Where images come from: the embedded set, CIFAR, a folder, an ``.npz``."""

import io
import json
from importlib.resources import files

import numpy as np

from megu.datasets import identity
from megu.datasets.cifar import read_cifar
from megu.datasets.folder import find_classes
from megu.datasets.images import Images, both_parts, by_superclass, pool
from megu.datasets.npz import existing_path, read_npz
from megu.settings.class_names import known_names
from megu.settings.config import Settings
from megu.settings.errors import SettingsError
from megu.settings.files import hash_bytes
from megu.settings.machine import absolute, from_environment
from megu.settings.values import check_class_names


def load(settings: Settings, device="cpu") -> Images:
    r"""The images that a run asks for, named as its classifier does.  Raises: SettingsError where they are missing,
    damaged, not what they are called, or lack a class to forget."""
    name = settings.data.name
    if name == "fashion-mini" and settings.data.path not in (None, _usual_path()):
        what = f"data.path is {settings.data.path!r}, but data.name is {name}, whose images are part of the package"
        raise SettingsError(f"{what}: set data.name as well, to folder, npz, cifar10, cifar20 or cifar100")
    read = {"fashion-mini": _embedded, "folder": _folder, "npz": lambda data: read_npz(data.path)}.get(name, read_cifar)
    train, test, names, coarse = read(settings.data)
    images = pool(name, train, test, names, device)
    if settings.label_level == "superclass":
        images = by_superclass(images, coarse)
    identity.check(images)
    if settings.forget.scenario != "random":
        known = images.classes if settings.forget.scenario == "class" else images.fine_classes
        check_class_names(settings.forget.classes, known, name)
    return images


def _usual_path():
    return absolute(from_environment().get("data", {}).get("path"))  # a machine's, meant for other runs


def _embedded(_):
    folder = files("megu.datasets") / "assets"
    content = (folder / "fashion_mini.npz").read_bytes()
    expected = json.loads((folder / "fashion_mini.json").read_text())["sha256"]
    if hash_bytes(content) != expected:
        raise SettingsError("fashion_mini.npz is damaged: `git checkout megu/datasets/assets`, or install megu again")
    return *both_parts(np.load(io.BytesIO(content), allow_pickle=False)), *known_names("fashion-mini")


def _folder(data):
    root = existing_path(data.path, "a folder with train/<class>/*.png and test/<class>/*.png")
    found = find_classes(root, size=data.size)
    if found.test is None:
        raise SettingsError(f"{root.name!r} lacks train or test: make both folders (or name both in the .csv)")
    parts = map(found.read, (found.train, found.test))
    return *((part.x.permute(0, 2, 3, 1).numpy(), part.y.numpy()) for part in parts), found.classes, ()
