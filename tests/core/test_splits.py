"""Splits: disjoint, complete, and the same for every seed of a run."""

import pytest
import torch
from refusals import refused

from megu.core.splits import forgotten_classes, make_split, masks, validation_indices
from megu.datasets.sources import load
from megu.settings.profiles import resolve


def split_of(**overrides):
    settings = resolve(overrides=overrides)
    images = load(settings)
    return images, settings, make_split(images, settings)


@pytest.mark.parametrize(
    ("scenario", "forget", "test_forget"), [("class", 900, 200), ("subclass", 900, 200), ("random", 100, 0)]
)
def test_parts_are_disjoint_and_complete(scenario, forget, test_forget):
    images, _, split = split_of(**{"forget.scenario": scenario})
    together = torch.cat(list(vars(split).values()))
    assert torch.equal(together.sort().values, torch.arange(len(images.y)))
    assert len(split.forget) == forget and len(split.test_forget) == test_forget
    assert torch.equal(split.train, torch.cat([split.forget, split.retain]).sort().values)


def test_class_and_subclass_take_the_named_class():
    for scenario in ("class", "subclass"):
        images, settings, split = split_of(**{"forget.scenario": scenario})
        assert {images.fine_classes[k] for k in images.fine[split.forget].tolist()} == {"shirt"}
        assert "shirt" not in {images.fine_classes[k] for k in images.fine[split.retain].tolist()}
    assert images.classes == ("tops", "bottoms", "footwear", "bag")
    assert forgotten_classes(images, split, settings) == ()


def test_the_validation_images_do_not_depend_on_request_or_seed():
    expected = validation_indices(load(resolve()), 0.1)
    for overrides in ({"forget.scenario": "random"}, {"forget.classes": ["bag"]}):
        images, _, split = split_of(**overrides)
        assert torch.equal(torch.cat([split.val_retain, split.val_forget]).sort().values, expected)
    assert torch.bincount(images.fine[expected]).tolist() == [100] * 10
    assert split_of()[2].digest() == "46d2e34c7475"


def test_masks_are_a_partition():
    train, validation, test = masks(load(resolve()), 0.1)
    assert (train.int() + validation.int() + test.int() == 1).all() and train.sum() == 9000 and test.sum() == 2000


def test_impossible_requests_are_refused():
    with refused("forget fewer"):
        split_of(**{"forget.scenario": "random", "forget.count": 9_000})
    with refused("no superclasses"):
        settings = resolve(overrides={"forget.scenario": "subclass"})
        images = load(resolve())
        from megu.datasets.images import by_superclass  # noqa: PLC0415

        by_superclass(images, ())
        make_split(images, settings)
