"""What a classifier's answer is made of: weights of its own, the same in both modes, and nothing of earlier calls."""

import copy

import pytest
import torch
from refusals import refused
from test_adapted import Few, Net, X, step
from torch import nn

from megu.core import models
from megu.core.adapted import adapted
from megu.core.loading import check_and_copy


class Two(nn.Module):
    """A classifier and the average of its weights; ``answers`` in eval mode is one of them."""

    def __init__(self, answers):
        super().__init__()
        self.live, self.answers = Net(norm=nn.Identity), answers
        self.average = copy.deepcopy(self.live)

    def forward(self, x):
        return (self.live if self.training else getattr(self, self.answers))(x)


@pytest.mark.parametrize("frozen", [False, True])
def test_an_average_of_weights_is_not_trained_and_not_answered_by_in_silence(frozen, caplog):
    net = Two("average")
    net.average.requires_grad_(not frozen)
    with refused("answers in eval mode by other weights than those that it trains"):
        adapted(net, X, 4)
    net.answers = "live"
    adapted(net, X, 4)
    assert ("8 weights have no part in the logits of training mode (live.other.weight" in caplog.text) != frozen
    caplog.clear()
    adapted(Net(lambda net, main, other, _: main + 0 * other), X, 4)
    assert "no part" not in caplog.text


class Listed(nn.Module):
    """A layer in a plain list."""

    def __init__(self):
        super().__init__()
        self.layers, self.body, self.head = [nn.Linear(36, 8)], nn.Flatten(), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.layers[0](self.body(x)))


def closed():
    net = Net(norm=nn.Identity)
    main, body = net.main, net.body
    net.forward = lambda x: main(body(x))
    return models.copy_of(net)


def test_weights_that_no_file_would_have_are_refused():
    for net in (Listed(), closed()):
        with refused("answers by . weights that are no parameters of it .*: register them"):
            adapted(net, X, 4)
    net = Listed()
    net.layers[0].requires_grad_(False)
    assert adapted(net, X, 4) is net, "it shall stay"


class Recurrent(Net):
    """Adds what it was last given."""

    def forward(self, x):
        found, self.held = super().forward(x), getattr(self, "held", 0)
        found = found + (self.held if len(self.held) == len(x) else 0) if isinstance(self.held, torch.Tensor) else found
        self.held = found.detach()
        return found


def test_what_is_kept_from_call_to_call_is_refused():
    with refused("other logits for the same images, asked again: in eval mode let forward keep nothing"):
        adapted(Recurrent(norm=nn.Identity), X, 4)


def no_return(self, mode=True):
    nn.Module.train(self, mode)


@pytest.mark.parametrize(("train", "said"), [
    (no_return, "it does not return the model"), (lambda self: self, "takes? 1 positional argument"),
])  # fmt: skip
def test_a_train_of_the_users_own_must_be_like_torchs(train, said):
    with refused(f"model.train is unlike torch's .*{said}.*: let it take a mode, and return self"):
        adapted(type("Own", (Net,), {"train": train})(), X, 4)


def test_a_mask_may_hold_infinities_and_weights_may_not():
    net = Net()
    net.register_buffer("mask", torch.full((2, 2), -torch.inf))
    check_and_copy(net, Few())
    net.main.bias.data[0] = torch.inf
    with refused("main.bias has 1 values that are no numbers"):
        check_and_copy(net, Few())


def test_a_frozen_instance_normalisation_stays():
    norm = nn.InstanceNorm1d(4, affine=True, track_running_stats=True)
    net = Net(norm=lambda n: nn.Sequential(nn.Unflatten(1, (4, n // 4)), norm, nn.Flatten()))
    moved = copy.deepcopy(net)
    net.norm.requires_grad_(False)
    assert not any("running" in name for name in step(adapted(net.eval(), X, 4)))
    assert any("running" in name for name in step(adapted(moved.eval(), X, 4))), "the control moves"
