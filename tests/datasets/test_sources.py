"""Where images come from: the same ones from every source, and a source that does not answer."""

import archives
import huggingface_hub
import numpy as np
from archives import loaded
from refusals import refused

from megu.datasets import identity


def contents(images):
    note = identity.described(images)
    return note["train"]["content"], note["test"]["content"]


def test_four_sources_of_the_same_images_have_one_content(tmp_path, monkeypatch):
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
        loaded("cifar10", tmp_path / "cifar.npz"), loaded("folder", tmp_path / "folder"),
    )  # fmt: skip
    files = [f"plain_text/{part}-00000-of-00001.parquet" for part in ("train", "test")]
    assert asked == [("uoft-cs/cifar10", file, "dataset") for file in files]
    assert len({images.digest() for images in found}) == 4
    ((train, test),) = set(map(contents, found))

    x, y = parts["train"]
    archives.npz({**parts, "train": (x, np.roll(y, 1))}, tmp_path / "other.npz")
    other = contents(loaded("cifar10", tmp_path / "other.npz"))
    assert other[0] != train and other[1] == test


def test_a_hub_that_cannot_be_reached_is_one_line():
    with refused("cifar100 could not be had from the hub .*: check the network, .*set data.path to an .npz"):
        loaded("cifar100", **{"data.source": "hub"})
