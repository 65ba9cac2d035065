"""The noise pair: it means what it should, shuffled pixels do not, and the model is left alone."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from megu.core.device import generator
from megu.noise_pair import NoisePair, add_noise_pair, noise_pair, optimise_noise, shuffled_pixels
from megu.settings.config import Noise


@pytest.fixture(scope="module")
def trained(tiny):
    return tiny.original(0)


def probability(model, x, y):
    with torch.no_grad():
        return model(x).softmax(1).gather(1, y[:, None])[:, 0]


def test_positive_and_negative_noise_mean_their_labels(trained, tiny):
    y = torch.arange(10)
    noise = Noise(lam=0.01)
    pos = optimise_noise(trained, y, tiny.images.shape, +1, noise, generator(0, "pos"))
    neg = optimise_noise(trained, y, tiny.images.shape, -1, noise, generator(0, "neg"))
    assert (
        probability(trained, pos, y).mean()
        > 0.5
        > probability(trained, shuffled_pixels(pos, generator(0, "s")), y).mean()
    )
    assert probability(trained, neg, y).mean() < 0.01


def test_the_model_is_untouched(trained, tiny):
    trained.train()
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    optimise_noise(trained, torch.arange(10), tiny.images.shape, 1, Noise(steps=3), generator(0))
    assert all(torch.equal(v, before[k]) for k, v in trained.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in trained.parameters()) and trained.training
    trained.eval()


def test_a_noise_does_not_depend_on_its_neighbours(trained, tiny):
    many = optimise_noise(trained, torch.arange(10), tiny.images.shape, 1, Noise(steps=5), generator(0))
    few = optimise_noise(trained, torch.arange(4), tiny.images.shape, 1, Noise(steps=5), generator(0))
    assert torch.allclose(many[:4], few, atol=1e-3)


def test_labels_are_looked_up_once_not_in_every_step(trained, tiny):
    """A look-up of the device's labels by an index on the CPU waits for the device."""

    class Indexed(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            count[0] += func is torch.Tensor.__getitem__ and args[0] is y
            return func(*args, **(kwargs or {}))

    y, found = torch.arange(10), []
    for steps in (1, 6):
        count = [0]
        with Indexed():
            optimise_noise(trained, y, tiny.images.shape, 1, Noise(steps=steps), generator(0))
        found.append(count[0])
    assert found == [1, 1]


def test_less_memory_changes_no_noise(trained, tiny):
    class Small(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            if len(x) > 80:
                raise torch.OutOfMemoryError("no room")
            return self.net(x)

    y = torch.arange(10).repeat(30)
    many, few = (
        optimise_noise(net, y, tiny.images.shape, 1, Noise(steps=1), generator(0)) for net in (trained, Small(trained))
    )
    assert torch.allclose(many, few, atol=1e-5) and not torch.allclose(many, many.roll(1, 0), atol=1e-1)


def test_lambda_pulls_to_zero(trained, tiny):
    norms = [
        optimise_noise(trained, torch.arange(10), tiny.images.shape, 1, Noise(lam=lam), generator(0)).norm().item()
        for lam in (0.001, 0.1, 10.0)
    ]
    assert norms[0] > norms[1] > norms[2]


@pytest.mark.parametrize(
    ("per", "around", "distinct"), [("class", "nothing", 2), ("image", "nothing", 8), ("image", "image", 8)]
)
def test_one_noise_per_class_or_per_image(trained, tiny, per, around, distinct):
    x = tiny.images.batch(tiny.split.forget[:8])
    y = tiny.images.y[tiny.split.forget[:8]]
    y_perturb = torch.tensor([1, 2] * 4)
    pair = noise_pair(trained, x, y, y_perturb, Noise(per=per, around=around, steps=5), generator(0))
    assert pair.pos.shape == pair.neg.shape == x.shape
    assert len(pair.pos.unique(dim=0)) == distinct


def test_shuffled_pixels_keep_the_norm():
    n = torch.randn(3, 1, 8, 8)
    assert torch.allclose(shuffled_pixels(n, generator(0)).norm(), n.norm()) and not torch.equal(
        shuffled_pixels(n, generator(0)), n
    )


@pytest.mark.parametrize(("settings", "expected"), [
    ({}, 1 + 0.5 * 2 + 0.25 * 4), ({"kind": "none"}, 1.0),
    ({"kind": "pos"}, 1 + 0.5 * 2), ({"kind": "neg"}, 1 + 0.25 * 4),
    ({"combine": "mix"}, 0.25 * 1 + 0.5 * 2 + 0.25 * 4),
])  # fmt: skip
def test_how_the_pair_is_added(settings, expected):
    x, pair = torch.ones(2, 1, 3, 3), NoisePair(torch.full((2, 1, 3, 3), 2.0), torch.full((2, 1, 3, 3), 4.0))
    found = add_noise_pair(x, pair, Noise(weight_pos=0.5, weight_neg=0.25, **settings))
    assert torch.allclose(found, torch.full_like(x, expected))
