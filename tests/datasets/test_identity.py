"""What data are: a hash that no order changes, and CIFAR known by public facts."""

import json
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch
from archives import loaded
from conftest import CIFAR
from refusals import refused

from megu.datasets import identity
from megu.datasets.images import by_superclass, pool
from megu.runs.store import RunDirectory
from megu.settings.class_names import CIFAR10, known_names

NAMES = ("ant", "bee", "cow")
FACTS = json.loads((files("megu.datasets") / "assets" / "cifar.json").read_text())
# Moments of the training images as public code gives them to eight digits, found apart from the full ones that the
# facts were made from.
PUBLISHED = {
    "cifar10": ((0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)),
    "cifar100": ((0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)),
}


def arrays(seed=0, per_class=20):
    gen = np.random.default_rng(seed)
    bright = gen.integers(60, 200, (3 * per_class, 1, 1, 1))
    return (bright + gen.integers(-50, 50, (3 * per_class, 8, 8, 3))).astype("uint8"), np.arange(3 * per_class) % 3


@pytest.fixture
def images():
    return pool("cifar-like", arrays(0), arrays(1, 5), NAMES)


@pytest.fixture
def known(images):
    """The facts of these images, as those of CIFAR are known."""
    out = {}
    for part, x, index in (("train", images.x[:60], range(3)), ("test", images.x[60:], range(3))):
        whole = x.long()
        out[part] = {
            "images": len(x), "sums": whole.sum((0, 2, 3)).tolist(), "squares": whole.square().sum((0, 2, 3)).tolist(),
            "witnesses": {NAMES[k]: identity.image_hash(x[k].numpy(), "")[:16] for k in index},
        }  # fmt: skip
    return out


def changed(images, **more):
    return replace(images, **{name: change(getattr(images, name).clone()) for name, change in more.items()})


def hashes(images):
    return {part: identity.content_hash(identity.image_hashes(images, part)) for part in ("train", "test")}


def one_pixel(x):
    x[7, 1, 2, 3] ^= 1
    return x


def swap(y):
    y[[0, 1]] = y[[1, 0]]
    return y


def test_no_order_changes_the_hash_and_everything_else_does(images):
    order = torch.cat([torch.randperm(60, generator=torch.Generator().manual_seed(0)), torch.arange(60, 75)])
    mixed = replace(images, x=images.x[order], y=images.y[order], fine=images.fine[order])
    assert mixed.digest() != images.digest() and hashes(mixed) == hashes(images)
    renamed = replace(images, fine=2 - images.fine, fine_classes=NAMES[::-1])
    assert hashes(renamed) == hashes(images)  # the same names at the same images

    before = hashes(images)
    for other in (changed(images, x=one_pixel), changed(images, fine=swap), replace(images, fine_classes=NAMES[::-1])):
        found = hashes(other)
        assert found["train"] != before["train"] and (found["test"] == before["test"]) == (other.fine_classes == NAMES)
    twice = replace(images, x=torch.cat([images.x[:1], images.x[:1], images.x[2:]]))
    assert hashes(twice)["train"] != before["train"] and hashes(twice)["test"] == before["test"]
    assert identity.image_hash(np.zeros((1, 2, 3), "uint8"), "a") != identity.image_hash(
        np.zeros((1, 3, 2), "uint8"), "a"
    )


def test_complete_images_pass_in_any_order_and_subsets_are_named(images, known, monkeypatch):
    order = torch.cat([torch.arange(60).flip(0), torch.arange(60, 75)])
    identity.check(replace(images, x=images.x[order], y=images.y[order], fine=images.fine[order]), known)
    identity.check(images, {"train": {**known["train"], "images": 90}})  # as a subset of 90
    monkeypatch.setattr(identity, "facts", lambda name: {**known, "test": {**known["test"], "images": 30}})
    found = identity.described(images)
    assert found["train"]["official"] == "complete" and found["test"]["official"] == "subset, 15 of 30 images"
    assert found["train"]["images"] == 60 and len(found["train"]["content"]) == 32


def other_images(x):
    x[2:60:3] = torch.from_numpy(arrays(5)[0][2:60:3]).permute(0, 3, 1, 2)
    return x


def one_image(x):
    x[5] = torch.from_numpy(arrays(5)[0][5]).permute(2, 0, 1)
    return x


def relabel(y):
    y[0] = 1
    return y


@pytest.mark.parametrize(("change", "expected"), [
    ({"x": one_pixel}, "the sums of the pixel values by channel are"),
    ({"x": other_images}, "the sums of the pixel values by channel are"),
    ({"x": one_image}, "the sums of the pixel values by channel are"),
    ({"fine": relabel}, "class 'ant' has 19 images, not 20;"),
    ({"fine": lambda y: (y + 1) % 3}, r"the image known to be in class 'ant' is in class 'bee' \(so in 3 of 3 classes\)"),
    ({"fine": lambda y: torch.cat([y[4:5], y[1:4], y[:1], y[5:]])}, r"the image known to be in class 'ant' is in class 'bee' \(so in 1 of 3 classes\)"),
    ({"x": lambda x: x.flip(3)}, "the image known to be in class 'ant' is not there"),
])  # fmt: skip
def test_what_is_not_cifar_is_refused_with_what_differs(images, known, change, expected):
    with refused(f"the train images are not those of cifar-like: {expected}.*data.name npz"):
        identity.check(changed(images, **change), known)


