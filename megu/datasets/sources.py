r"""Where images come from: the embedded set, CIFAR from two hosts, a folder, an ``.npz``; CIFAR is checked by its
content."""

import hashlib
import io
import json
import warnings
import zipfile
import zlib
from contextlib import suppress
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path

import numpy as np
import psutil
from filelock import FileLock
from PIL import Image
from tqdm import tqdm

from megu.datasets import identity
from megu.datasets.download import digest, fetch
from megu.datasets.images import by_superclass, pool
from megu.settings.class_names import known_names
from megu.settings.errors import SettingsError
from megu.settings.files import project_root
from megu.settings.values import check_class_names


def load(settings, device="cpu"):
    r"""The `megu.datasets.images.Images` that a run asks for, with the names that its classifier uses.

    Args:
        settings: `megu.settings.config.Settings`; ``data.name`` chooses, ``data.path`` is needed for ``folder`` and
            ``npz``.
        device: of the tensors.
    Raises: SettingsError where data are missing, damaged or not what they are called, or a class to forget does not
        exist in them.
    """
    read = {"fashion-mini": _embedded, "folder": _folder, "npz": _npz}.get(settings.data.name, _cifar)
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
    if hashlib.sha256(content).hexdigest() != expected:
        raise SettingsError(
            "asset fashion_mini.npz is damaged (wrong hash): `git checkout megu/assets`, or install megu again"
        )
    arrays = np.load(io.BytesIO(content), allow_pickle=False)
    names, coarse = known_names("fashion-mini")
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"]), names, coarse


def _existing(data, what):
    path = Path(data.path or "")
    if not data.path or not path.exists():
        raise SettingsError(f"data.path is {data.path!r}, which does not exist: set it to {what}")
    return path


