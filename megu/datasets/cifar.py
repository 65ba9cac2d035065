r"""CIFAR from the archive of its makers, from the hub, or from an ``.npz``."""

import io
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image
from tqdm import tqdm

from megu.datasets.download import fetch
from megu.datasets.npz import read_npz
from megu.settings.class_names import known_names
from megu.settings.errors import SettingsError
from megu.settings.files import hash_file, project_root


def read_cifar(data):
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
        return _from_npz(data if not found else data.model_copy(update={"path": str(found[0])}), fine)
    train, test = (
        _from_hub(fine)
        if data.source == "hub"
        else _from_torchvision(fine, Path(data.path) if data.path else project_root() / "data")
    )
    return train, test, *known_names(fine)


def _from_npz(data, fine):
    (train, test, held, grouped), (names, coarse), file = read_npz(data), known_names(fine), Path(data.path).name
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
    if path.name == kind.filename and path.is_file() and (found := hash_file(path, "md5")) != kind.tgz_md5:
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


def _from_torchvision(fine, path):
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


def _from_hub(fine):
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
