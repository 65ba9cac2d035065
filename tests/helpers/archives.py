"""Files of images: the same few as each source of CIFAR-10 would give them, and the embedded ones."""

import hashlib
import io
import tarfile
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pandas as pd
from PIL import Image
from torchvision.datasets import CIFAR10 as OFFICIAL

from megu.datasets.sources import load
from megu.settings.class_names import CIFAR10
from megu.settings.profiles import resolve


def random_parts():
    """part -> (images (n, 32, 32, 3), labels): 20 to train on, 10 to test."""
    draw = np.random.default_rng(1).integers
    return {p: (draw(0, 256, (n, 32, 32, 3), np.uint8), np.arange(n) % 10) for p, n in (("train", 20), ("test", 10))}


def archive(parts, monkeypatch, url="nowhere"):
    """The bytes of an archive in torchvision's format; torchvision takes it for the official one."""
    members = {"batches.meta": {"label_names": list(CIFAR10)}}
    for (x, y), name in zip(parts.values(), ("data_batch_1", "test_batch"), strict=True):
        members[name] = {"data": x.transpose(0, 3, 1, 2).reshape(len(x), -1), "labels": y.tolist()}
    listed = []
    with tarfile.open(fileobj=(whole := io.BytesIO()), mode="w:gz") as tar:
        for name, content in members.items():
            data = bytes(ForkingPickler.dumps(content))
            (info := tarfile.TarInfo(f"cifar-10-batches-py/{name}")).size = len(data)
            tar.addfile(info, io.BytesIO(data))
            listed.append([name, hashlib.md5(data).hexdigest()])
    meta, train, test = listed
    about = {"url": url, "tgz_md5": hashlib.md5(whole.getvalue()).hexdigest(), "train_list": [train]}
    for name, value in (about | {"test_list": [test], "meta": {**OFFICIAL.meta, "md5": meta[1]}}).items():
        monkeypatch.setattr(OFFICIAL, name, value)
    return whole.getvalue()


def parquet(parts, folder):
    """Tables as of the hub, one for each part; another order than the archive's."""
    for part, (x, y) in parts.items():
        cells = []
        for image in x[::-1]:
            Image.fromarray(image).save(file := io.BytesIO(), "PNG")
            cells.append({"bytes": file.getvalue(), "path": None})
        pd.DataFrame({"img": cells, "label": y[::-1]}).to_parquet(folder / f"{part}.parquet")


def folders(parts, folder):
    """One folder of PNG files for each class."""
    for part, (x, y) in parts.items():
        for i, (image, k) in enumerate(zip(x, y, strict=True)):
            (place := folder / part / CIFAR10[k]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{i:03d}.png")


def npz(parts, file):
    """Arrays, in a third order."""
    save({part: (np.roll(x, 3, 0), np.roll(y, 3)) for part, (x, y) in parts.items()}, file, CIFAR10)


def save(parts, file, classes):
    """An .npz as ``data.path`` takes it; a dictionary of classes names their superclasses."""
    arrays = {f"x_{part}": x for part, (x, _) in parts.items()} | {f"y_{part}": y for part, (_, y) in parts.items()}
    if isinstance(classes, dict):
        coarse = list(dict.fromkeys(classes.values()))
        arrays |= {"coarse_names": coarse, "fine_to_coarse": [coarse.index(name) for name in classes.values()]}
    np.savez(file, **arrays, class_names=list(classes))


def embedded(change, train=400, test=100):
    """part -> (pixels, as ``change`` makes them, labels) of the first embedded images."""
    images, places = load(resolve()), {"train": slice(train), "test": slice(10_000, 10_000 + test)}
    return {part: (change(images.x[place]), images.y[place]) for part, place in places.items()}


def loaded(name, path=None, **settings):
    """The images of a source; nothing in them needs a name that a request asks for."""
    where = {"data.name": name} if path is None else {"data.name": name, "data.path": str(path)}
    return load(resolve(overrides={**where, "forget.scenario": "random", **settings}))
