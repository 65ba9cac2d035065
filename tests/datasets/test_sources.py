"""Where images come from: the same ones from every source, and a source that does not answer."""

import archives
import huggingface_hub
import numpy as np
from refusals import refused

from megu.datasets import identity


def test_four_sources_of_the_same_images_have_one_content(tmp_path, monkeypatch):
    parts = archives.random_parts()
    for name in ("torchvision", "hub", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "torchvision" / "cifar-10-python.tar.gz").write_bytes(archives.archive(parts, monkeypatch))
    archives.parquet(parts, tmp_path / "hub")
    archives.folders(parts, tmp_path / "folder")
    archives.npz(parts, tmp_path / "cifar.npz")
    asked = []

    def downloaded(repo, file, repo_type):
        asked.append((repo, file, repo_type))
        return tmp_path / "hub" / f"{file.partition('/')[2].partition('-')[0]}.parquet"

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", downloaded)
    found = {}
    for source, images in {
        "torchvision": archives.loaded("cifar10", tmp_path / "torchvision"),
        "hub": archives.loaded("cifar10", **{"data.source": "hub"}),
        "npz": archives.loaded("cifar10", tmp_path / "cifar.npz"),
        "folder": archives.loaded("folder", tmp_path / "folder"),
    }.items():
        content = tuple(identity.described(images)[part]["content"] for part in ("train", "test"))
        found[source] = images.digest(), content
    assert asked == [
        ("uoft-cs/cifar10", f"plain_text/{part}-00000-of-00001.parquet", "dataset") for part in ("train", "test")
    ]
    assert len({hashes for _, hashes in found.values()}) == 1 and len({digest for digest, _ in found.values()}) == 4

    x, y = parts["train"]
    archives.npz({**parts, "train": (x, np.roll(y, 1))}, tmp_path / "other.npz")
    other = archives.loaded("cifar10", tmp_path / "other.npz")
    assert (
        identity.described(other)["train"]["content"] != found["npz"][1][0]
        and identity.described(other)["test"]["content"] == found["npz"][1][1]
    )


def test_a_hub_that_cannot_be_reached_is_one_line():
    with refused("cifar100 could not be had from the hub .*: check the network, .*set data.path to an .npz"):
        archives.loaded("cifar100", **{"data.source": "hub"})
