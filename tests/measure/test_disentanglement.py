"""The disentanglement score of known patterns."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from megu.core.models import build
from megu.core.splits import make_split, split_of
from megu.datasets.images import pool
from megu.measure.disentanglement import MEASURES, VIEWS, disentanglement, forgotten_concepts, shares
from megu.settings.profiles import resolve

# unit 0 is unique to class 0, unit 1 associated with class 1
SERVES = np.array([[1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]])


def glass(weight):
    body, head = nn.Linear(6, len(weight), bias=False), nn.Linear(len(weight), 3)
    body.weight.data = torch.as_tensor(weight, dtype=torch.float32)
    return nn.Sequential(nn.Flatten(), body, head).eval()


def keeping(*units):
    return glass(np.diag(np.isin(range(6), units)))


WHOLE = keeping(*range(6))


@pytest.fixture(scope="module")
def plain():
    rng, y = np.random.default_rng(0), np.tile(np.arange(3), 300)
    x = (100 + 60 * SERVES[y] + rng.normal(0, 20, (900, 6))).clip(0, 255).astype("uint8").reshape(-1, 2, 3)
    images = pool("plain", (x[:600], y[:600]), (x[600:], y[600:]), ("a", "b", "c"))
    return images, split_of(images, images.y == 0)


def scores(plain, unlearned, retrained=None, original=WHOLE):
    found = disentanglement(original, unlearned, retrained, *plain, draws=40)
    assert (found["value"] + 1e-9).between(found["low"], found["high"] + 2e-9).all()
    return found.set_index(["model", "view", "measure"])["value"].sort_index()


def test_what_was_planted_is_unique_or_associated():
    parts = shares(3.0 * SERVES, (0,))
    assert parts.unique.round(2).tolist() == [[2.5, 0, 0, 0, 0, 0]]
    assert parts.associated.round(2).tolist() == [[[0, 2.5, 0, 0, 0, 0], [0] * 6]]


@pytest.mark.parametrize(("kept_units", "suppressed", "kept"), [
    (range(6), 0, 1), ((1, 2, 3, 4, 5), 1, 1), ((0, 2, 3, 4, 5), 0, 0), ((2, 3, 4, 5), 1, 0), ((), 1, 0),
])  # fmt: skip
def test_only_the_cut_of_the_unique_pattern_scores(plain, kept_units, suppressed, kept):
    found = scores(plain, keeping(*kept_units))["unlearned", "in place"][list(MEASURES)]
    assert found.tolist() == pytest.approx([suppressed, kept, suppressed * kept], abs=0.02)


def test_a_rotation_suppresses_nothing_once_aligned(plain):
    turned = glass(torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0))).Q)
    found = scores(plain, turned)["unlearned"]
    assert found["in place", "suppressed"] > 0.3 and found["in place", "kept"] < 0.7
    assert found["aligned", "suppressed"] < 0.05 and found["aligned", "kept"] > 0.95


def test_the_retrained_model_has_units_of_its_own(plain):
    found = scores(plain, WHOLE, glass(np.random.default_rng(1).normal(size=(5, 5)) @ np.eye(6)[1:]))
    assert found["retrained", "aligned", "suppressed"] > 0.9 and found["retrained", "aligned", "kept"] > 0.95
    assert found["unlearned", "aligned", "suppressed"] < 0.05 and ("retrained", "in place", "kept") not in found.index


def test_nothing_is_measured_where_no_concept_goes(plain):
    images, split = plain
    mixed = replace(split, forget=split.forget[:50], retain=torch.cat([split.forget[50:], split.retain]))
    assert forgotten_concepts(images, split) == (0,) and forgotten_concepts(images, mixed) == ()
    found = disentanglement(WHOLE, WHOLE, WHOLE, images, mixed)
    assert len(found) == (len(VIEWS) + 1) * len(MEASURES) and found[["value", "low", "high"]].isna().all().all()
    no_test = replace(split, test_forget=split.forget[:0])
    assert scores((images, no_test), keeping(1, 2, 3, 4, 5))["unlearned", "in place", "score"] > 0.95
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = disentanglement(WHOLE, WHOLE, None, images, replace(split, test_retain=split.test_retain[:0]), draws=40)
    assert alone["value"].isna().all(), "nothing to compare the concept with"


@pytest.mark.parametrize("arch", ["resnet-small", "vit-tiny"])
def test_trained_models(tasks, tiny_overrides, arch):
    task = tasks["class", arch]
    split = make_split(task.images, resolve(overrides={**tiny_overrides, "forget.classes": ["trouser"]}))
    untrained = build(arch, 10, task.images.shape, 5).eval()
    found = scores((task.images, split), untrained, task.original, task.original)
    assert found["unlearned", "in place", "kept"] < 0.5
    assert found["retrained", "aligned", "suppressed"] < 0.2 and found["retrained", "aligned", "kept"] > 0.9
