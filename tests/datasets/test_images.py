"""Images: where they come from, what the network sees, what is refused."""

import json

import numpy as np
import pytest
import torch
from archives import loaded
from conftest import CIFAR
from refusals import refused

from megu.core.device import generator
from megu.datasets import sources
from megu.datasets.images import augmented, pool
from megu.settings.class_names import known_names
from megu.settings.config import Augment
from megu.settings.profiles import resolve


def test_embedded_set(mini):
    assert mini.shape == (1, 28, 28) and mini.num_train == 10_000 and len(mini.y) == 12_000
    assert (
        torch.bincount(mini.y[:10_000]).tolist() == [1000] * 10
        and torch.bincount(mini.y[10_000:]).tolist() == [200] * 10
    )
    assert mini.x.dtype == torch.uint8


def test_a_truncated_asset_is_refused(monkeypatch, tmp_path):
    real = sources.files("megu.datasets") / "assets"
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "fashion_mini.json").write_text((real / "fashion_mini.json").read_text())
    (tmp_path / "assets" / "fashion_mini.npz").write_bytes((real / "fashion_mini.npz").read_bytes()[:-1000])
    monkeypatch.setattr(sources, "files", lambda _: tmp_path)
    with refused("fashion_mini.npz is damaged.*git checkout"):
        sources.load(resolve())


def test_asset_statement(mini):
    about = json.loads((sources.files("megu.datasets") / "assets" / "fashion_mini.json").read_text())
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
        (np.zeros((4, 3, 8, 8), "uint8"), np.zeros(4, "int64"), r"\(4, 3, 8, 8\) would have 8 channels; give .*C 1 or 3, as x.transpose\(0, 2, 3, 1\) gives"),
        (np.zeros((4, 8, 8, 4), "uint8"), np.zeros(4, "int64"), "would have 4 channels; give .*C 1 or 3$"),
        (np.zeros((4, 0, 0), "uint8"), np.zeros(4, "int64"), "0 x 0 pixels; give at least 2 x 2"),
        (np.zeros((4, 8, 1), "uint8"), np.zeros(4, "int64"), "8 x 1 pixels"),
        *(
            (np.zeros((4, 8, 8), "uint8"), y, f"train labels are {said}.*; give integers")
            for y, said in [
                (np.full(4, 0.7), r"float64 of shape \(4,\)"), (np.array([0, np.nan, 1, 2]), "float64"), (np.array([0.0, 1.0, 2.0, 0.0]), "float64"),
                (np.eye(4, 3, dtype="int64"), r"int64 of shape \(4, 3\)"), (np.zeros((4, 1), "int64"), r"int64 of shape \(4, 1\)"),
                (np.ones(4, bool), "bool"), (np.array(["0", "1", "2", "0"]), "<U1"), (np.array(2), r"int64 of shape \(\)"),
            ]
        ),
    ],
)  # fmt: skip
def test_wrong_arrays_are_refused(x, y, expected):
    good = np.zeros((4, 8, 8), "uint8"), np.zeros(4, "int64")
    pool("mine", good, good, ("a", "b", "c"))
    with refused(expected):
        pool("mine", (x, y), good, ("a", "b", "c"))


def test_a_name_of_two_classes_is_refused():
    good = np.zeros((4, 8, 8), "uint8"), np.zeros(4, "int64")
    with refused("mine: the class name 'b' is there 2 times; give every class a name of its own"):
        pool("mine", good, good, ("a", "b", "b"))


