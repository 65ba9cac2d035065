"""Where images come from: the same ones from every source, and a source that does not answer."""

import archives
import huggingface_hub
import numpy as np
from archives import loaded
from PIL import Image
from refusals import refused

from megu.datasets import identity
from megu.settings.class_names import known_names


def contents(images):
    note = identity.described(images)
    return note["train"]["content"], note["test"]["content"]


def test_five_sources_of_the_same_images_have_one_content(tmp_path, monkeypatch):
    parts, asked = archives.random_parts(), []
    for name in ("torchvision", "hub", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "torchvision" / "cifar-10-python.tar.gz").write_bytes(archives.archive(parts, monkeypatch))
    archives.parquet(parts, tmp_path / "hub")
    archives.folders(parts, tmp_path / "folder")
    archives.npz(parts, tmp_path / "cifar.npz")

    def downloaded(repo, file, repo_type):
        asked.append((repo, file, repo_type))
        return tmp_path / "hub" / f"{file.partition('/')[2].partition('-')[0]}.parquet"

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", downloaded)
    found = (
        loaded("cifar10", tmp_path / "torchvision"), loaded("cifar10", **{"data.source": "hub"}),
        loaded("cifar10", tmp_path / "cifar.npz"), loaded("cifar10", tmp_path / "folder"),
        loaded("folder", tmp_path / "folder"),
    )  # fmt: skip
    files = [f"plain_text/{part}-00000-of-00001.parquet" for part in ("train", "test")]
    assert asked == [("uoft-cs/cifar10", file, "dataset") for file in files]
    assert len({images.digest() for images in found}) == 4 and found[3].digest() == found[4].digest()
    ((train, test),) = set(map(contents, found))

    x, y = parts["train"]
    archives.npz({**parts, "train": (x, np.roll(y, 1))}, tmp_path / "other.npz")
    other = contents(loaded("cifar10", tmp_path / "other.npz"))
    assert other[0] != train and other[1] == test


def test_folders_of_a_cifar_below_superclasses_or_of_something_else(tmp_path):
    names, coarse = known_names("cifar100")
    for part, n in (("train", 2), ("test", 1)):
        for k, (name, top) in enumerate(zip(names, coarse, strict=True)):
            (place := tmp_path / part / top.replace(" ", "_") / name.replace(" ", "_")).mkdir(parents=True)
            for i in range(n):
                Image.new("RGB", (32, 32), (k, i, n)).save(place / f"{i}.png")
    images = loaded("cifar100", tmp_path)
    at = [images.fine[images.x[:, 0, 0, 0] == k].tolist() for k in range(100)]
    assert at == [[k] * 3 for k in range(100)] and loaded("cifar20", tmp_path).num_classes == 20
    place.rename(place.with_name("rat"))
    with refused("but the cifar100 class 'rat' does not exist"):
        loaded("cifar100", tmp_path)
    Image.new("RGB", (31, 32)).save(tmp_path / "train" / "people" / "man" / "0.png")
    with refused("images that are not all 32 x 32 pixels"):
        loaded("cifar100", tmp_path)


def test_a_path_beside_the_hub_is_refused(tmp_path):
    with refused("data.path is '.*', but data.source is hub: leave one of them out"):
        loaded("cifar10", tmp_path, **{"data.source": "hub"})


def test_a_hub_that_cannot_be_reached_is_one_line():
    with refused("cifar100 could not be had from the hub .*: check the network, .*set data.path to an .npz"):
        loaded("cifar100", **{"data.source": "hub"})
