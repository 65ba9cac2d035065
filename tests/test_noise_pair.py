"""The noise pair: it means what it should, shuffled pixels do not, and the model is left alone."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from megu.core.device import generator
from megu.core.models import frozen
from megu.noise_pair import NoisePair, add_noise_pair, noise_pair, optimise_noise, shuffled_pixels
from megu.settings.config import Noise


@pytest.fixture(scope="module")
def trained(tiny):
    return tiny.original(0)


@pytest.fixture
def noise(trained, tiny):
    """optimise_noise of labels and settings."""

    def made(labels, sign=1, model=trained, **settings):
        return optimise_noise(model, labels, tiny.images.shape, sign, Noise(**settings), generator(0))

    return made


Y = torch.arange(10)


def test_positive_and_negative_noise_mean_their_labels(trained, noise):
    pos, neg = (noise(Y, sign, lam=0.01) for sign in (+1, -1))
    with torch.no_grad():
        of_pos, of_shuffled, of_neg = (
            trained(x).softmax(1).diagonal().mean() for x in (pos, shuffled_pixels(pos, generator(0, "s")), neg)
        )
    assert of_pos > 0.5 > of_shuffled and of_neg < 0.01


def test_the_model_is_untouched(trained, noise):
    trained.train()
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    noise(Y, steps=3)
    assert all(torch.equal(v, before[k]) for k, v in trained.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in trained.parameters()) and trained.training
    trained.eval()


def test_a_noise_does_not_depend_on_its_neighbours(noise):
    many, few = noise(Y, steps=5), noise(Y[:4], steps=5)
    assert torch.allclose(many[:4], few, atol=1e-3) and not torch.allclose(many[4:8], few, atol=1e-1)


def test_labels_are_looked_up_once_not_in_every_step(noise):
    """A look-up of the device's labels by an index on the CPU waits for the device."""
    count = []

    class Indexed(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            count.extend([1] * (func is torch.Tensor.__getitem__ and args[0] is Y))
            return func(*args, **(kwargs or {}))

    with Indexed():
        noise(Y, steps=6)
    assert len(count) == 1


def test_less_memory_changes_no_noise(trained, noise):
    class Small(torch.nn.Sequential):
        def forward(self, x):
            if len(x) > 80:
                raise torch.OutOfMemoryError("no room")
            return super().forward(x)

    usual, few = (noise(Y.repeat(30), model=net, steps=1) for net in (trained, Small(trained)))
    assert torch.allclose(usual, few, atol=1e-5) and not torch.allclose(usual, usual.roll(1, 0), atol=1e-1)


def test_lambda_pulls_to_zero(noise):
    norms = [noise(Y, lam=lam).norm() for lam in (0.001, 0.1, 10.0)]
    assert norms[0] > norms[1] > norms[2]


@pytest.mark.parametrize(
    ("per", "around", "distinct"), [("class", "nothing", 2), ("image", "nothing", 8), ("image", "image", 8)]
)
def test_one_noise_per_class_or_per_image(trained, tiny, per, around, distinct):
    forget = tiny.split.forget[:8]
    x, y, settings = tiny.images.batch(forget), tiny.images.y[forget], Noise(per=per, around=around, steps=5)
    pair = noise_pair(trained, x, y, torch.tensor([1, 2] * 4), settings, generator(0))
    assert pair.pos.shape == pair.neg.shape == x.shape and len(pair.pos.unique(dim=0)) == distinct


def test_shuffled_pixels_are_the_same_values_at_other_places():
    n = torch.randn(3, 1, 8, 8)
    shuffled = shuffled_pixels(n, generator(0))
    assert torch.equal(shuffled.flatten(1).sort().values, n.flatten(1).sort().values) and not torch.equal(shuffled, n)


@pytest.mark.parametrize(("settings", "expected"), [
    ({}, 1 + 0.7 * 2 + 0.3 * 4), ({"kind": "random"}, 1 + 0.7 * 2 + 0.3 * 4), ({"kind": "none"}, 1.0),
    ({"kind": "pos"}, 1 + 0.7 * 2), ({"kind": "neg"}, 1 + 0.3 * 4), ({"scale": 0.5}, 1 + 0.35 * 2 + 0.15 * 4),
    ({"combine": "mix", "scale": 0.5}, 0.5 * 1 + 0.35 * 2 + 0.15 * 4),
])  # fmt: skip
def test_how_the_pair_is_added(settings, expected):
    x, pos, neg = (torch.full((2, 1, 3, 3), value) for value in (1.0, 2.0, 4.0))
    found = add_noise_pair(x, NoisePair(pos, neg), Noise(**{"alpha": 0.7, "scale": 1.0, **settings}))
    assert torch.allclose(found, torch.full_like(x, expected))


def test_the_default_is_the_old_pair_of_weights_bit_for_bit():
    x, pos, neg = torch.randn(3, 5, 1, 9, 9, generator=generator(0))
    made = {noise: add_noise_pair(x, NoisePair(pos, neg), noise) for noise in (Noise(), Noise(scale=1.8900002))}
    assert [found.equal(x + 0.39 * pos + 1.5 * neg) for found in made.values()] == [True, False]


def test_a_mix_keeps_no_negative_share_of_the_image():
    Noise(combine="mix", scale=1.0)
    with pytest.raises(ValueError, match="set scale to at most 1"):
        Noise(combine="mix", scale=1.01)


def test_in_train_mode_a_noise_has_the_statistics_of_its_batch(trained, noise):
    """And draws nothing, moves no statistics; the objective falls there, not by the running statistics alone."""

    class Dropped(torch.nn.Sequential):
        def forward(self, x):
            return torch.nn.functional.dropout(super().forward(x), 0.9, self[-1].training)

    before, drawn = {k: v.clone() for k, v in trained.state_dict().items()}, torch.random.get_rng_state()
    here, there = (noise(Y, mode=mode, steps=5) for mode in ("train", "eval"))
    few = noise(Y[:4], mode="train", steps=5)
    dropped = noise(Y, mode="train", steps=5, model=Dropped(trained, torch.nn.Dropout(0.9)))
    assert not here.equal(there) and not torch.allclose(here[:4], few, atol=1e-2) and dropped.equal(here)
    assert all(v.equal(before[k]) for k, v in trained.state_dict().items()) and not trained.training
    assert drawn.equal(torch.random.get_rng_state())
    net = frozen(trained)
    with torch.no_grad():
        right = [net.train(mode)(here).softmax(1).diagonal().mean() for mode in (True, False)]
    assert right[0] > right[1]
