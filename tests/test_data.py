"""Images: where they come from, what the network sees, what is refused."""

import json

import numpy as np
import pytest
import torch
from conftest import CIFAR
from PIL import Image

from megu import sources
from megu.classes import known_names
from megu.config import Augment
from megu.data import augmented, pool
from megu.device import generator
from megu.profiles import resolve
from megu.values import SettingsError


def test_embedded_set(mini):
    assert mini.shape == (1, 28, 28) and mini.num_train == 10_000 and len(mini.y) == 12_000
    assert torch.bincount(mini.y[:10_000]).tolist() == [1000] * 10 and torch.bincount(mini.y[10_000:]).tolist() == [200] * 10
    assert mini.x.dtype == torch.uint8


def test_a_truncated_asset_is_refused(monkeypatch, tmp_path):
    real = sources.files("megu") / "assets"
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "fashion_mini.json").write_text((real / "fashion_mini.json").read_text())
    (tmp_path / "assets" / "fashion_mini.npz").write_bytes((real / "fashion_mini.npz").read_bytes()[:-1000])
    monkeypatch.setattr(sources, "files", lambda _: tmp_path)
    with pytest.raises(SettingsError, match="fashion_mini.npz is damaged.*git checkout"):
        sources.load(resolve())


def test_asset_statement(mini):
    about = json.loads((sources.files("megu") / "assets" / "fashion_mini.json").read_text())
    assert "MIT" in about["licence"] and about["source"].startswith("Fashion-MNIST")


def test_normalised_training_images_have_mean_0_and_spread_1(mini):
    x = mini.batch(torch.arange(10_000))
    assert abs(x.mean()) < 1e-3 and abs(x.std() - 1) < 1e-3
    assert (mini.restore(x[:5]) * 255 - mini.x[:5].float()).abs().max() < 1e-3


def test_augmentation(mini):
    x = mini.x[:64].float() / 255
    still = augmented(x, Augment(crop=0, flip=False), generator(0, "a"))
    assert (still - x).abs().max() < 1e-5
    same = [augmented(x, Augment(crop=2, rotate=15), generator(0, "a")) for _ in range(2)]
    assert torch.equal(*same) and not torch.equal(same[0], augmented(x, Augment(crop=2, rotate=15), generator(1, "a")))
    flipped = augmented(x, Augment(crop=0), generator(0, "a"))
    for before, after in zip(x, flipped, strict=True):
        assert min((after - before).abs().max(), (after - before.flip(2)).abs().max()) < 1e-5
    shifted = augmented(x, Augment(crop=1, flip=False), generator(0, "a"))
    rolls = [[torch.roll(b, (i, j), (1, 2))[:, 1:-1, 1:-1] for i in (-1, 0, 1) for j in (-1, 0, 1)] for b in x]
    for shifts, after in zip(rolls, shifted, strict=True):
        assert min((after[:, 1:-1, 1:-1] - s).abs().max() for s in shifts) < 1e-5


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (np.zeros((4, 8, 8), "float32"), np.zeros(4, "int64"), "uint8"),
        (np.zeros((4, 8), "uint8"), np.zeros(4, "int64"), "shape"),
        (np.zeros((4, 8, 8), "uint8"), np.zeros(3, "int64"), "4 images and 3 labels"),
        (np.zeros((0, 8, 8), "uint8"), np.zeros(0, "int64"), "at least one"),
        (np.zeros((4, 8, 8), "uint8"), np.array([0, 1, 2, 5]), "3 class names"),
        (np.zeros((4, 9, 9), "uint8"), np.zeros(4, "int64"), "one size"),
    ],
)
def test_wrong_arrays_are_refused(x, y, expected):
    good = np.zeros((4, 8, 8), "uint8"), np.zeros(4, "int64")
    with pytest.raises(SettingsError, match=expected):
        pool("mine", (x, y), good, ("a", "b", "c"))


def test_npz_and_its_refusals(tiny_npz, tmp_path):
    images = sources.load(resolve(overrides={"data.name": "npz", "data.path": str(tiny_npz)}))
    assert images.num_train == 400 and images.shape == (1, 28, 28)
    broken = tmp_path / "broken.npz"
    broken.write_bytes(tiny_npz.read_bytes()[:5000])
    for path, expected in ((broken, "cannot be read"), (tmp_path / "none.npz", "does not exist")):
        with pytest.raises(SettingsError, match=expected):
            sources.load(resolve(overrides={"data.name": "npz", "data.path": str(path)}))
    np.savez(tmp_path / "pickled.npz", x_train=np.array([{"a": 1}], dtype=object))
    with pytest.raises(SettingsError, match="cannot be read"):
        sources.load(resolve(overrides={"data.name": "npz", "data.path": str(tmp_path / "pickled.npz")}))
    with pytest.raises(SettingsError, match="does not exist; did you mean 'coat'"):
        sources.load(resolve(overrides={"data.name": "npz", "data.path": str(tiny_npz), "forget.classes": ["goat"]}))


def test_folder(mini, tmp_path):
    for part in ("train", "test"):
        for k in range(3):
            (tmp_path / part / mini.classes[k]).mkdir(parents=True)
            for i in range(4):
                Image.fromarray(mini.x[k + 10 * i, 0].numpy()).save(tmp_path / part / mini.classes[k] / f"{i}.png")
    overrides = {"data.name": "folder", "data.path": str(tmp_path), "data.size": 28, "forget.classes": ["trouser"]}
    images = sources.load(resolve(overrides=overrides))
    assert images.classes == ("pullover", "t-shirt", "trouser") and images.shape == (3, 28, 28) and len(images.y) == 24
    assert torch.equal(images.x[0, 0], mini.x[2, 0])
    (tmp_path / "train" / "trouser" / "4.png").write_bytes(b"no image")
    with pytest.raises(SettingsError, match=r"trouser/4\.png is not a readable image"):
        sources.load(resolve(overrides=overrides))


@pytest.mark.parametrize(("name", "file", "forget", "classes"), [
    ("cifar10", "cifar10_small.npz", "cat", 10), ("cifar100", "cifar100_medium.npz", "rocket", 100), ("cifar20", "cifar100_medium.npz", "vehicles 2", 20),
])  # fmt: skip
def test_real_cifar_arrays(name, file, forget, classes):
    if not (CIFAR / file).exists():
        pytest.skip(f"needs ../shared/data/{file}")
    images = sources.load(resolve(overrides={"data.name": name, "data.path": str(CIFAR / file), "forget.classes": [forget]}))
    assert images.shape == (3, 32, 32) and images.num_classes == classes


def test_the_superclasses_that_we_wrote_down_are_cifars():
    if not (CIFAR / "cifar100_medium.npz").exists():
        pytest.skip("needs ../shared/data/cifar100_medium.npz")
    arrays = np.load(CIFAR / "cifar100_medium.npz")
    names, coarse = known_names("cifar100")
    assert names == tuple(str(name).replace("_", " ") for name in arrays["class_names"])
    theirs = [str(arrays["coarse_names"][k]).replace("_", " ") for k in arrays["fine_to_coarse"]]
    assert [c.replace("-", " ") for c in coarse] == [t.replace("-", " ").replace("medium mammals", "medium sized mammals") for t in theirs]
