"""The measures recover known parts."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from megu.core.models import build
from megu.measure import recovery
from megu.measure.known_parts import CELL, CLASSES, KINDS, OWNS, PARTS, draw, make, owners, reactions, true_overlap
from megu.measure.maps import pattern_map
from megu.measure.patterns import moments
from megu.settings.config import Recipe


@pytest.fixture(scope="module")
def here():
    return recovery.world(0, recipe=Recipe(epochs=4, batch=64, lr=0.1))


def test_every_class_has_a_part_of_its_own_and_overlaps():
    assert sorted(owners(part)[0] for part in PARTS if len(owners(part)) == 1) == list(range(10))
    a, b, *_ = own = [set(names) for names in CLASSES.values()]
    assert true_overlap()[0, 1] == len(a & b) / len(a | b) == 0.5
    assert set(KINDS.values()) == {"shape", "texture", "colour", "position"} and OWNS.sum() == sum(map(len, own))


def test_an_extra_part_changes_nothing_else():
    one, two, other = (make(seed, 20, 20).images.x for seed in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)
    shown = np.tile([part == "red" for part in PARTS], (5, 1))
    for part in ("disc", "stripes", "green", "top"):
        changed = (draw(shown, 3, part) != draw(shown, 3)).any(3).sum((1, 2))
        assert (changed > 3).all() and (changed <= CELL**2).all()
    assert (draw(shown, 3)[..., 0] > 150).any((1, 2)).all()


def test_the_index_recovers_the_true_overlap(here):
    untrained = build("resnet-small", 10, here.data.images.shape, 0).eval()
    found, blind = (
        recovery.recovery(net, here.data, here.test, draws=50).iloc[0] for net in (here.original, untrained)
    )
    assert found["rho"] >= 0.9 and found["low"] > 0.85 and blind["rho"] < 0.7
    assert abs(found["null"]) < 0.1 and found["null_high"] < 0.6


@pytest.mark.parametrize("part", ["red", "stripes", "disc"])
def test_units_that_react_to_a_part_are_found_by_observation(here, part):
    reacting = recovery.reacting(here.original, here.data.images, part)
    sets = recovery.observed(here.original, here.data, here.test, part)
    both = (reacting & sets.serves[1]).sum()
    assert both / sets.serves[1].sum() > 0.9 and both / reacting.sum() > 0.6 and sets.null_served.mean() < 0.2


def test_forgetting_is_seen_in_the_parts(here):
    found = recovery.forgetting(here, 0, ("amnesiac",), asked=("disc", "stripes")).iloc[0]
    assert found["unique"] < 0.6 and found["suppressed"] > 0.3  # of the original 1 and at most 0.1
    assert found["acc_forget"] < 20 < 50 < found["acc_retain"]


@pytest.mark.parametrize("part", ["red", "disc"])
def test_a_map_of_what_reacts_to_a_part_points_at_it(here, part):
    images, layer = here.data.images, "layers.2"
    shown = OWNS[np.arange(60) % 10] & (np.random.default_rng(0).random((60, 20)) < 0.4)
    shown[:, PARTS.index(part)] = False
    without, drawn = (torch.from_numpy(draw(shown, 5, extra)).permute(0, 3, 1, 2) for extra in (None, part))
    change, plain = reactions(here.original, images, part, owners(part), layer=layer)
    effect = change.mean(0) / np.maximum(plain.std(0), 1e-9)
    found = moments(here.original, images, here.test, (layer,), boot=0, null=0)[layer]
    # the map is coarse
    around = F.max_pool2d((drawn != without).any(1).float(), 5, 1, 2).flatten(1) > 0
    hits = []
    for units in (effect > 0.5, np.abs(effect) < 0.1):
        seen = pattern_map(here.original, images.normalised(drawn), layer, units, found).flatten(1)
        hits.append(around.gather(1, seen.argmax(1, keepdim=True)).float().mean())
    reacting, silent = hits
    assert reacting > 3 * around.float().mean() and reacting > 2 * silent
