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

ASSETS = sources.files("megu.datasets") / "assets"
X, Y, NAMES = np.zeros((4, 8, 8), "uint8"), np.zeros(4, "int64"), ("a", "b", "c")


def u8(*shape):
    return np.zeros(shape, "uint8")


def test_embedded_set(mini):
    assert mini.shape == (1, 28, 28) and mini.x.dtype == torch.uint8 and mini.num_train == 10_000
    assert [part.bincount().tolist() for part in mini.y.split(10_000)] == [[1000] * 10, [200] * 10]
    about = json.loads((ASSETS / "fashion_mini.json").read_text())
    assert "MIT" in about["licence"] and about["source"].startswith("Fashion-MNIST")


def test_a_truncated_asset_is_refused(monkeypatch, tmp_path):
    (tmp_path / "assets").mkdir()
    for name, end in (("fashion_mini.json", None), ("fashion_mini.npz", -1000)):
        (tmp_path / "assets" / name).write_bytes((ASSETS / name).read_bytes()[:end])
    monkeypatch.setattr(sources, "files", lambda _: tmp_path)
    with refused("fashion_mini.npz is damaged.*git checkout"):
        sources.load(resolve())


def test_normalised_training_images_have_mean_0_and_spread_1(mini):
    x = mini.batch(torch.arange(10_000))
    assert abs(x.mean()) < 1e-3 and abs(x.std() - 1) < 1e-3
    assert (mini.restore(x[:5]) * 255 - mini.x[:5].float()).abs().max() < 1e-3


def test_augmentation(mini):
    x = mini.x[:64].float() / 255

    def drawn(seed=0, **settings):
        return augmented(x, Augment(**settings), generator(seed, "a"))

    def kinds(found, *known):
        """How many of what an image may become were drawn."""
        distance = torch.stack([(found - one).abs().amax((1, 2, 3)) for one in known])
        assert distance.amin(0).max() < 1e-5
        return len(distance.argmin(0).unique())

    assert kinds(drawn(crop=0, flip=False), x) == 1
    turned = drawn(crop=2, rotate=15)
    assert torch.equal(turned, drawn(crop=2, rotate=15)) and not torch.equal(turned, drawn(1, crop=2, rotate=15))
    assert kinds(drawn(crop=0), x, x.flip(3)) == 2
    rolls = [x.roll((i, j), (2, 3))[..., 1:-1, 1:-1] for i in (-1, 0, 1) for j in (-1, 0, 1)]
    assert kinds(drawn(crop=1, flip=False)[..., 1:-1, 1:-1], *rolls) == 9


def test_a_reflected_border_is_not_black():
    white, how = torch.ones(32, 1, 8, 8), {"flip": False, "crop": 2}
    black, reflected = (
        augmented(white, Augment(**how, **more), generator(0)) for more in ({}, {"padding": "reflection"})
    )
    assert black.min() == 0 and (reflected - 1).abs().max() < 1e-6


def test_alternate_flips_turn_every_image_in_every_other_epoch(mini):
    index, augment = torch.arange(40, 104), Augment(crop=0, flip="alternate")
    still = mini.batch(index)
    same = [(mini.batch(index, augment, generator(0), k) - still).abs().amax((1, 2, 3)) < 1e-4 for k in range(3)]
    assert torch.equal(same[0], same[2]) and torch.equal(same[0], ~same[1]) and 16 < same[0].sum() < 48
    back = mini.batch(index.flip(0), augment, generator(1), 0).flip(0)
    assert torch.equal((back - still).abs().amax((1, 2, 3)) < 1e-4, same[0]), "whatever the order"


@pytest.mark.parametrize(("x", "y", "expected"), [
    (X.astype("float32"), Y, "uint8"), (u8(4, 8), Y, "shape"),
    (X, Y[:3], "4 images and 3 labels"), (X[:0], Y[:0], "at least one"),
    (X, np.arange(4), "from 0 to 3, but there are 3 class names"), (X, Y - 1, "from -1 to"),
    (u8(4, 9, 9), Y, "one size"), (u8(4, 0, 0), Y, "0 x 0 pixels; give at least 2 x 2"), (u8(4, 8, 1), Y, "8 x 1 pix"),
    (u8(4, 3, 8, 8), Y, r"\(4, 3, 8, 8\) would have 8 channels; give .*C 1 or 3, as x.transpose\(0, 2, 3, 1\) gives"),
    (u8(4, 8, 8, 4), Y, "would have 4 channels; give .*C 1 or 3$"),
    *((X, y, f"train labels are {said}.*; give integers") for y, said in [
        (np.full(4, 0.7), r"float64 of shape \(4,\)"), (np.full(4, np.nan), "float64"), (Y.astype(float), "float64"),
        (np.eye(4, 3, dtype=int), r"int64 of shape \(4, 3\)"), (Y[:, None], r"int64 of shape \(4, 1\)"),
        (np.ones(4, bool), "bool"), (Y.astype(str), "<U"), (np.array(2), r"int64 of shape \(\)"),
    ]),
])  # fmt: skip
def test_wrong_arrays_are_refused(x, y, expected):
    pool("mine", (X, Y), (X, Y), NAMES)
    with refused(expected):
        pool("mine", (x, y), (X, Y), NAMES)