def _npz(data):
    path = _existing(data, "an .npz with x_train, y_train, x_test, y_test, class_names")
    try:
        with zipfile.ZipFile(path) as archive:
            fits_memory(
                1,
                sum(member.file_size for member in archive.infolist()),
                f"{path.name} is damaged, or too large for this machine",
            )
        with np.load(path, allow_pickle=False) as arrays:
            parts = {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SettingsError(
            f"{path.name} cannot be read ({error}): give a complete .npz without pickled objects"
        ) from None
    missing = {"x_train", "y_train", "x_test", "y_test", "class_names"} - set(parts)
    if missing:
        raise SettingsError(f"{path.name} lacks {', '.join(sorted(missing))}")
    names, coarse = _names(parts, "class_names", path.name), ()
    if {"fine_to_coarse", "coarse_names"} <= set(parts):
        supers, of = _names(parts, "coarse_names", path.name), parts["fine_to_coarse"]
        if of.shape != (len(names),) or of.dtype.kind not in "iu" or of.min() < 0 or of.max() >= len(supers):
            held = f"{of.min()} to {of.max()}, {of.dtype}" if of.size and of.dtype.kind in "iuf" else of.dtype
            raise SettingsError(
                f"{path.name}: fine_to_coarse is {held} of shape {of.shape}; give {len(names)} integers from 0 to"
                f" {len(supers) - 1}, for each of class_names its position in coarse_names"
            )
        coarse = tuple(supers[k] for k in of)
    return (parts["x_train"], parts["y_train"]), (parts["x_test"], parts["y_test"]), names, coarse


def _names(parts, key, file):
    names = parts[key]
    if names.ndim != 1 or len(names) < 2 or names.dtype.kind not in "Uiu":
        raise SettingsError(
            f"{file}: {key} is {names.dtype} of shape {names.shape}; give at least two names, strings of shape (K,)"
        )
    return tuple(str(name).replace("_", " ") for name in names)


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


def fits_memory(count, size, what):
    r"""Raise SettingsError where ``count`` times ``size`` bytes are more than this machine has left; ``what`` says what
    to do instead."""
    free = psutil.virtual_memory().available
    if count * size > 0.9 * free:
        raise SettingsError(
            f"{count * size / 1e9:.1f} GB of images do not fit into the {free / 1e9:.1f} GB of memory that are free:"
            f" {what}"
        )


def _folder(data):
    root = _existing(data, "a folder with train/<class>/*.png and test/<class>/*.png")
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


def _cifar(data):
    """CIFAR-10, or CIFAR-100 with its superclasses; ``data.path``: an .npz, the archive, or a folder of the archive or
    of cifar10*.npz, cifar100*.npz."""
    fine = "cifar10" if data.name == "cifar10" else "cifar100"
    found = (
        [file for file in sorted(Path(data.path).glob(f"{fine}*.npz")) if not file.stem[len(fine) :][:1].isdigit()]
        if data.path
        else []
    )
    if len(found) > 1:
        raise SettingsError(
            f"{Path(data.path).name!r} holds {' and '.join(file.name for file in found)}: set data.path to one of them"
        )
    if found or (data.path and data.path.endswith(".npz")):
        return _cifar_npz(data if not found else data.model_copy(update={"path": str(found[0])}), fine)
    train, test = (
        _cifar_hub(fine)
        if data.source == "hub"
        else _cifar_torchvision(fine, Path(data.path) if data.path else project_root() / "data")
    )
    return train, test, *known_names(fine)


def _cifar_npz(data, fine):
    (train, test, held, grouped), (names, coarse), file = _npz(data), known_names(fine), Path(data.path).name
    if held != names:
        k, *pair = next((k, a, b) for k, (a, b) in enumerate(zip_longest(held, names, fillvalue="none")) if a != b)
        fits = next((name for name in ("cifar10", "cifar100") if known_names(name)[0] == held), "npz")
        raise SettingsError(
            f"{file} has {len(held)} classes, not the {len(names)} of {data.name} in their order (class {k} is"
            f" {pair[0]!r}, not {pair[1]!r}): set data.name to {fits}, or data.path to images of {data.name}"
        )
    if grouped and coarse and not len({*zip(grouped, coarse, strict=True)}) == len({*grouped}) == len({*coarse}):
        raise SettingsError(
            f"{file} groups the classes otherwise than {data.name}: leave fine_to_coarse out, or use data.name npz"
        )
    return train, test, names, grouped or coarse  # their own names of the superclasses, which may be spelled otherwise


def _downloads(path, kind):
    # The folder in which torchvision looks for the archive or what was unpacked from it; nothing is made at a place
    # that was mistyped.
    if path.name == kind.filename and path.is_file() and (found := digest(path)) != kind.tgz_md5:
        raise SettingsError(
            f"data.path is {str(path)!r}, which is not the archive as published (MD5 {found}, not {kind.tgz_md5}): get"
            " it again"
        )
    if path.name in (kind.filename, kind.base_folder) and path.exists():
        return path.parent
    if path.is_dir() or (not path.exists() and not path.suffix and path.parent.is_dir()):
        return path
    why = "is a file of another kind" if path.exists() else "does not exist"
    raise SettingsError(
        f"data.path is {str(path)!r}, which {why}: set it to an .npz, to {kind.filename}, or to a folder for it in one"
        " that exists"
    )


def _cifar_torchvision(fine, path):
    import torchvision  # noqa: PLC0415  (slow import, rarely needed)

    kind = torchvision.datasets.CIFAR10 if fine == "cifar10" else torchvision.datasets.CIFAR100
    root = _downloads(path, kind)

    def read(unpack=False):  # checks the MD5 sums of archive and members before it reads them
        parts = [kind(root, train=train, download=unpack) for train in (True, False)]
        return tuple((part.data, np.array(part.targets)) for part in parts)

    with suppress(RuntimeError):
        return read()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{kind.filename}.lock"):
            with suppress(RuntimeError):
                return read()  # another process was faster
            fetch(
                kind.url,
                root / kind.filename,
                kind.tgz_md5,
                "set data.source to 'hub', or data.path to an .npz or a folder that holds the archive",
            )
            return read(unpack=True)
    except OSError as error:
        raise SettingsError(
            f"{fine} cannot be kept in {root.name!r} ({error.strerror or error}): set data.path to a folder that can be"
            " written"
        ) from None


def _cifar_hub(fine):
    import pandas as pd  # noqa: PLC0415
    from huggingface_hub import hf_hub_download  # noqa: PLC0415

    folder, column = ("plain_text", "label") if fine == "cifar10" else ("cifar100", "fine_label")

    def part(which):
        try:
            file = hf_hub_download(f"uoft-cs/{fine}", f"{folder}/{which}-00000-of-00001.parquet", repo_type="dataset")
            table = pd.read_parquet(file)
        except (OSError, ImportError, ValueError) as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise SettingsError(
                f"{fine} could not be had from the hub ({why}): check the network, `pip install pyarrow`, or set"
                " data.path to an .npz"
            ) from None
        pixels = table[[c for c in table.columns if c in ("img", "image")][0]]
        images = [
            np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB"))
            for cell in tqdm(pixels, desc=f"{which} images", unit="image")
        ]
        return np.stack(images), table[column].to_numpy()

    return part("train"), part("test")
