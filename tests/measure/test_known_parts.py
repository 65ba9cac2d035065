"""The procedural images are what they say, and the measures recover what is in them."""

import numpy as np
import pytest
import torch

from megu.measure import known_parts, recovery
from megu.measure.maps import pattern_map
from megu.measure.patterns import moments
from megu.settings.config import Recipe

BRIEF = Recipe(epochs=4, batch=64, lr=0.1)


@pytest.fixture(scope="module")
def here():
    return recovery.world(0, recipe=BRIEF)


def test_every_class_has_a_part_of_its_own_and_the_overlap_is_that_of_the_sets():
    assert sorted(
        np.concatenate([known_parts.owners(part) for part in known_parts.PARTS if len(known_parts.owners(part)) == 1])
    ) == list(range(10))
    own = [set(names) for names in known_parts.CLASSES.values()]
    assert known_parts.true_overlap()[0, 1] == len(own[0] & own[1]) / len(own[0] | own[1]) == 0.5
    assert set(known_parts.KINDS.values()) == {
        "shape",
        "texture",
        "colour",
        "position",
    } and known_parts.OWNS.sum() == sum(map(len, own))


def test_the_same_seed_gives_the_same_bits_and_an_extra_part_changes_nothing_else():
    one, two, other = (known_parts.make(20, 20, seed).images.x for seed in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)
    shown = np.zeros((5, len(known_parts.PARTS)), bool)
    shown[:, known_parts.PARTS.index("red")] = True
    for part in ("disc", "stripes", "green", "top"):
        changed = (known_parts.draw(shown, 3, part) != known_parts.draw(shown, 3)).any(3).sum((1, 2))
        assert (changed > 3).all() and (changed <= known_parts.CELL**2).all()
    assert (known_parts.draw(shown, 3)[..., 0] > 150).any((1, 2)).all(), "red is drawn"


def test_the_index_recovers_the_true_overlap_and_permuted_labels_do_not(here):
    found = recovery.recovery(here.original, here.data, here.test, draws=50).iloc[0]
    assert found["rho"] >= 0.9 and found["low"] > 0.85
    assert abs(found["null"]) < 0.1 and found["null_high"] < 0.6
    untrained = recovery.recovery(
        known_parts.build("resnet-small", 10, here.data.images.shape, 0).eval(), here.data, here.test, draws=2
    ).iloc[0]
    assert untrained["rho"] < 0.7, "it is in what the network has learnt"


@pytest.mark.parametrize("part", ["red", "stripes", "disc"])
def test_units_that_react_to_a_part_are_found_by_observation(here, part):
    by_intervention = recovery.reacting(here.original, here.data.images, part)
    sets = recovery.observed(here.original, here.data, here.test, part)
    both = (by_intervention & sets.serves[1]).sum()
    assert both / sets.serves[1].sum() > 0.9 and both / by_intervention.sum() > 0.6
    assert sets.null_served.mean() < 0.2, "permuted labels find none"


def test_forgetting_is_seen_in_the_parts(here):
    found = recovery.forgetting(here, 0, ("amnesiac",), asked=("disc", "stripes")).iloc[0]
    assert found["unique"] < 0.6 and found["suppressed"] > 0.3, "the original has 1 and at most 0.1: test_disentangle"
    assert found["acc_forget"] < 20 < 50 < found["acc_retain"]


@pytest.mark.parametrize("part", ["red", "disc"])
def test_a_map_of_the_units_that_react_to_a_part_points_at_it(here, part):
    images, layer, shown = (
        here.data.images,
        "layers.2",
        known_parts.OWNS[np.arange(60) % 10] & (np.random.default_rng(0).random((60, 20)) < 0.4),
    )
    shown[:, known_parts.PARTS.index(part)] = False
    without, with_part = (
        torch.from_numpy(known_parts.draw(shown, 5, extra)).permute(0, 3, 1, 2) for extra in (None, part)
    )
    change, plain = known_parts.reactions(here.original, images, part, known_parts.owners(part), layer=layer)
    effect = change.mean(0) / np.maximum(plain.std(0), 1e-9)
    found = moments(here.original, images, here.test, (layer,), boot=0, null=0)[layer]
    around = (
        torch.nn.functional.max_pool2d((with_part != without).any(1).float(), 5, 1, 2).flatten(1) > 0
    )  # two pixels: the map is coarse
    hits = {}
    for name, units in (("reacting", effect > 0.5), ("silent", np.abs(effect) < 0.1)):
        seen = pattern_map(here.original, images.normalised(with_part), layer, units, found).flatten(1)
        hits[name] = around.gather(1, seen.argmax(1, keepdim=True)).float().mean().item()
    chance = around.float().mean().item()
    assert hits["reacting"] > 3 * chance and hits["reacting"] > 2 * hits["silent"], (hits, chance)