def test_a_name_of_two_classes_is_refused():
    with refused("mine has the class 'b' twice: give every class a name of its own"):
        pool("mine", (X, Y), (X, Y), ("a", "b", "b"))


@pytest.mark.parametrize(("change", "expected"), [
    ({"class_names": np.array("shirt")}, r"class_names is <U5 of shape \(\); give at least two names"),
    ({"class_names": np.array([["a", "b"]] * 10)}, r"class_names is <U1 of shape \(10, 2\)"),
    ({"class_names": np.array(["a", "b"] * 5).astype("S")}, r"class_names is \|S1 of shape \(10,\); .*strings"),
    ({"class_names": np.array(["a_a", "a a", *"bcdefghi"])}, "has the class 'a a' twice"),
    ({"coarse_names": np.array(1)}, r"coarse_names is int64 of shape \(\)"),
    ({"fine_to_coarse": np.arange(2)}, r"is 0 to 1, int64 of shape \(2,\); give 10 integers from 0 to 3, .* coarse_n"),
    ({"fine_to_coarse": np.arange(10)}, "fine_to_coarse is 0 to 9, int64"),
    ({"fine_to_coarse": -np.ones(10, int)}, "fine_to_coarse is -1 to -1, int64"),
    ({"fine_to_coarse": np.arange(10) / 5}, "fine_to_coarse is 0.0 to 1.8, float64"),
    ({"fine_to_coarse": np.array(["tops"] * 10)}, "fine_to_coarse is <U4"),
])  # fmt: skip
def test_names_and_superclasses_of_an_npz_are_checked(tiny_npz, tmp_path, change, expected):
    with np.load(tiny_npz) as held:
        parts, path = dict(held), tmp_path / "mine.npz"
    np.savez(path, **parts)
    assert loaded("npz", path, **{"forget.scenario": "subclass"}).num_classes == 4
    np.savez(path, **parts | change)
    with refused(expected):
        loaded("npz", path, **{"forget.scenario": "subclass"})


def test_npz_and_its_refusals(tiny_npz, tmp_path):
    images, path = loaded("npz", tiny_npz), tmp_path / "mine.npz"
    assert images.num_train == 400 and images.shape == (1, 28, 28)
    np.savez_compressed(path, x_train=np.zeros(9000, "uint8"))
    content = bytearray(path.read_bytes())
    start = content.index(b"x_train.npy") + len(b"x_train.npy") + 20  # after the zip64 field: the first compressed byte
    content[start] = 0xFF  # a kind of block that deflate does not have
    np.savez(path, x_train=np.array([{"a": 1}], dtype=object))
    pickled = path.read_bytes()
    for damaged, expected in (
        (content, ".*invalid block type"), (pickled, ""), (tiny_npz.read_bytes()[:5000], ""),
    ):  # fmt: skip
        path.write_bytes(damaged)
        with refused(f"mine.npz cannot be read {expected}"):
            loaded("npz", path)
    np.savez(path, class_names=np.array(NAMES), x_train=X)
    for place, words in ((path, "mine.npz lacks x_test, y_test, y_train"), (tmp_path / "none.npz", "does not exist")):
        with refused(words):
            loaded("npz", place)
    with refused("does not exist; did you mean 'coat'"):
        loaded("npz", tiny_npz, **{"forget.scenario": "class", "forget.classes": ["goat"]})


def cifar_file(path, fine, held, side=32, **more):
    """Random images under the class names of a CIFAR, twice each, as ``path/<fine>.npz``."""
    y = np.arange(2 * len(held)) % len(held)
    x = np.random.default_rng(0).integers(0, 256, (len(y), side, side, 3), dtype="uint8")
    parts = {"x_train": x, "y_train": y, "x_test": x[::2], "y_test": y[::2], "class_names": np.array(held)}
    np.savez(path / f"{fine}.npz", **parts, **more)
    return path / f"{fine}.npz"


