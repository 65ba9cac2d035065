"""What data are: a hash that no order changes, and CIFAR known by public facts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from archives import loaded
from conftest import CIFAR
from refusals import refused

from megu.datasets import identity
from megu.datasets.images import by_superclass, pool
from megu.settings.class_names import CIFAR10, known_names
from megu.settings.known import NORMALISE

NAMES = ("ant", "bee", "cow")
# Moments of the training images as public code gives them to eight digits, found apart from the full ones that the
# facts were made from.
PUBLISHED = {
    "cifar10": ((0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)),
    "cifar100": NORMALISE["cifar100"],
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
    for part, x in zip(("train", "test"), images.x.split(60), strict=True):
        sums, squares = (x.long().pow(power).sum((0, 2, 3)).tolist() for power in (1, 2))
        witnesses = {name: identity.image_hash(x[k].numpy(), "")[:16] for k, name in enumerate(NAMES)}
        out[part] = {"images": len(x), "sums": sums, "squares": squares, "witnesses": witnesses}
    return out


@pytest.fixture
def subset(known):
    """The same of a data set of 90 images of which these 60 are a part."""
    return {"train": {**known["train"], "images": 90}}


def changed(images, **more):
    return replace(images, **{name: change(getattr(images, name).clone()) for name, change in more.items()})


def chosen(images, index, **more):
    return replace(images, x=images.x[index], y=images.y[index], fine=images.fine[index], **more)


def hashes(images):
    return [identity.content_hash(images, part) for part in ("train", "test")]


def one_pixel(x):
    x[7, 1, 2, 3] ^= 1
    return x


def swapped(i, j):
    def swap(y):
        y[[i, j]] = y[[j, i]]
        return y

    return swap


def set_to(index, value):
    def change(tensor):
        tensor[index] = value
        return tensor

    return change


def others(index):
    return set_to(index, torch.from_numpy(arrays(5)[0][index]).permute(0, 3, 1, 2))


def test_no_order_changes_the_hash_and_everything_else_does(images):
    train, test = hashes(images)
    order = torch.cat([torch.randperm(60, generator=torch.Generator().manual_seed(0)), torch.arange(60, 75)])
    mixed = chosen(images, order)
    assert mixed.digest() != images.digest() and hashes(mixed) == [train, test]
    renamed = replace(images, fine=2 - images.fine, fine_classes=NAMES[::-1])  # the same names at the same images
    assert hashes(renamed) == [train, test]

    twice = changed(images, x=set_to(1, images.x[0]))
    for other in (changed(images, x=one_pixel), changed(images, fine=swapped(0, 1)), twice):
        assert hashes(other)[0] != train and hashes(other)[1] == test
    assert not set(hashes(replace(images, fine_classes=NAMES[::-1]))) & {train, test}
    wide, high = (np.zeros(shape, "uint8") for shape in ((1, 2, 3), (1, 3, 2)))
    assert identity.image_hash(wide, "a") != identity.image_hash(high, "a")


def test_complete_images_pass_in_any_order_and_subsets_are_named(images, known, subset, monkeypatch):
    identity.check(chosen(images, torch.cat([torch.arange(60).flip(0), torch.arange(60, 75)])), known)
    identity.check(images, subset)
    monkeypatch.setattr(identity, "facts", lambda name: {**known, "test": {**known["test"], "images": 30}})
    found = identity.described(images)
    assert found["train"]["official"] == "complete" and found["test"]["official"] == "subset, 15 of 30 images"
    assert found["train"]["images"] == 60 and len(found["train"]["content"]) == 32


@pytest.mark.parametrize(("change", "expected"), [
    ({"x": one_pixel}, "the sums of the pixel values by channel are"),
    ({"x": others(slice(2, 60, 3))}, "the sums of the pixel values by channel are"),
    ({"x": others(slice(5, 6))}, "the sums of the pixel values by channel are"),
    ({"fine": set_to(0, 1)}, "class 'ant' has 19 images, not 20;"),
    ({"fine": lambda y: (y + 1) % 3}, r"the image known to be in class 'ant' is in class 'bee' \(so in 3 of 3 cl"),
    ({"fine": swapped(0, 4)}, r"the image known to be in class 'ant' is in class 'bee' \(so in 1 of 3 cl"),
    ({"x": lambda x: x.flip(3)}, "the image known to be in class 'ant' is not there"),
])  # fmt: skip
def test_what_is_not_cifar_is_refused_with_what_differs(images, known, change, expected):
    with refused(f"the train images are not those of cifar-like: {expected}.*data.name npz"):
        identity.check(changed(images, **change), known)


def test_equal_sums_with_other_squares_are_refused(images, known):
    spread = torch.tensor([250, 0], dtype=torch.uint8)
    known["train"]["sums"][0] += 250 - images.x[0, 0, 0, :2].long().sum().item()
    with refused("the squares of the pixel values"):
        identity.check(changed(images, x=set_to((0, 0, 0, slice(2)), spread)), known)


def test_what_the_public_facts_cannot_find_is_found_by_the_hash(images, known):
    other = changed(images, fine=swapped(3, 4))
    identity.check(other, known)
    assert hashes(other)[0] != hashes(images)[0]


def test_the_known_images_that_a_subset_holds_are_in_their_classes(images, subset):
    identity.check(chosen(images, slice(6, None), num_train=54), subset)  # it holds none of them
    identity.check(changed(images, fine=set_to(0, 1)), subset)  # one alone may be a twin in another class
    with refused(r"the image known to be in class 'ant' is in class 'bee' \(so in 2 of 3 classes\)"):
        identity.check(changed(images, fine=swapped(0, 1)), subset)


def test_a_part_has_no_more_images_of_a_class_than_cifar(images):
    with refused("class 'ant' has 20 images, not 15 at most"):
        identity.check(images, {"train": {"images": 45}})
    with refused("class 'small' has 40 images, not 30;"):
        identity.check(by_superclass(images, ("small", "small", "large")), {"train": {"images": 60}})


@pytest.mark.parametrize(("part", "most"), [("train", 5000), ("test", 1000)])
def test_a_file_with_more_images_of_a_class_than_cifar_is_refused_where_it_is_read(tmp_path, part, most):
    def given(count):
        counts = {"train": 1, "test": 1, part: count}
        out = {f"x_{which}": np.full((n, 32, 32, 3), 9, "uint8") for which, n in counts.items()}
        out |= {f"y_{which}": np.full(n, 3) for which, n in counts.items()}
        np.savez(tmp_path / "cifar10_mine.npz", class_names=np.array(CIFAR10), **out)
        return loaded("cifar10", tmp_path)

    assert len(given(most).y) == most + 1
    with refused(f"the {part} images are not those of cifar10: class 'cat' has {most + 1} images, not {most} at most"):
        given(most + 1)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_facts_agree_with_the_published_moments(name):
    facts, (mean, std) = identity.facts(name), map(np.array, PUBLISHED[name])
    n = 255 * facts["train"]["images"] * 1024
    first, second = (np.array(facts["train"][key]) / n for key in ("sums", "squares"))
    assert np.abs(first - mean).max() < 1e-8 and np.abs(np.sqrt(second / 255 - first**2) - std).max() < 1e-8
    assert np.abs(first[::-1] - mean).max() > 1e-3, "other channels"
    assert np.abs(first + 1000 / n - mean).min() > 1e-8, "four pixels that are white instead of black"
    for part, count in (("train", 50_000), ("test", 10_000)):
        assert facts[part]["images"] == count and set(facts[part]["witnesses"]) == set(known_names(name)[0])


@pytest.mark.parametrize(("name", "file", "forget", "num_classes"), [
    ("cifar10", "cifar10_small.npz", "cat", 10), ("cifar100", "cifar100_medium.npz", "rocket", 100),
    ("cifar20", "cifar100_medium.npz", "vehicles 2", 20),
])  # fmt: skip
def test_real_images_agree_with_the_facts(name, file, forget, num_classes):
    if not (CIFAR / file).exists():
        pytest.skip(f"needs ../shared/data/{file}")
    images = loaded(name, CIFAR / file, **{"forget.scenario": "class", "forget.classes": [forget]})
    assert images.shape == (3, 32, 32) and images.num_classes == num_classes
    known, found, classes = identity.facts(name), identity.described(images), images.fine_classes
    for part, fact in known.items():
        index = identity._index(images, part)
        x, hashes = images.x[index], [identity.image_hash(x, "")[:16] for x in images.x[index].numpy()]
        assert found[part]["official"] == f"subset, {len(hashes)} of {fact['images']} images"
        places = [hashes.index(fact["witnesses"][one]) for one in classes]
        assert images.fine[index][places].tolist() == list(range(len(classes)))
        # A random part has about the mean of all images, channel by channel: here to three standard errors.
        means = x.double().mean((2, 3))
        mean, error = means.mean(0), means.std(0) / len(hashes) ** 0.5
        published = torch.tensor(fact["sums"]) / (fact["images"] * 1024)
        assert ((mean - published).abs() < 3 * error).all() and not ((mean.flip(0) - published).abs() < 3 * error).all()
    with refused("the sums of the pixel values"):  # as a complete set
        identity.check(images, {"train": {**known["train"], "images": images.num_train}})
    with refused(f"in {len(known['test']['witnesses'])} of {len(classes)} classes"):  # with classes in another order
        identity.check(replace(images, fine=(images.fine + 1) % len(classes)))
    with refused(rf"images of {name} are \(3, 32, 32\) .*, not \(1, 32, 32\): "):  # in grey
        identity.check(replace(images, x=images.x[:, :1]))


def test_the_manifest_says_what_the_data_are(tiny):
    note = tiny.run.manifest["notes"]["images"]
    assert note == identity.described(tiny.images)
    assert note["train"]["images"] == 400 and "official" not in note["train"]
