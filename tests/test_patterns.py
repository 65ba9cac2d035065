"""Pattern sets and the entanglement index against units whose truth is known; permuted labels find nothing."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from megu.data import pool
from megu.patterns import Moments, degrees, entanglement, moments, overlap, patterns

SERVES = np.array([[1, 0, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]], bool)


@pytest.fixture(scope="module")
def known():
    """Three classes, six pixels that are the units: 0 serves class 0, 1 class 1, 2 both, 3 class 2, 4 and 5 nobody."""
    rng, y = np.random.default_rng(0), np.repeat(np.arange(3), 200)
    x = (100 + 40 * SERVES[y] + rng.normal(0, 20, (600, 6))).clip(0, 255).astype("uint8")[:, None]
    return pool("known", (x, y), (x[:3], y[:3]), ("a", "b", "c"))


@pytest.fixture(scope="module")
def seen(known):
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    return moments(net, known, torch.arange(600), boot=100, null=100)[None]


def test_streamed_statistics_are_those_of_the_whole_table(known, seen):
    table, y = known.batch(torch.arange(600)).flatten(1).double().numpy(), known.y[:600].numpy()
    welch = stats.ttest_ind(table[y == 1], table[y != 1], equal_var=False, alternative="greater")
    assert np.allclose(seen.p_values(effect=0)[0, 1], welch.pvalue, rtol=1e-6, atol=1e-12)
    assert np.allclose(seen.effects()[0, 1][2], (table[y == 1, 2].mean() - table[y != 1, 2].mean()) / np.sqrt(
        ((y == 1).sum() - 1) / 598 * table[y == 1, 2].var(ddof=1) + ((y != 1).sum() - 1) / 598 * table[y != 1, 2].var(ddof=1)))  # fmt: skip
    far = Moments.of(torch.full((4, 1), 1e6), 1, 2)  # a mean that is far from zero costs no accuracy
    far.add(1e6 + torch.arange(4.0)[:, None], torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 1]]], dtype=torch.float64))
    assert far.spread()[0] == pytest.approx(0.5**0.5)


def test_memory_does_not_grow_with_the_images(known):
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    few, many = (moments(net, known, torch.arange(n), boot=5, null=5, batch=50)[None] for n in (100, 600))
    assert few.total.shape == many.total.shape == (11, 3, 6)


def test_the_sets_are_found_and_permuted_labels_find_none(seen):
    found = patterns(seen, boot=100)
    assert (found.serves == SERVES).all()
    assert found.null_served.mean() < 0.05 and degrees(found.null).max() == 0


def test_an_effect_below_the_bound_is_no_pattern_however_many_images(seen):
    largest = seen.effects()[0].max()
    assert patterns(seen, boot=100, effect=largest - 0.5).serves.any() and not patterns(seen, boot=100, effect=largest).serves.any()


def test_overlap_by_hand():
    effects = np.array([[2.5, 1.5, 0.0], [0.0, 1.5, 0.3], [-1.0, 0.2, 4.5]])
    assert overlap(effects)[0, 1] == pytest.approx(1 / 3) and overlap(effects)[0, 2] == 0 and np.allclose(np.diag(overlap(effects)), 1)
    assert overlap(np.zeros((2, 3)))[0, 1] == 0


def test_the_index_has_an_interval_a_null_and_sets(seen):
    table = entanglement(patterns(seen, boot=100), ("a", "b", "c")).set_index(["class_a", "class_b"])
    close, strange = table.loc[("a", "b")], table.loc[("a", "c")]
    assert 0 < close["low"] < close["index"] < close["high"] < 0.5 and close["p"] == pytest.approx(1 / 101) and close["null"] < 0.01
    assert strange["index"] == 0 and strange["p"] == 1
    assert close[["shared", "only_a", "only_b"]].tolist() == [1, 1, 1] and table.loc[("b", "a"), "index"] == close["index"]
