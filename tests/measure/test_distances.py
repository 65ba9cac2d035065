"""Distances between models: the worked examples, and what they must not be fooled by."""

import math

import pytest
import torch

from megu.measure.distances import activation_distance, js, linear_cka, probe, tug_of_war, zrf, zrf_reversed

P, Q = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.1, 0.9]]).log()


def test_divergences_by_hand():
    assert js(P, Q) == pytest.approx(0.368, abs=5e-4) and zrf(P, Q) == pytest.approx(1 - 0.368, abs=5e-4)
    assert zrf_reversed(P, Q) == pytest.approx(1 - 0.255, abs=5e-4)  # the public code's value for the same pair
    assert js(P, P) == pytest.approx(0, abs=1e-12) and zrf_reversed(P, P) == pytest.approx(1)
    far = torch.tensor([[400.0, 0.0]])
    assert js(far, -far) == pytest.approx(math.log(2))
    assert activation_distance(P, Q) == pytest.approx(0.8 * math.sqrt(2))
    assert math.isnan(js(P[:0], Q[:0])) and math.isnan(zrf_reversed(P[:0], Q[:0]))


def test_cka_sees_rotation_and_scale_as_equal_and_noise_as_different():
    gen = torch.Generator().manual_seed(0)
    a, rotation = torch.randn(400, 6, generator=gen), torch.linalg.qr(torch.randn(6, 6, generator=gen)).Q
    assert linear_cka(a, 3 * a @ rotation + 7) == pytest.approx(1)
    assert linear_cka(a, torch.randn(400, 6, generator=gen)) < 0.1
    assert linear_cka(a[:, :2], torch.cat([a[:, :2], torch.zeros(400, 1)], 1)) == pytest.approx(1)


def test_probe_finds_a_class_that_the_head_hides_and_nothing_in_noise():
    gen = torch.Generator().manual_seed(0)
    y = torch.randint(3, (300,), generator=gen)
    telling = torch.nn.functional.one_hot(y, 3).float() + 0.1 * torch.randn(300, 3, generator=gen)
    assert probe(telling[:200], y[:200], telling[200:], y[200:], 3) > 98
    assert probe(torch.randn(200, 3, generator=gen), y[:200], torch.randn(100, 3, generator=gen), y[200:], 3) < 55
    assert math.isnan(probe(telling, y, telling[:0], y[:0], 3))


def test_tug_of_war_by_hand():
    assert tug_of_war([0.0, 0.9], [0.0, 0.9]) == 1
    assert tug_of_war([1.0, 0.9], [0.0, 0.9]) == 0
    assert tug_of_war([0.1, 0.8], [0.0, 0.9]) == pytest.approx(0.9 * 0.9)
    assert tug_of_war([0.1, float("nan")], [0.0, 0.9]) == pytest.approx(0.9)