def test_equal_sums_with_other_squares_are_refused(images, known):
    def spread(x):
        x[0, 0, 0, 0], x[0, 0, 0, 1] = 250, 0
        return x

    before = images.x[0, 0, 0, :2].long().sum().item()
    with refused("the squares of the pixel values"):
        known["train"]["sums"][0] += 250 - before
        identity.check(changed(images, x=spread), known)


def test_what_the_public_facts_cannot_find_is_found_by_the_hash(images, known):
    swapped = changed(images, fine=lambda y: torch.cat([y[:3], y[[4, 3]], y[5:]]))
    identity.check(swapped, known)
    assert hashes(swapped)["train"] != hashes(images)["train"]


def test_the_known_images_that_a_subset_holds_are_in_their_classes(images, known):
    part = {"train": {**known["train"], "images": 90}}
    identity.check(
        replace(images, x=images.x[6:], y=images.y[6:], fine=images.fine[6:], num_train=54), part
    )  # it holds none of them
    identity.check(
        changed(images, fine=lambda y: torch.cat([y[1:2], y[1:]])), part
    )  # one alone may be a twin in another class
    with refused(r"the image known to be in class 'ant' is in class 'bee' \(so in 2 of 3 classes\)"):
        identity.check(changed(images, fine=swap), part)


def test_a_subset_has_no_more_images_of_a_class_than_cifar(images):
    with refused("class 'ant' has 20 images, not 15 at most"):
        identity.check(images, {"train": {"images": 45}})
    grouped = by_superclass(images, ("small", "small", "large"))
    with refused("class 'small' has 40 images, not 30;"):
        identity.check(grouped, {"train": {"images": 60}})


@pytest.mark.parametrize(("part", "most"), [("train", 5000), ("test", 1000)])
def test_a_file_with_more_images_of_a_class_than_cifar_is_refused_where_it_is_read(tmp_path, part, most):
    def given(count):
        out = {"class_names": np.array(CIFAR10)}
        for which in ("train", "test"):
            n = count if which == part else 1
            out |= {f"x_{which}": np.full((n, 32, 32, 3), 9, "uint8"), f"y_{which}": np.full(n, 3)}
        np.savez(tmp_path / "cifar10_mine.npz", **out)
        return loaded("cifar10", tmp_path)

    assert len(given(most).y) == most + 1
    with refused(f"the {part} images are not those of cifar10: class 'cat' has {most + 1} images, not {most} at most"):
        given(most + 1)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_facts_agree_with_the_published_moments(name):
    known = FACTS[name]["train"]
    n = known["images"] * 1024
    mean = np.array(known["sums"]) / (255 * n)
    std = np.sqrt(np.array(known["squares"]) / (255**2 * n) - mean**2)
    assert np.abs(mean - PUBLISHED[name][0]).max() < 1e-8 and np.abs(std - PUBLISHED[name][1]).max() < 1e-8
    assert np.abs(mean[::-1] - PUBLISHED[name][0]).max() > 1e-3, "other channels"
    assert np.abs((np.array(known["sums"]) + 1000) / (255 * n) - PUBLISHED[name][0]).min() > 1e-8, (
        "four pixels that are white instead of black"
    )
    for part, count in (("train", 50_000), ("test", 10_000)):
        assert FACTS[name][part]["images"] == count and set(FACTS[name][part]["witnesses"]) == set(known_names(name)[0])


@pytest.mark.parametrize(
    ("name", "file"),
    [("cifar10", "cifar10_small.npz"), ("cifar100", "cifar100_medium.npz"), ("cifar20", "cifar100_medium.npz")],
)
def test_real_images_agree_with_the_facts(name, file, monkeypatch):
    if not (CIFAR / file).exists():
        pytest.skip(f"needs ../shared/data/{file}")
    images = loaded(name, CIFAR / file)
    known, found = identity.facts(name), identity.described(images)
    for part in ("train", "test"):
        index, fact = identity._index(images, part), known[part]
        hashes = [identity.image_hash(x, "")[:16] for x in images.x[index].numpy()]
        assert found[part]["official"] == f"subset, {len(hashes)} of {fact['images']} images"
        for witness, k in zip(
            (fact["witnesses"][c] for c in images.fine_classes), range(len(images.fine_classes)), strict=True
        ):
            assert images.fine[index][hashes.index(witness)] == k
        # A random part of the images has about the mean of all of them, channel by channel: here to three standard
        # errors.
        mean = images.x[index].double().mean((2, 3)).mean(0)
        error = images.x[index].double().mean((2, 3)).std(0) / len(hashes) ** 0.5
        published = torch.tensor(fact["sums"]) / (fact["images"] * 1024)
        assert ((mean - published).abs() < 3 * error).all() and not ((mean.flip(0) - published).abs() < 3 * error).all()
    # As a complete set they would be refused, with the first thing that differs
    pretended = {"train": {**known["train"], "images": images.num_train}}
    with refused("the sums of the pixel values"):
        identity.check(images, pretended)
    # ... and with classes in another order also as the subset that they are
    with refused(f"in {len(known['test']['witnesses'])} of {len(images.fine_classes)} classes"):
        identity.check(replace(images, fine=(images.fine + 1) % len(images.fine_classes)))
    grey = replace(images, x=images.x[:, :1])
    with refused(rf"images of {name} are \(3, 32, 32\) .*, these are \(1, 32, 32\): "):
        identity.check(grey)


def test_the_manifest_says_what_the_data_are(tiny):
    assert isinstance(tiny.run, RunDirectory)
    note = tiny.run.manifest["notes"]["images"]
    assert (
        note == identity.described(tiny.images) and note["train"]["images"] == 400 and "official" not in note["train"]
    )