@pytest.mark.parametrize(("change", "expected"), [
    ({"class_names": np.array("shirt")}, r"class_names is <U5 of shape \(\); give at least two names"),
    ({"class_names": np.array([["a", "b"]] * 10)}, r"class_names is <U1 of shape \(10, 2\)"),
    ({"class_names": np.array(["a", "b"] * 5).astype("S")}, r"class_names is \|S1 of shape \(10,\); .*strings"),
    ({"class_names": np.array(["a_a", "a a", *"bcdefghi"])}, "the class name 'a a' is there 2 times"),
    ({"coarse_names": np.array(1)}, r"coarse_names is int64 of shape \(\)"),
    ({"fine_to_coarse": np.arange(2)}, r"fine_to_coarse is 0 to 1, int64 of shape \(2,\); give 10 integers from 0 to 3, .* in coarse_names"),
    ({"fine_to_coarse": np.arange(10)}, "fine_to_coarse is 0 to 9, int64"),
    ({"fine_to_coarse": -np.ones(10, int)}, "fine_to_coarse is -1 to -1, int64"),
    ({"fine_to_coarse": np.arange(10) / 5}, "fine_to_coarse is 0.0 to 1.8, float64"),
    ({"fine_to_coarse": np.array(["tops"] * 10)}, "fine_to_coarse is <U4"),
])  # fmt: skip
def test_names_and_superclasses_of_an_npz_are_checked(tiny_npz, tmp_path, change, expected):
    overrides = {"data.name": "npz", "data.path": str(tmp_path / "mine.npz"), "forget.scenario": "subclass"}
    with np.load(tiny_npz) as held:
        parts = dict(held)
    np.savez(tmp_path / "mine.npz", **parts)
    assert sources.load(resolve(overrides=overrides)).num_classes == 4
    np.savez(tmp_path / "mine.npz", **parts | change)
    with refused(expected):
        sources.load(resolve(overrides=overrides))


def test_an_npz_whose_bytes_were_damaged_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "mine.npz", x_train=np.zeros(9000, "uint8"))
    content = bytearray((tmp_path / "mine.npz").read_bytes())
    start = content.index(b"x_train.npy") + len(b"x_train.npy") + 20  # after the zip64 field: the first compressed byte
    content[start] = 0xFF  # a kind of block that deflate does not have
    (tmp_path / "mine.npz").write_bytes(content)
    with refused("mine.npz cannot be read .*invalid block type"):
        loaded("npz", tmp_path / "mine.npz")


def test_npz_and_its_refusals(tiny_npz, tmp_path):
    images = loaded("npz", tiny_npz)
    assert images.num_train == 400 and images.shape == (1, 28, 28)
    broken = tmp_path / "broken.npz"
    broken.write_bytes(tiny_npz.read_bytes()[:5000])
    for path, expected in ((broken, "cannot be read"), (tmp_path / "none.npz", "does not exist")):
        with refused(expected):
            loaded("npz", path)
    np.savez(tmp_path / "pickled.npz", x_train=np.array([{"a": 1}], dtype=object))
    with refused("cannot be read"):
        loaded("npz", tmp_path / "pickled.npz")
    with refused("does not exist; did you mean 'coat'"):
        loaded("npz", tiny_npz, **{"forget.scenario": "class", "forget.classes": ["goat"]})


def cifar_file(path, fine, held, side=32, **more):
    """Random images under the class names of a CIFAR, twice each, as ``path/<fine>.npz``."""
    y = np.arange(2 * len(held)) % len(held)
    x = np.random.default_rng(0).integers(0, 256, (len(y), side, side, 3), dtype="uint8")
    np.savez(
        path / f"{fine}.npz", x_train=x, y_train=y, x_test=x[::2], y_test=y[::2], class_names=np.array(held), **more
    )
    return str(path / f"{fine}.npz")


