"""How steps move the weights: each part of a recipe does what it says, and its default nothing."""

import pytest
import torch
from refusals import refused
from torch import nn
from torch.nn import functional as F
from training import far, same, train

from megu.core.optimiser import look_ahead, optimiser, smoothed
from megu.settings.config import Recipe


def test_the_average_is_that_of_the_formula():
    slow, fast, average, total = {"w": torch.tensor([1.0]), "n": torch.tensor(3)}, {"n": torch.tensor(4)}, 1.0, 8
    for step in range(1, total + 1):
        weight = float(step)
        fast["w"] = torch.tensor([weight])
        look_ahead(slow, fast, 3, step, total)
        if step in (3, 6):
            decay = 0.95**3 * (step / total) ** 3
            average = decay * average + (1 - decay) * weight
        expected = average if step in (3, 6, total) else weight
        assert fast["w"].item() == pytest.approx(expected, rel=1e-6) and fast["n"] == 4


def test_biases_of_batch_normalisation_have_a_rate_of_their_own():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    usual, own = optimiser(net, Recipe(norm_bias_lr=64.0, schedule="constant"), 5)[0].param_groups
    assert [id(p) for p in own["params"]] == [id(net[1].bias)] and len(usual["params"]) == 5
    assert own["lr"] == 64 * usual["lr"] and own["lr"] * own["weight_decay"] == usual["lr"] * usual["weight_decay"]
    for other in (Recipe(), Recipe(norm_bias_lr=64.0)):
        assert len(optimiser(nn.Linear(2, 2), other, 5)[0].param_groups) == 1


@pytest.mark.parametrize("factor", [1.0, 8.0])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_triangle_of_every_rate(name, factor):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    opt, schedule = optimiser(net, Recipe(optimiser=name, epochs=10, schedule="triangular", norm_bias_lr=factor), 10)
    rates = []
    for _ in range(100):
        rates.append([group["lr"] for group in opt.param_groups])
        opt.step()
        schedule.step()
    usual = [rate[0] for rate in rates]
    assert (
        usual[0] == pytest.approx(0.04) and max(usual) == usual[23] == 0.2 and usual[-1] == pytest.approx(0.0164, 0.1)
    )
    assert all(rate[-1] == pytest.approx(factor * rate[0]) for rate in rates)


def test_smoothed_labels_and_that_other_losses_refuse_them(tiny):
    logits, y, recipe = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0]), Recipe(label_smoothing=0.2)
    soft = 0.8 * F.one_hot(y, 4) + 0.05
    assert smoothed(F.cross_entropy, recipe, "it")(logits, y).allclose(-(soft * logits.log_softmax(1)).sum(1).mean())
    assert smoothed(F.cross_entropy, Recipe(), "it") is F.cross_entropy
    with refused("l1-sparse has a loss of its own: set label_smoothing of its recipe to 0"):
        train(tiny, "resnet-small", 32, how={"loss": F.mse_loss, "label": "l1-sparse"}, label_smoothing=0.1)


@pytest.mark.parametrize("part", [{"label_smoothing": 0.2}, {"norm_bias_lr": 4.0}, {"lookahead": 2}])
def test_each_part_moves_the_weights_and_its_default_does_not(tiny, part):
    usual, default, other = (
        train(tiny, "resnet-small", 40, batch=10, **more)[0]
        for more in ({}, {"label_smoothing": 0.0, "norm_bias_lr": 1.0, "lookahead": 0}, part)
    )
    assert same(usual, default) and far(usual, other) > 1e-3
