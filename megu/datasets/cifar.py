r"""CIFAR from the archive of its makers, from the hub, from an ``.npz``, or from folders of images."""

import io
import re
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image
from tqdm import tqdm

from megu.datasets.download import fetch
from megu.datasets.folder import find_classes
from megu.datasets.identity import CIFAR, SHAPE
from megu.datasets.npz import read_npz
from megu.settings.class_names import known_names
from megu.settings.errors import SettingsError
from megu.settings.files import hash_file, project_root
from megu.settings.values import closest


def read_cifar(data):
    """CIFAR-10, or CIFAR-100 with its superclasses; ``data.path``: an .npz, the archive, a folder of either, or folders
    ``train/<class>/*.png`` and ``test/<class>/*.png``, perhaps with superclasses above the classes."""
    fine, path = CIFAR[data.name], Path(data.path) if data.path else project_root() / "data"
    files = sorted(path.glob(f"{fine}*.npz")) if data.path else []
    found = [path] if path.suffix == ".npz" else [file for file in files if not re.match(rf"{fine}\d", file.name)]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise SettingsError(f"{path.name!r} holds {names}: set data.path to one of them")
    if found:
        return _from_npz(str(found[0]), data.name, fine)
    if data.path and (path / "train").is_dir():
        return *_from_folders(path, fine), *known_names(fine)
    if data.path and data.source == "hub":
        raise SettingsError(f"data.path is {data.path!r}, but data.source is hub: leave one of them out")
    parts = _from_hub(fine) if data.source == "hub" else _from_torchvision(fine, path)
    return *parts, *known_names(fine)


def _from_npz(path, name, fine):
    (*parts, held, grouped), (names, coarse), file = read_npz(path), known_names(fine), Path(path).name
    if held != names and {*held} == {*names}:
        parts = [(x, _renumbered(y, held, names)) for x, y in parts]
        held, grouped = names, grouped and tuple(grouped[held.index(name)] for name in names)
    if held != names:
        pairs = enumerate(zip_longest(held, names, fillvalue="none"))
        k, a, b = next((k, a, b) for k, (a, b) in pairs if a != b)
        fits = {known_names(other)[0]: other for other in ("cifar10", "cifar100")}.get(held, "npz")
        what = f"{len(held)} classes, not the {len(names)} of {name} in their order (class {k} is {a!r}, not {b!r})"
        raise SettingsError(f"{file} has {what}: set data.name to {fits}, or data.path to images of {name}")
    if grouped and coarse and not len({*zip(grouped, coarse, strict=True)}) == len({*grouped}) == len({*coarse}):
        remedy = "leave fine_to_coarse out, or use data.name npz"
        raise SettingsError(f"{file} groups the classes otherwise than {name}: {remedy}")
    return *parts, names, grouped or coarse  # theirs may be spelled otherwise


def _renumbered(y, held, names):
    """Labels, positions in ``held``, as positions in ``names``; what is no position stays wrong."""
    place, good = np.array([names.index(name) for name in held]), y.dtype.kind in "iu" and len(y)
    return place[y] if good and y.min() >= 0 and y.max() < len(held) else y


def _from_folders(path, fine):
    found, (names, _) = find_classes(path), known_names(fine)
    if found.test is None or found.size != SHAPE[1:]:
        what = "no test folder" if found.test is None else "images that are not all 32 x 32 pixels"
        raise SettingsError(f"{path.name!r} has {what}: give {fine} whole, or set data.name to folder")
    parts = []
    for part in map(found.read, (found.train, found.test)):
        held = [found.classes[k] for k in part.y.tolist()] if part.sub is None else part.sub
        held = [name.rpartition("/")[2].replace("_", " ") for name in held]  # below superclasses, or not
        if unknown := {*held} - {*names}:
            raise SettingsError(closest(min(unknown), names, f"{path.name!r} has a class folder, but the {fine} class"))
        parts.append((part.x.permute(0, 2, 3, 1).numpy(), np.array([names.index(name) for name in held])))
    return parts


def _downloads(path, kind):
    """Where torchvision looks for the archive or what was unpacked from it; a mistyped folder is not made."""
    where, there = f"data.path is {str(path)!r}, which", path.exists()
    if path.name == kind.filename and path.is_file() and (found := hash_file(path, "md5")) != kind.tgz_md5:
        raise SettingsError(f"{where} is not the archive as published (MD5 {found}, not {kind.tgz_md5}): get it again")
    if there and path.name in (kind.filename, kind.base_folder):
        return path.parent
    if path.is_dir() or (not there and not path.suffix and path.parent.is_dir()):
        return path
    why = "is a file of another kind" if there else "does not exist"
    raise SettingsError(f"{where} {why}: set it to an .npz, to {kind.filename}, or to a folder in one that exists")


def _from_torchvision(fine, path):
    import torchvision  # noqa: PLC0415  (slow)

    kind = torchvision.datasets.CIFAR10 if fine == "cifar10" else torchvision.datasets.CIFAR100
    root = _downloads(path, kind)

    def read(unpack=False):  # it checks the MD5 sums first
        parts = [kind(root, train=train, download=unpack) for train in (True, False)]
        return [(part.data, np.array(part.targets)) for part in parts]

    with suppress(RuntimeError):
        return read()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{kind.filename}.lock"):
            with suppress(RuntimeError):
                return read()  # another process was faster
            otherwise = "set data.source to 'hub', or data.path to an .npz or a folder that holds the archive"
            fetch(kind.url, root / kind.filename, kind.tgz_md5, otherwise)
            return read(unpack=True)
    except OSError as error:
        what = f"{fine} cannot be kept in {root.name!r} ({error.strerror or error})"
        raise SettingsError(f"{what}: set data.path to a folder that can be written") from None


def _from_hub(fine):
    import pandas as pd  # noqa: PLC0415
    from huggingface_hub import hf_hub_download  # noqa: PLC0415

    folder, column = ("plain_text", "label") if fine == "cifar10" else ("cifar100", "fine_label")
    parts = []
    for which in ("train", "test"):
        try:
            file = hf_hub_download(f"uoft-cs/{fine}", f"{folder}/{which}-00000-of-00001.parquet", repo_type="dataset")
            table = pd.read_parquet(file)
        except (OSError, ImportError, ValueError) as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            remedy = "check the network, `pip install pyarrow`, or set data.path to an .npz"
            raise SettingsError(f"{fine} could not be had from the hub ({why}): {remedy}") from None
        cells = tqdm(table["img" if "img" in table else "image"], desc=f"{which} images", unit="image")
        images = [np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")) for cell in cells]
        parts.append((np.stack(images), table[column].to_numpy()))
    return parts
