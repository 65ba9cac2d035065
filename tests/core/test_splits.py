"""Splits: disjoint, complete, and the same for every seed of a run."""

from types import SimpleNamespace

import pytest
import torch
from refusals import refused

from megu.core.splits import forgotten_classes, make_split, tenth, validation_indices
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
