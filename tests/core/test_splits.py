"""Splits: disjoint, complete, and the same for every seed of a run."""

from types import SimpleNamespace

import pytest
import torch
from refusals import refused

from megu.core.splits import Split, forgotten_classes, known_unseen, make_split, tenth, validation_indices
from megu.datasets.images import by_superclass
from megu.datasets.sources import load
from megu.settings.profiles import resolve


def split_of(**overrides):
    settings = resolve(overrides={f"forget.{name}": value for name, value in overrides.items()})
    images = load(settings)
    return images, settings, make_split(images, settings)


@pytest.mark.parametrize(
    ("scenario", "forget", "test_forget"), [("class", 900, 200), ("subclass", 900, 200), ("random", 100, 0)]
)
def test_parts_are_disjoint_complete_and_take_the_named_class(scenario, forget, test_forget):
    images, settings, split = split_of(scenario=scenario)
    assert torch.equal(torch.cat([*vars(split).values()]).sort().values, torch.arange(len(images.y)))
    assert len(split.forget) == forget and len(split.test_forget) == test_forget
    assert torch.equal(split.train, torch.cat([split.forget, split.retain]).sort().values) and len(split.train) == 9000
    assert len(split.test_forget) + len(split.test_retain) == 2000
    if scenario != "random":
        gone, kept = (
            {images.fine_classes[k] for k in images.fine[part].tolist()} for part in (split.forget, split.retain)
        )
        assert gone == {"shirt"} and "shirt" not in kept
    if scenario == "subclass":
        assert images.classes == ("tops", "bottoms", "footwear", "bag")
    disappear = [images.classes[k] for k in forgotten_classes(images, split, settings)]
    assert disappear == (["shirt"] if scenario == "class" else [])


def test_the_validation_images_do_not_depend_on_request_or_seed(mini):
    expected = validation_indices(mini, 0.1)
    for overrides in ({"scenario": "random"}, {"classes": ["bag"]}):
        _, _, split = split_of(**overrides)
        assert torch.equal(torch.cat([split.val_retain, split.val_forget]).sort().values, expected)
    assert torch.bincount(mini.fine[expected]).tolist() == [100] * 10
    assert split_of()[2].digest() == "46d2e34c7475"


def test_a_tenth_is_of_every_class_that_has_ten_of_some_others_and_never_all_of_a_class():
    sizes = [400, 30, *[1] * 50, *[3] * 50]
    images = SimpleNamespace(y=torch.arange(102).repeat_interleave(torch.tensor(sizes)), num_classes=102)
    for most, large, rare in ((500, [40, 3], 20), (35, [22, 1], 11), (31, [19, 1], 0)):
        counts = images.y[tenth(images, torch.arange(630), most, 0)].bincount(minlength=102)
        assert counts[:2].tolist() == large and counts[2:52].sum() == 0
        assert counts[52:].sum() == rare and counts[52:].max() <= 1
    assert len(tenth(images, torch.arange(0), 500, 0)) == 0


def test_impossible_requests_are_refused(mini):
    with refused("forget fewer"):
        split_of(scenario="random", count=9_000)
    with refused("no superclasses"):
        by_superclass(mini, ())


@pytest.mark.parametrize(("fine", "kept"), [
    ([0, 1, 2, 3, 0, 1, 3, 2], [4, 5, 6, 7]),  # all test images name one
    ([0, 1, 2, 3, 4, 4, 3, 2], [6, 7]),  # those of the class that a part of goes from name none: 4 is its own name
    ([0, 4, 2, 3, 4, 4, 3, 2], [4, 5, 6, 7]),  # 4 is a kind of training images, too, and the others name theirs
    ([0, 4, 2, 3, 4, 4, 5, 5], [6, 7]),  # no test image names any
    ([0, 1, 2, 3, 1, 6, 3, 7], [4, 6, 7]),  # 6 and 7 are sub-classes of test images alone
])  # fmt: skip
def test_unseen_images_that_name_no_sub_class_are_none_of_what_stays(fine, kept, caplog):
    """Two classes of two sub-classes, 0 and 1, 2 and 3; 0 goes; the last four images are for tests."""
    fine, y = torch.tensor(fine), torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])
    kinds = {"classes": ("x", "z"), "fine_classes": (*"abcdxz", "A", "y")}
    images = SimpleNamespace(y=y, fine=fine, num_train=4, **kinds)
    empty = torch.tensor([], dtype=torch.int64)
    before = Split(torch.tensor([0]), torch.tensor([1, 2, 3]), empty, empty, empty, torch.tensor([4, 5, 6, 7]))
    split = known_unseen(images, before)
    assert split.test_retain.tolist() == kept
    assert ("name none of training images: they are not" in caplog.text) == (len(kept) < 4)
