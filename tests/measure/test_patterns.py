"""Known pattern sets and their entanglement index."""

import re

import numpy as np
import pytest
import torch
import torchvision
from conftest import needs_weights
from scipy import stats
from torch import nn

from megu.core.models import blocks, build, copy_of
from megu.datasets.images import pool
from megu.guide.composed import lite0, photo_like
from megu.measure.maps import pattern_map
from megu.measure.patterns import LEVEL, Moments, entanglement, entanglement_index, moments, patterns

SERVES = np.eye(6, 8, dtype=bool)  # unit k serves class k alone, unit 6 serves classes 0 and 1, unit 7 nobody
SERVES[:2, 6] = True
NAMES = tuple("abcdef")
GLASS = nn.Sequential(nn.Flatten(), nn.Linear(8, 6))  # its units are the pixels


@pytest.fixture(scope="module")
def known():
    rng, y = np.random.default_rng(0), np.repeat(np.arange(6), 100)
    x = (100 + 40 * SERVES[y] + rng.normal(0, 20, (600, 8))).clip(0, 255).astype("uint8").reshape(-1, 2, 4)
    return pool("known", (x, y), (x[:6], y[:6]), NAMES)


@pytest.fixture(scope="module")
def seen(known):
    return moments(GLASS, known, torch.arange(600), boot=100, null=100)[None]


def test_streamed_statistics_are_those_of_the_whole_table(known, seen):
    table, y = known.batch(torch.arange(600)).flatten(1).double().numpy(), known.y[:600].numpy()
    one, rest = table[y == 1], table[y != 1]
    welch = stats.ttest_ind(one, rest, equal_var=False, alternative="greater")
    assert np.allclose(seen.p_values(effect=0.0)[0, 1], welch.pvalue, rtol=1e-6, atol=1e-12)
    pooled = np.sqrt((99 * one.var(0, ddof=1) + 499 * rest.var(0, ddof=1)) / 598)
    assert np.allclose(seen.effects()[0, 1], (one.mean(0) - rest.mean(0)) / pooled)
    assert seen.total.shape == (201, 6, 8), "no axis of images"
    far = Moments(torch.full((4, 1), 1e6), 2, 0, 0)  # a mean that is far from zero costs no accuracy
    far.add(1e6 + torch.arange(4.0)[:, None], torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 1]]], dtype=torch.float64))
    assert far.spread()[0] == pytest.approx(0.5**0.5)


def test_the_sets_are_found_and_permuted_labels_find_none(seen):
    found = patterns(seen)
    assert (found.serves == SERVES).all() and found.null_served.mean() < 0.05
    assert len(found.boot) == len(found.null) == len(found.null_served) == 100


def test_an_effect_below_the_bound_is_no_pattern(seen):
    for less, found in ((0.5, True), (0.0, False)):
        p = seen.p_values(seen.effects()[0].max() - less)[0].ravel()
        assert (stats.false_discovery_control(p) <= LEVEL).any() == found


def test_index_by_hand():
    effects = np.array([[2.0, 2.0, 0.0], [0.0, 2.0, 0.0], [-1.0, -1.0, 5.0]])
    index = entanglement_index(effects)
    assert index[0, 1] == pytest.approx(0.5**0.5) and index[0, 2] < 0 and np.allclose(np.diag(index), 1)
    assert entanglement_index(0.01 * effects, effects)[0, 1] < 1e-4


def test_the_index_has_an_interval_a_null_and_sets(seen):
    table = entanglement(patterns(seen), NAMES).set_index(["class_a", "class_b"])
    close, strange = table.loc[("a", "b")], table.loc[("a", "c")]
    assert -1 < close["low"] < close["index"] < close["high"] < 1 and close["high"] - close["low"] < 0.3
    assert close["index"] > close["null_high"] and close["p"] == pytest.approx(1 / 101)
    assert strange["index"] < strange["null_low"] and strange["p"] == 1
    sizes = table[["shared", "only_a", "only_b"]]
    assert sizes.loc[("a", "b")].tolist() == [1, 1, 1] and sizes.loc[("a", "c")].tolist() == [0, 2, 1]
    assert table.loc[("b", "a"), "index"] == close["index"] and len(table) == 30


def clip():
    model = pytest.importorskip("open_clip", reason="needs open_clip_torch").model
    vision = model.CLIPVisionCfg(image_size=32, layers=3, width=64, patch_size=8, head_width=32)
    text = model.CLIPTextCfg(context_length=8, vocab_size=100, width=32, heads=2, layers=1)
    return nn.Sequential(model.CLIP(64, vision, text).visual, nn.Linear(64, 6))


CLASSIFIERS = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=6),
    "vit": lambda: torchvision.models.VisionTransformer(32, 8, 3, 4, 32, 64, num_classes=6),
    "clip": clip,
    "resnet-small": lambda: build("resnet-small", 6, (3, 32, 32), 0),
    "vit-tiny": lambda: build("vit-tiny", 6, (3, 32, 32), 0),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_any_network_has_layers_patterns_and_places(name):
    rng, y = np.random.default_rng(0), np.repeat(np.arange(6), 10)
    x = rng.integers(0, 60, (60, 32, 32, 3)).astype("uint8")
    x[y == 1, :16] += 150  # a class that any network sees
    images, model = pool("any", (x, y), (x[:6], y[:6]), NAMES), CLASSIFIERS[name]()
    two = images.batch(torch.arange(2))
    layers = blocks(model, two, most=3)
    depths = [[int(n) for n in re.findall(r"\d+", layer)] for layer in layers]
    assert len(layers) == 3 and depths == sorted(depths)
    found = moments(model, images, torch.arange(60), (*layers, None), boot=5, null=5)
    serves = {layer: patterns(one).serves for layer, one in found.items()}
    seen, false = (sum(one[classes].sum() for one in serves.values()) for classes in ([1], [0, 2, 3, 4, 5]))
    assert seen > 20 and false <= 0.1 * seen
    assert pattern_map(model, two, layers[0], serves[layers[0]][1], found[layers[0]]).shape == (2, 32, 32)


def test_a_pretrained_network_has_layers_and_patterns(mini):
    needs_weights(lite0)
    model, index = copy_of(lite0()), torch.cat([torch.nonzero(mini.y == k).flatten()[:6] for k in (1, 7, 9)])
    model.register_forward_pre_hook(lambda _, x: photo_like(mini.restore(x[0]) * 255))
    layers = blocks(model, mini.batch(index[:2]), most=2)
    sets = patterns(moments(model, mini, index, (*layers, None), boot=0, null=0)[None]).serves
    assert len(layers) == 2 and sets[[1, 7, 9]].any(1).all() and not sets[[0, 2, 3]].any()