@pytest.mark.parametrize(("asked", "held", "expected"), [
    ("cifar10", "cifar100", r"has 100 classes, not the 10 of cifar10 in their order \(class 0 is 'apple', not 'airplane'\): set data.name to cifar100, or"),
    ("cifar100", "cifar10", r"has 10 classes, not the 100 of cifar100 in their order .*: set data.name to cifar10, or"),
    ("cifar20", "cifar10", "has 10 classes, not the 100 of cifar20 in their order .*: set data.name to cifar10, or"),
    ("cifar10", "turned", r"\(class 0 is 'truck', not 'airplane'\): set data.name to npz, or data.path to images of cifar10"),
    ("cifar10", "fewer", r"has 9 classes, .* \(class 9 is 'none', not 'truck'\)"),
])  # fmt: skip
def test_a_cifar_that_is_another_one_is_refused(tmp_path, asked, held, expected):
    names = {"turned": known_names("cifar10")[0][::-1], "fewer": known_names("cifar10")[0][:9]}.get(
        held
    ) or known_names(held)[0]
    for path in (
        cifar_file(tmp_path, "cifar10" if asked == "cifar10" else "cifar100", names),
        str(tmp_path),
    ):  # the file, and its folder
        with refused(expected):
            loaded(asked, path)


def test_a_cifar_of_another_size_is_refused(tmp_path):
    path = cifar_file(tmp_path, "cifar10", known_names("cifar10")[0], side=16)
    with refused(r"images of cifar10 are \(3, 32, 32\) \(C, H, W\), these are \(3, 16, 16\): .*use data.name npz"):
        loaded("cifar10", path)


@pytest.mark.parametrize(("forget", "scenario"), [("vehicles 2", "class"), ("rocket", "subclass")])
def test_cifar_has_superclasses_where_its_arrays_have_none(tmp_path, forget, scenario):
    names, coarse = known_names("cifar100")
    supers = sorted(set(coarse))
    overrides = {"data.name": "cifar20", "forget.scenario": scenario, "forget.classes": [forget]}
    bare = sources.load(resolve(overrides=overrides | {"data.path": cifar_file(tmp_path, "cifar100", names)}))
    assert tuple(bare.classes[k] for k in bare.y[:100]) == coarse and bare.fine_classes == names
    position = np.array([supers.index(one) for one in coarse])
    # Their own spelling of the same groups is kept, other groups are refused
    spelled = cifar_file(
        tmp_path,
        "cifar100",
        names,
        fine_to_coarse=position,
        coarse_names=np.array([one.replace("-sized", "") for one in supers]),
    )
    theirs = sources.load(resolve(overrides=overrides | {"data.path": spelled}))
    assert torch.equal(theirs.y, bare.y) and set(bare.classes) - set(theirs.classes) == {"medium-sized mammals"}
    for other in (np.roll(position, 1), position // 2):
        path = cifar_file(tmp_path, "cifar100", names, fine_to_coarse=other, coarse_names=np.array(supers))
        with refused("cifar100.npz groups the classes otherwise than cifar20: leave fine_to_coarse out"):
            sources.load(resolve(overrides=overrides | {"data.path": path}))


@pytest.mark.parametrize(("name", "file", "forget", "classes"), [
    ("cifar10", "cifar10_small.npz", "cat", 10), ("cifar100", "cifar100_medium.npz", "rocket", 100), ("cifar20", "cifar100_medium.npz", "vehicles 2", 20),
])  # fmt: skip
def test_real_cifar_arrays(name, file, forget, classes):
    if not (CIFAR / file).exists():
        pytest.skip(f"needs ../shared/data/{file}")
    images = loaded(name, CIFAR / file, **{"forget.scenario": "class", "forget.classes": [forget]})
    assert images.shape == (3, 32, 32) and images.num_classes == classes


def test_the_superclasses_that_we_wrote_down_are_cifars():
    if not (CIFAR / "cifar100_medium.npz").exists():
        pytest.skip("needs ../shared/data/cifar100_medium.npz")
    arrays = np.load(CIFAR / "cifar100_medium.npz")
    names, coarse = known_names("cifar100")
    assert names == tuple(str(name).replace("_", " ") for name in arrays["class_names"])
    theirs = [str(arrays["coarse_names"][k]).replace("_", " ") for k in arrays["fine_to_coarse"]]
    assert [c.replace("-", " ") for c in coarse] == [
        t.replace("-", " ").replace("medium mammals", "medium sized mammals") for t in theirs
    ]
