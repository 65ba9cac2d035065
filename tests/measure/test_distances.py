"""Distances between models."""

import math

import pytest
import torch

from megu.core.models import probe
from megu.measure.distances import (
    activation_distance,
    js,
    linear_cka,
    paired_difference,
    rf_jsd,
    tug_of_war,
    zrf,
    zrf_reversed,
)

P, Q = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.1, 0.9]]).log()
FAR = torch.tensor([[400.0, 0.0]])


@pytest.fixture
def gen():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("distance", "p", "q", "value", "near"), [
    (js, P, Q, 0.368, 5e-4), (js, P, P, 0, 1e-12), (js, FAR, -FAR, math.log(2), 5e-7), (js, P[:0], Q[:0], math.nan, 0),
    (zrf, P, Q, 1 - 0.368, 5e-4),
    (zrf_reversed, P, Q, 1 - 0.255, 5e-4),  # the public code's value for the same pair
    (zrf_reversed, P, P, 1, 1e-6), (zrf_reversed, P[:0], Q[:0], math.nan, 0),
    (activation_distance, P, Q, 0.8 * math.sqrt(2), 1e-6),
])  # fmt: skip
def test_divergences_by_hand(distance, p, q, value, near):
    assert distance(p, q) == pytest.approx(value, abs=near, nan_ok=True)


def test_cka_sees_through_rotation_and_scale(gen):
    a, rotation = torch.randn(400, 6, generator=gen), torch.linalg.qr(torch.randn(6, 6, generator=gen)).Q
    assert linear_cka(a, 3 * a @ rotation + 7) == pytest.approx(1)
    assert linear_cka(a, torch.randn(400, 6, generator=gen)) < 0.1
    assert linear_cka(a[:, :2], torch.cat([a[:, :2], torch.zeros(400, 1)], 1)) == pytest.approx(1)


def test_probe_finds_a_class_but_not_in_noise(gen):
    y = torch.randint(3, (300,), generator=gen)
    telling = torch.nn.functional.one_hot(y, 3).float() + 0.1 * torch.randn(300, 3, generator=gen)
    assert probe(telling[:200], y[:200], telling[200:], y[200:], 3) > 98
    assert probe(torch.randn(200, 3, generator=gen), y[:200], torch.randn(100, 3, generator=gen), y[200:], 3) < 55
    assert math.isnan(probe(telling, y, telling[:0], y[:0], 3))


@pytest.mark.parametrize(("values", "goals", "product"), [
    ((0.0, 0.9), (0.0, 0.9), 1), ((1.0, 0.9), (0.0, 0.9), 0), ((0.1, 0.8), (0.0, 0.9), pytest.approx(0.9 * 0.9)),
    ((0.1, math.nan), (0.0, 0.9), pytest.approx(0.9)),
])  # fmt: skip
def test_tug_of_war_by_hand(values, goals, product):
    assert tug_of_war([*values], [*goals]) == product


def test_rf_jsd_is_by_class_and_of_mean_answers():
    y, logits = torch.tensor([0, 0, 1]), torch.tensor([[0.0, 2.0], [2.0, 0.0], [3.0, 0.0]])
    assert rf_jsd(logits, y, logits[[1, 0, 2]], y) == pytest.approx(0, abs=1e-12)  # means alone are seen
    far = torch.tensor([[60.0, 0.0], [0.0, 60.0]])
    labels = torch.tensor([0, 1])
    assert rf_jsd(far, labels, far.flip(1), labels) == pytest.approx(math.log(2))
    assert rf_jsd(far, labels, far[[0, 0]].flip(1), torch.tensor([0, 2])) == pytest.approx(math.log(2))
    assert math.isnan(rf_jsd(far, labels, far, labels + 2))


@pytest.mark.parametrize("n", [8, 60])
def test_the_interval_of_a_paired_difference_covers_it(n):
    random, missed, level = torch.Generator().manual_seed(0), 0, 0.05
    for _ in range(500):
        first = torch.rand(n, generator=random) < 0.8
        second = torch.where(torch.rand(n, generator=random) < 0.3, torch.rand(n, generator=random) < 0.4, first)
        points, low, high = paired_difference(first, second, level)
        missed += not low <= 0.3 * 0.4 <= high  # 0.8 less 0.7 * 0.8 + 0.3 * 0.4
        assert low <= points <= high
    assert missed <= 35
    same = torch.arange(n) < n // 2
    assert paired_difference(same, same, level)[1] < 0 < paired_difference(same, same, level)[2]