@pytest.mark.parametrize(("asked", "held", "expected"), [
    ("cifar10", "cifar100", r"has 100 classes, not the 10 of .* 0 is 'apple', not 'airplane'\): .* cifar100, or"),
    ("cifar100", "cifar10", "has 10 classes, not the 100 of cifar100 in their order .*: set data.name to cifar10, or"),
    ("cifar20", "cifar10", "has 10 classes, not the 100 of cifar20 in their order .*: set data.name to cifar10, or"),
    ("cifar10", "plural", r"0 is 'airplanes', not 'airplane'\): set data.name to npz, or data.path to images of cif"),
    ("cifar10", "fewer", r"has 9 classes, .* \(class 9 is 'none', not 'truck'\)"),
])  # fmt: skip
def test_a_cifar_that_is_another_one_is_refused(tmp_path, asked, held, expected):
    ten, hundred = known_names("cifar10")[0], known_names("cifar100")[0]
    names = {"cifar10": ten, "cifar100": hundred, "plural": [f"{name}s" for name in ten], "fewer": ten[:9]}[held]
    file = cifar_file(tmp_path, "cifar10" if asked == "cifar10" else "cifar100", names)
    for path in (file, tmp_path):
        with refused(expected):
            loaded(asked, path)


def test_a_cifar_whose_names_come_in_another_order_is_numbered_as_usual(tmp_path):
    names, coarse = known_names("cifar100")
    file = cifar_file(tmp_path, "cifar100", names[::-1])
    images = loaded("cifar100", file)
    assert images.classes == names and images.y[:3].tolist() == [99, 98, 97]
    supers = sorted({*coarse})
    grouped = [supers.index(one) for one in coarse[::-1]]
    file = cifar_file(tmp_path, "cifar100", names[::-1], coarse_names=supers, fine_to_coarse=grouped)
    images = loaded("cifar20", file)
    assert [images.classes[k] for k in images.y[:3].tolist()] == [coarse[99], coarse[98], coarse[97]]


def test_a_path_of_embedded_images_is_refused(tmp_path, monkeypatch):
    for place in (tmp_path, tmp_path / "none"):
        with refused("data.path is '.*', but data.name is fashion-mini, .*: set data.name as well"):
            loaded("fashion-mini", place)
    monkeypatch.setenv("MEGU_DATA_PATH", str(tmp_path))
    assert len(loaded("fashion-mini").y)


def test_a_cifar_of_another_size_is_refused(tmp_path):
    path = cifar_file(tmp_path, "cifar10", known_names("cifar10")[0], side=16)
    with refused(r"images of cifar10 are \(3, 32, 32\) \(C, H, W\), not \(3, 16, 16\): .*use data.name npz"):
        loaded("cifar10", path)


def test_a_folder_of_two_files_of_a_cifar_is_refused(tmp_path):
    for fine in ("cifar10", "cifar10_b", "cifar100"):
        cifar_file(tmp_path, fine, known_names("cifar10")[0])
    with refused("holds cifar10.npz and cifar10_b.npz: set data.path to one of them"):
        loaded("cifar10", tmp_path)


@pytest.mark.parametrize(("forget", "scenario"), [("vehicles 2", "class"), ("rocket", "subclass")])
def test_cifar_has_superclasses_where_its_arrays_have_none(tmp_path, forget, scenario):
    names, coarse = known_names("cifar100")
    supers = sorted(set(coarse))
    position = np.array([supers.index(one) for one in coarse])

    def read(**more):
        path = cifar_file(tmp_path, "cifar100", names, **{name: np.array(value) for name, value in more.items()})
        return loaded("cifar20", path, **{"forget.scenario": scenario, "forget.classes": [forget]})

    bare = read()
    assert tuple(bare.classes[k] for k in bare.y[:100]) == coarse and bare.fine_classes == names
    # Their own spelling of the same groups is kept, other groups are refused
    theirs = read(fine_to_coarse=position, coarse_names=[one.replace("-sized", "") for one in supers])
    assert torch.equal(theirs.y, bare.y) and set(bare.classes) - set(theirs.classes) == {"medium-sized mammals"}
    for other in (np.roll(position, 1), position // 2):
        with refused("cifar100.npz groups the classes otherwise than cifar20: leave fine_to_coarse out"):
            read(fine_to_coarse=other, coarse_names=supers)


def test_the_superclasses_that_we_wrote_down_are_cifars():
    if not (CIFAR / "cifar100_medium.npz").exists():
        pytest.skip("needs ../shared/data/cifar100_medium.npz")
    arrays = np.load(CIFAR / "cifar100_medium.npz")
    names, coarse = known_names("cifar100")
    assert names == tuple(str(name).replace("_", " ") for name in arrays["class_names"])
    theirs = [str(name).replace("_", " ") for name in arrays["coarse_names"][arrays["fine_to_coarse"]]]
    ours = [name.replace("-sized mammals", " mammals") for name in coarse]
    assert [c.replace("-", " ") for c in ours] == [t.replace("-", " ") for t in theirs]
