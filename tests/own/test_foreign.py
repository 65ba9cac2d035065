"""Own models of every make, from the request to the new model: handled, or refused in one line before any work."""

from collections import namedtuple
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from bad import NAMES, images
from refusals import refused
from torch import nn
from torch.utils.data import TensorDataset

import megu
from megu.core.adapted import tensors
from megu.core.loading import weights_digest
from megu.datasets.user_images import moments
from megu.methods import METHODS, projection
from megu.own.request import CheckedRequest, Request

X, Y = images()
Both = namedtuple("Both", "logits aux")
QUICK = {"recipe.epochs": 1, "recipe.schedule": "constant"}
SMALL = {
    "megu": {**QUICK, "noise.steps": 2},
    "ssd": {"images": 9, "alpha": 0.2},
    "ssd-code": {},
    "projection": {"images": 9},
}
SMALL |= {**dict.fromkeys(("unsir", "unsir-ssd"), {"noises": 2, "copies": 1, "noise.steps": 2})}
OWN = [name for name, about in METHODS.items() if not about.reference and not about.variant_of]


class Net(nn.Module):
    """A convolution reads the brightest pixel; the head and what is around it differ."""

    def __init__(self, head, end=lambda net, x: x):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1, groups=4))
        self.head, self.aux, self.end = head, nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), end

    def forward(self, x):
        return self.end(self, self.head(self.body(x)))


class Matrix(nn.Module):
    """A head that is no layer, behind a linear layer that is no head."""

    def __init__(self):
        super().__init__()
        self.mid, self.last = nn.Linear(128, 16), nn.Parameter(torch.randn(16, 3) * 0.3)

    def forward(self, x):
        return self.mid(x.flatten(1)).relu() @ self.last


def taught(net, out=lambda found: found):
    opt = torch.optim.Adam(net.parameters(), 0.02)
    net.train()
    for _ in range(60):
        opt.zero_grad()
        found = net(X)
        nn.functional.cross_entropy(found.logits if isinstance(found, Both) else out(found), Y).backward()
        opt.step()
    return net.eval()


