"""Classifiers of any make: what they give is read as logits in both modes, and what is frozen stays as it is."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from refusals import refused
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from training import same

from megu.core import models
from megu.core.adapted import adapted, tensors, unwrapped
from megu.core.loading import check_and_copy, weights_digest
from megu.core.models import given_back

X = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(3))
Pair = namedtuple("Pair", "logits other")


@dataclass
class Record:
    score: torch.Tensor
    features: torch.Tensor


class Net(nn.Module):
    """A body and two heads; ``give`` makes an output of (model, main logits, auxiliary logits, features)."""

    def __init__(self, give=lambda net, main, *_: main, norm=nn.BatchNorm1d):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.norm = nn.Sequential(nn.Flatten(), nn.Linear(36, 8)), norm(8)
        self.main, self.other, self.give = nn.Linear(8, 4), nn.Linear(8, 4), give

    def forward(self, x):
        found = self.norm(self.body(x)).relu()
        return self.give(self, self.main(found), self.other(found), found)


def trained_on(net, x=X):
    """What a training step sees of a model, whose mode and state are restored."""
    copy = models.copy_of(net).train()
    return copy, copy(x)


OUTPUTS = {
    "tuple": lambda net, main, other, features: (main, features),
    "features first": lambda net, main, other, features: [features, main],
    "named": lambda net, main, other, features: Pair(main, other),
    "dict": lambda net, main, other, features: {"aux": other, "logits": main},
    "nested": lambda net, main, other, features: ({"scores": main}, features),
    "dataclass": lambda net, main, other, features: Record(main, features),
    "auxiliary in training": lambda net, main, other, features: (other, main) if net.training else main,
    "dict in training": lambda net, main, other, features: {"a": other, "b": main} if net.training else main,
    "joined in evaluation": lambda net, main, o, _: (main - o / 99, main + o / 99) if net.training else main,
    "probabilities": lambda net, main, other, features: main.softmax(1),
    "percents": lambda net, main, other, features: 100 * main.softmax(1),
    "log-probabilities": lambda net, main, other, features: main.log_softmax(1),
    "softmax in evaluation": lambda net, main, other, features: main if net.training else main.softmax(1),
    "both": lambda net, main, other, features: main if net.training else (main.softmax(1), main),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_logits_are_read_in_both_modes_and_taught_as_such(kind, caplog):
    expected, given = Net().eval(), Net(OUTPUTS[kind]).eval()
    net = adapted(models.copy_of(given), X, 4)
    assert torch.allclose(net(X).softmax(1), expected(X).softmax(1), atol=1e-6) and caplog.text
    (ours, logits), (theirs, wanted) = trained_on(net), trained_on(expected)
    assert torch.allclose(logits.softmax(1), wanted.softmax(1), atol=1e-6)
    for found in (logits, wanted):
        F.cross_entropy(found, torch.arange(5) % 4).backward()
    assert torch.allclose(ours.main.weight.grad, theirs.main.weight.grad, atol=1e-6)
    back = given_back(given, ours)
    assert type(back(X)) is type(given(X)) and same(back, ours) and not back.training


@pytest.mark.parametrize(("give", "words"), [
    (lambda net, main, other, features: (main * 20 + 2).sigmoid(), "from 0 to 1 that do not sum to 1 .a sigmoid"),
    (lambda net, main, other, features: (main, other), r"gives 2 outputs for 5 images \(0, 1\): return one"),
    (lambda net, main, other, features: {"loss": main.mean()}, "gives a dict for 5 images of 4 classes: "),
    (lambda net, main, other, features: main[..., None, None], r"gives \(5, 4, 1, 1\) for 5 images"),
    (lambda net, main, other, features: features if net.training else main, r"in training mode, gives \(3, 8\)"),
    (lambda net, main, other, features: main.nope if net.training else main, "but not in training mode .AttributeErr"),
    (lambda net, main, other, _: (main, other) if net.training else main + 9 * other, "none of which, nor their mean"),
    (lambda net, main, other, features: main / 0, "logits that are no numbers .NaN or infinite.: give weights"),
    (lambda net, main, other, features: main if len(main) > 1 else main[0], "other logits for an image alone"),
    (lambda net, main, other, features: main.detach(), "lets no gradient through .*freeze layers by requires_grad_"),
    (lambda net, main, other, features: net.main(features.detach()), "lets no gradient through to its images"),
    (lambda net, main, other, features: (-(main**2), main.add_(1))[0], "not in training mode .RuntimeError.*inplace"),
    (lambda net, main, other, features: main - main.mean(0), "other logits for an image alone than among others"),
    (lambda net, main, other, features: main + torch.randn(4) * 9, "draw nothing"),
])  # fmt: skip
def test_outputs_that_are_not_clear_are_refused(give, words):
    with refused(words):
        adapted(Net(give).eval(), X, 4)


def test_images_stay_as_they_are_in_a_model_that_writes_into_them(caplog):
    body, first = Net(norm=nn.Identity), nn.Identity()
    first.register_forward_pre_hook(lambda _, inputs: (inputs[0].mul_(2).sub_(1),))
    net, expected, x = adapted(nn.Sequential(first, body).eval(), X, 4), body(X * 2 - 1), X.clone().requires_grad_()
    for _ in range(2):
        assert torch.allclose(net(x), expected, atol=1e-6) and torch.equal(x, X)
    net(x).sum().backward()
    assert x.grad is not None and "writes into the images" in caplog.text


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_quantised_layers_are_refused_by_name():
    with refused(r"model has quantised layers \(body.1: Linear\), which cannot be trained: give the model that it was"):
        check_and_copy(torch.ao.quantization.quantize_dynamic(Net(), {nn.Linear}), Few())


def test_a_plain_classifier_wears_no_hooks():
    net = adapted(Net(norm=nn.Identity), X, 4)
    assert not net._forward_hooks and not net._forward_pre_hooks
    assert adapted(Net(), X, 4)._forward_pre_hooks, "batch statistics need them"


def test_small_logits_are_not_taken_for_probabilities():
    net = Net(lambda net, main, *_: main * 0.1 + 0.5).eval()
    wanted = net(X)
    assert 0 < wanted.min() and wanted.max() < 1 and torch.equal(adapted(net, X, 4)(X), wanted)


def moved(net, before):
    return {name for name, value in tensors(net).items() if not torch.equal(value, before[name])}


def step(net, x=X):
    before = {name: value.clone() for name, value in tensors(net).items()}
    net.train()
    F.cross_entropy(net(x), torch.arange(len(x)) % 4).backward()
    torch.optim.SGD(models.trainable(net), 0.1, 0.9).step()
    return moved(net, before)


def test_frozen_parts_stay_with_their_batch_statistics_and_it_is_said(caplog):
    for freeze in (lambda net: net.norm.requires_grad_(False), lambda net: net.train() and net.norm.eval()):
        net = Net().eval()
        freeze(net)
        changed = step(adapted(models.copy_of(net), X, 4))
        assert not any("running" in name for name in changed) and {"main.weight", "body.1.weight"} <= changed
        assert "stay as they are" in caplog.text
    assert {"norm.running_mean", "norm.weight"} <= step(adapted(Net().eval(), X, 4)), "the control moves"
    net = Net(norm=lambda n: nn.Sequential(nn.BatchNorm1d(n, affine=False), nn.Linear(n, n))).eval()
    net.norm.requires_grad_(False)
    net.body.requires_grad_(False)
    assert step(adapted(net, X, 4)) == {"main.weight", "main.bias"}, "statistics without weights are of a frozen part"


def test_one_image_is_trained_on_with_the_statistics_of_all():
    with pytest.raises(ValueError, match="more than 1 value"):
        step(Net(), X[:1])
    net = adapted(Net().eval(), X, 4)
    changed = step(net, X[:1])
    assert "main.weight" in changed and not any("running" in name for name in changed)
    assert any("running" in name for name in step(net)), "of five images they are their own again"


class Keeps(nn.Module):
    """Keeps what it saw: an activation, and one in a list."""

    def __init__(self):
        super().__init__()
        self.net = Net()

    def forward(self, x):
        self.last = self.net(x)
        self.every = [{"last": self.last}]
        return self.last


def weight_normed(make):
    net = Net()
    net.main = make(net.main)
    return net


MADE = {
    "kept activations": Keeps,
    "weight norm": lambda: weight_normed(parametrizations.weight_norm),
    "weight norm of old": lambda: weight_normed(nn.utils.weight_norm),
    "spectral norm of old": lambda: weight_normed(nn.utils.spectral_norm),
    "half": lambda: Net().half(),
    "bfloat16": lambda: Net().bfloat16(),
    "double": lambda: Net().double(),
    "data-parallel": lambda: nn.DataParallel(Net()),
    "compiled": lambda: torch.compile(Net(), backend="eager"),
    "compiled in parallel": lambda: torch.compile(nn.DataParallel(Net()), backend="eager"),
    "state that is no tensor": lambda: Stateful(),
}


class Stateful(Net):
    def get_extra_state(self):
        return {"epoch": 3}

    def set_extra_state(self, state):
        self.epoch = state["epoch"]


class Few:
    """As many images as `check_and_copy` needs."""

    x, num_train, num_classes, shape = X, 5, 4, (1, 6, 6)

    def few(self):
        return X


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", MADE)
def test_copies_files_and_hashes_of_every_make(kind, tmp_path, caplog):
    given = MADE[kind]()
    if kind in ("kept activations", "weight norm of old"):
        given(X)
    digest = weights_digest(given)
    net = check_and_copy(given, Few())
    assert digest == weights_digest(given) and {w.dtype for w in net.parameters()} == {torch.float32}
    assert ("float32" in caplog.text) == (kind in ("half", "bfloat16", "double"))
    assert step(net), "it can be trained"
    models.save(net, tmp_path / "new.safetensors", {})
    other = models.load(tmp_path / "new.safetensors", models.copy_of(net))
    back = given_back(given, net)
    assert torch.allclose(other(X), net.eval()(X)) and torch.allclose(back(X), net(X))
    assert type(back) is type(unwrapped(given)) and weights_digest(back) == weights_digest(net)
    assert not any(name.startswith(("_orig_mod", "module")) for name in back.state_dict())
    assert parametrize.is_parametrized(unwrapped(given)) == parametrize.is_parametrized(back)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_and_what_cannot_be_copied_is_refused_by_name():
    script = torch.jit.trace(Net(norm=nn.Identity).eval(), X)
    with refused("model is TorchScript, .*: give the nn.Module that it was made of"):
        check_and_copy(script, Few())
    net = Net()
    net.draws = iter([1])
    net.lock = __import__("threading").Lock()
    with refused("model cannot be copied .TypeError.*copy.deepcopy"):
        check_and_copy(net, Few())
    with refused("has frozen weights only: set requires_grad"):
        check_and_copy(Net().requires_grad_(False), Few())
