"""The same few images as each source of CIFAR-10 would give them."""

import hashlib
import io
import tarfile
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pandas as pd
import torchvision
from PIL import Image

from megu.datasets.sources import load
from megu.settings.class_names import CIFAR10
from megu.settings.profiles import resolve


def random_parts():
    """part -> (images (n, 32, 32, 3), labels): 20 to train on, 10 to test."""
    gen = np.random.default_rng(1)
    return {
        part: (gen.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), np.arange(n) % 10)
        for part, n in (("train", 20), ("test", 10))
    }


def archive(parts, monkeypatch, url="nowhere"):
    """The bytes of an archive in torchvision's format; torchvision takes it for the official one."""
    members = {"batches.meta": {"label_names": list(CIFAR10)}}
    for part, name in (("train", "data_batch_1"), ("test", "test_batch")):
        x, y = parts[part]
        members[name] = {"data": x.transpose(0, 3, 1, 2).reshape(len(x), -1), "labels": y.tolist()}
    members = {name: bytes(ForkingPickler.dumps(content)) for name, content in members.items()}
    with tarfile.open(fileobj=(whole := io.BytesIO()), mode="w:gz") as tar:
        for name, data in members.items():
            (info := tarfile.TarInfo(f"cifar-10-batches-py/{name}")).size = len(data)
            tar.addfile(info, io.BytesIO(data))
    md5 = {name: hashlib.md5(data).hexdigest() for name, data in members.items()}
    kind = torchvision.datasets.CIFAR10
    for name, value in {
        "url": url, "tgz_md5": hashlib.md5(whole.getvalue()).hexdigest(),
        "train_list": [["data_batch_1", md5["data_batch_1"]]],
        "test_list": [["test_batch", md5["test_batch"]]], "meta": {**kind.meta, "md5": md5["batches.meta"]},
    }.items():  # fmt: skip
        monkeypatch.setattr(kind, name, value)
    return whole.getvalue()


def png(pixels):
    """An image as the bytes of a PNG."""
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def parquet(parts, folder):
    """Tables as of the hub, one for each part; another order than the archive's."""
    for part, (x, y) in parts.items():
        cells = [{"bytes": png(image), "path": None} for image in x[::-1]]
        pd.DataFrame({"img": cells, "label": y[::-1]}).to_parquet(folder / f"{part}.parquet")


def folders(parts, folder):
    """One folder of PNG files for each class."""
    for part, (x, y) in parts.items():
        for i, (image, k) in enumerate(zip(x, y, strict=True)):
            (place := folder / part / CIFAR10[k]).mkdir(parents=True, exist_ok=True)
            (place / f"{i:03d}.png").write_bytes(png(image))


def npz(parts, file):
    """Arrays, shuffled."""
    out = {"class_names": np.array(CIFAR10)}
    for part, (x, y) in parts.items():
        order = np.random.default_rng(2).permutation(len(x))
        out |= {f"x_{part}": x[order], f"y_{part}": y[order]}
    np.savez(file, **out)


def loaded(name, path=None, **settings):
    """The images of a source; nothing in them needs a name that a request asks for."""
    where = {"data.name": name, **({} if path is None else {"data.path": str(path)})}
    return load(resolve(overrides={**where, "forget.scenario": "random", **settings}))