def convolutional():
    return nn.Sequential(nn.Conv2d(8, 3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(128, 3))


def with_auxiliary(net, logits):
    return Both(logits, net.aux(logits.new_zeros(len(logits), 1, 4, 4))) if net.training else logits


MAKE = {
    "convolution": lambda: taught(Net(convolutional())),
    "matrix": lambda: taught(Net(Matrix())),
    "auxiliary": lambda: taught(Net(linear(), with_auxiliary)),
    "softmax": lambda: taught(Net(linear(), lambda net, x: x.softmax(1)), lambda p: p.clamp_min(1e-9).log()),
}


UNFIT = {
    ("matrix", "bad-teacher"): "head.last of Net has no initialiser .*: choose a method without an untrained network",
    ("matrix", "head-only"): "head-only: the last layer is not linear",
    ("convolution", "head-only"): "head-only: the last layer is not linear",
}


@pytest.fixture(scope="module")
def made():
    return {name: make() for name, make in MAKE.items()}


@contextmanager
def usually(kind):
    """A default of the caller's own."""
    torch.set_default_dtype(kind)
    yield
    assert torch.get_default_dtype() == kind
    torch.set_default_dtype(torch.float32)


def ask(model, forget="ape", data=None, **more):
    data = TensorDataset(X, Y) if data is None else data
    return megu.unlearn(model, data, forget, **{"classes": NAMES, "guide": "model", **more})


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("method", OWN)
def test_every_method_takes_every_head_or_says_so_before(made, kind, method):
    model, how = made[kind], {"method": method, "settings": SMALL.get(method, QUICK)}
    digest = weights_digest(model)
    if why := UNFIT.get((kind, method)):
        with refused(why):
            CheckedRequest(Request(model, TensorDataset(X, Y), "ape", classes=NAMES, **how))
        return
    done = ask(model, **how)
    assert weights_digest(model) == digest != weights_digest(done.model)
    assert torch.equal(done.model(X), done.model(X)) and type(done.model) is Net
    assert (done.model(X).sum(1) - 1).abs().max() < 1e-5 or kind != "softmax", "it gives what the given one gives"


@pytest.mark.parametrize("method", OWN)
def test_what_is_frozen_stays_through_every_method(method):
    model = taught(Net(linear()))
    model.body.requires_grad_(False)
    done = ask(model, method=method, settings=SMALL.get(method, QUICK))
    after = tensors(done.model)
    moved = {name.partition(".")[0] for name, value in tensors(model).items() if not value.equal(after[name])}
    assert moved - {"aux"} == {"head"}, "l1-sparse makes all weights smaller that may move"
    assert "stay as they are" in str(done.report["done"]["notices"])
    assert [w.requires_grad for w in done.model.parameters()] == [w.requires_grad for w in model.parameters()]


@pytest.mark.parametrize("method", OWN)
def test_one_image_of_each_kind_is_enough_under_batch_normalisation(made, method):
    forget = "ape" if "random" not in METHODS[method].scenarios else [0]
    net = Net(nn.Sequential(nn.Conv2d(8, 16, 4), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(16, 3)))
    done = ask(taught(net), forget, method=method, settings=SMALL.get(method, QUICK), retain_images=1)
    assert all(value.isfinite().all() for value in done.model.state_dict().values())


def test_batches_of_one_and_a_last_one(made):
    for batch, retain in ((1, 4), (2, 1)):
        settings = {"recipe.batch": batch, "recipe.lr": 1e-4, "noise.steps": 2}
        assert ask(made["auxiliary"], [0, 1], settings=settings, retain_images=retain).report["verdict"]


def test_what_is_said_is_in_the_report(made):
    notices = {kind: ask(made[kind], method="finetune").report["done"]["notices"] for kind in made}
    usual = "a check on training", "no part in the logits of training mode (aux"
    said = {kind: str([one for one in lines if not any(map(one.count, usual))]) for kind, lines in notices.items()}
    assert "ends in a softmax" in said["softmax"] and "only logits is trained on" in said["auxiliary"]
    assert said["convolution"] == said["matrix"] == "[]"


def test_a_folder_holds_weights_by_the_users_names(made, tmp_path):
    wrapped = torch.compile(nn.DataParallel(made["convolution"]), backend="eager")
    done = ask(wrapped, method="finetune", out=tmp_path / "out")
    again = ask(wrapped, method="finetune", out=tmp_path / "out")
    other = taught(Net(convolutional()))
    other.load_state_dict(megu.core.weights.read_tensors(tmp_path / "out" / "model.safetensors"))
    assert torch.allclose(other(X), done.model(X)) and torch.equal(again.model(X), done.model(X))


class Counting(nn.Module):
    """Adds to its logits what it has seen in training, of which no file knows."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.register_buffer("seen", torch.zeros(3), persistent=False)

    def forward(self, x):
        if self.training:
            self.seen.add_(torch.tensor([0.0, 1.0, 0.0]))
        return self.net(x) + self.seen


@pytest.mark.parametrize("usual", [
    torch.no_grad, torch.inference_mode, partial(usually, torch.float64), partial(torch.device, "meta")
])  # fmt: skip
def test_what_is_measured_is_given_back_whatever_the_caller_has_set(made, usual):
    given = Counting(made["convolution"])
    with usual():
        done = ask(given, settings=SMALL["megu"])
    named = done.model(X).argmax(1) == Y
    right = {row["metric"]: row["after"] for row in done.report["metrics"]}
    for part, of in (("acc_forget_train", Y == 0), ("acc_retain_train", Y != 0)):
        assert right[part] == pytest.approx(100 * named[of].double().mean().item(), abs=0.1)
    assert not done.model.seen.any() and torch.get_default_dtype() == torch.float32


def test_arch_belongs_to_a_file(made):
    with refused("arch 'resnet18' belongs to a file of weights, but model is none: leave it out"):
        ask(made["convolution"], arch="resnet18")


def test_classes_are_counted_from_any_output(made):
    for kind in ("auxiliary", "softmax"):
        assert ask(made[kind], [3], classes=None, method="finetune").report["asked"]["data"]["classes"] == list("012")


def test_weights_that_are_computed_are_not_projected():
    model = taught(Net(linear()))
    nn.utils.parametrizations.weight_norm(model.head[1])
    with refused("projection: head.1.weight is computed from others .*remove_parametrizations"):
        ask(model, method="projection")
    assert ask(model, method="ssd", settings=SMALL["ssd"]).report["verdict"]


@pytest.mark.parametrize(("text", "mean"), [
    ("cifar10", (0.4914, 0.4822, 0.4465)), ("((0.1, 0.2, 0.3), (1, 1, 1))", (0.1, 0.2, 0.3)), ("0.5; 1", (0.5,) * 3),
    ("0.1,0.2,0.3;1,1,1", (0.1, 0.2, 0.3)), ("0.1,0.2;1,1", None), ("0.1;0", None), ("__import__('os')", None),
    ("(", None), ("0.1", None),
])  # fmt: skip
def test_moments_as_people_write_them(text, mean):
    x = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    if mean is None:
        with refused("normalise is .*: choose from imagenet, .*cifar10.* or give .mean, std. of 3 channels"):
            moments(text, x)
    else:
        assert moments(text, x)[0].tolist() == pytest.approx(mean)


class Look:
    """As `layer_inputs` asks for images."""

    def batch(self, index):
        return torch.randn(9, 4, 6, 6, generator=torch.Generator().manual_seed(2))[index]


@pytest.mark.parametrize("how", [
    {}, {"groups": 2}, {"groups": 4, "dilation": 2}, {"padding": "same", "padding_mode": "reflect"},
    {"padding": "valid", "stride": 2}, {"padding": (1, 0), "groups": 2, "padding_mode": "circular"},
])  # fmt: skip
def test_what_a_convolution_sees_makes_what_it_gives(how):
    layer, images, groups = nn.Conv2d(4, 8, (3, 2), bias=False, **how), Look(), how.get("groups", 1)
    seen = projection.layer_inputs(nn.Sequential(layer), images, torch.arange(9), torch.Generator())[layer]
    pairs = zip(seen.chunk(groups, 1), layer.weight.flatten(1).chunk(groups), strict=True)
    made = torch.cat([inputs @ weight.T for inputs, weight in pairs], 1)
    expected = layer(images.batch(torch.arange(9))).permute(0, 2, 3, 1).flatten(0, 2)
    assert torch.allclose(made.sort(0).values, expected.sort(0).values, atol=1e-4)
