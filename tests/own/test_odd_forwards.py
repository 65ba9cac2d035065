"""Forwards that users write are read as they answer, or refused in one line; a report is of what its file holds."""

import copy
import random

import numpy as np
import pytest
import torch
from own_model import NAMES, forget
from pixels import as_dataset, check, reader
from refusals import refused
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from megu.core.device import generator, seeded
from megu.guide import GuideUnavailableError
from megu.own.guide_choice import session_of
from megu.settings import extras
from megu.settings.errors import MeguError

BRIEF = {"method": "finetune", "settings": {"recipe.epochs": 2, "recipe.lr": 0.05}}


class Wrapped(nn.Module):
    """A network within another."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


class Viewed(Wrapped):
    """As in torch's own tutorial: a view of what a convolution gives, which needs one order of memory."""

    def __init__(self, inner):
        super().__init__(inner)
        self.first = nn.Conv2d(3, 3, 1, bias=False)
        self.first.weight.data[:, :, 0, 0] = torch.eye(3)

    def forward(self, x):
        return self.inner[1](self.first(x).view(-1, 192))


def test_a_view_behind_a_convolution_is_given_the_order_of_memory_that_it_needs():
    (net := Viewed(reader(range(4)))).eval()
    with pytest.raises(RuntimeError, match="view size is not compatible"):  # the control
        net(torch.zeros(2, 3, 8, 8).contiguous(memory_format=torch.channels_last))
    checked = check(net, as_dataset(n=20), "1")
    assert checked.accuracy == 1 and checked.original.training is False


class Fused(Wrapped):
    """Keeps its head in eval mode, and drops it only when it is trained."""

    kept = None

    def train(self, mode=True):
        if mode:
            self.kept = None
        return super().train(mode)

    def forward(self, x):
        if self.training:
            return self.inner(x)
        if self.kept is None:
            self.kept = tuple(one.detach().clone() for one in self.inner[-1].parameters())
        return F.linear(self.inner[:-1](x), *self.kept)


def test_the_report_is_of_the_file_also_where_weights_are_kept_in_eval_mode(model, parts, tmp_path):
    found = forget(Fused(copy.deepcopy(model)), parts, out=tmp_path, **{**BRIEF, "method": "amnesiac"})
    (fresh := Wrapped(copy.deepcopy(model))).load_state_dict(load_file(tmp_path / "model.safetensors"))
    x, y = parts[0].tensors
    gone = y == NAMES.index("trouser")
    right = [(net.eval()(x[gone]).argmax(1) == y[gone]).double().mean().item() for net in (fresh, found.model)]
    rows = {(row["model"], row["part"]): row["percent"] for row in found.report["accuracy"]}
    assert 100 * right[0] == pytest.approx(rows["after", "forget"], abs=1e-4) == pytest.approx(100 * right[1], abs=1e-4)
    assert rows["after", "forget"] < rows["before", "forget"]


class Extra(Wrapped):
    """Has a state of its own beside weights."""

    shift = 0.0

    def get_extra_state(self):
        """No tensor."""
        return {"shift": self.shift}

    def set_extra_state(self, state):
        """As it was."""
        self.shift = state["shift"]


def test_a_state_that_no_file_holds_is_said(model, parts):
    said = [str(forget(net, parts, **BRIEF).report["done"]["notices"]) for net in (Extra(model), Wrapped(model))]
    assert ["no file holds _extra_state" in one for one in said] == [True, False]


class Drawn(Wrapped):
    """Leaves out half of its logits' size at random, by generators that are not torch's."""

    def forward(self, x):
        return self.inner(x) * (0.5 + random.random() + np.random.rand() if self.training else 1.0)


def test_the_seed_holds_for_every_global_generator(model, parts):
    digests = []
    for start in (1, 2):
        random.seed(start), np.random.seed(start)
        digests.append(forget(Drawn(copy.deepcopy(model)), parts, **BRIEF).report["done"]["model"]["sha256_after"])
    assert digests[0] == digests[1]
    random.seed(3), np.random.seed(3)
    drawn = []
    for seed in (1, 2):
        with seeded(generator(seed, "test")):
            drawn.append(random.random())
    assert drawn[0] != drawn[1], "the control"
    after = random.random(), np.random.rand()
    random.seed(3), np.random.seed(3)
    assert after == (random.random(), np.random.rand()), "the caller's go on where they were"


class Single(Wrapped):
    """Copies itself by giving itself."""

    def __deepcopy__(self, memo):
        return self


def test_what_gives_itself_for_a_copy_is_refused(model, parts):
    before = copy.deepcopy(model.state_dict())
    with refused("model cannot be copied .*a copy shares inner.0.weight with it"):
        forget(Single(model), parts, **BRIEF)
    assert all(torch.equal(x, model.state_dict()[name]) for name, x in before.items())


def test_complex_weights_have_an_importance(model, parts):
    class Fourier(Wrapped):
        def __init__(self, inner):
            super().__init__(inner)
            self.filter = nn.Parameter(torch.ones(28, 15, dtype=torch.complex64))

        def forward(self, x):
            return self.inner(torch.fft.irfft2(torch.fft.rfft2(x) * self.filter, s=(28, 28)))

    settings = {"images": 50, "alpha": 1.0, "lam": 0.1}
    found = forget(Fourier(copy.deepcopy(model)), parts, method="ssd", settings=settings).model
    assert found.filter.is_complex() and (found.filter.abs() < 0.99).any()


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("where", ["forward", "settings"])
def test_what_is_cast_to_bfloat16_follows_the_weights(model, parts, where, outside):
    """Torch keeps casts until the outermost context ends: of the weights before the first step."""

    class Cast(Wrapped):
        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=True):
                return self.inner(x).float()

    usual = {"method": "finetune", "settings": {"recipe.epochs": 6, "recipe.lr": 0.05}}
    plain = forget(model, parts, **usual).history["finetune"]
    net = Cast(copy.deepcopy(model)) if where == "forward" else model
    more = {} if where == "forward" else {"autocast": "on"}
    with torch.autocast("cpu", torch.bfloat16, enabled=outside):
        found = forget(net, parts, **{**usual, "settings": usual["settings"] | more}).history["finetune"]
        assert torch.is_autocast_enabled("cpu") == outside
    assert plain[0] > 1.1 * plain[-1] and found == pytest.approx(plain, rel=0.05)


@pytest.mark.parametrize("channels", [2, 4])
def test_images_of_other_channels_are_not_compared_with_presets_of_three(channels):
    x, y = as_dataset(n=30).tensors
    y = torch.where(torch.arange(len(y)) % 10 == 0, (y + 1) % 4, y)  # a tenth is named otherwise
    pairs = [(torch.cat([one, one])[:channels].float() / 255, int(k)) for one, k in zip(x, y, strict=True)]
    net = reader(range(4))
    net[1] = nn.Linear(64 * channels, 4)
    net[1].weight.data.zero_(), net[1].bias.data.zero_()
    net[1].weight.data[:, :192] = reader(range(4))[1].weight.data[:, : 64 * channels][:, :192] if channels < 3 else 0
    if channels > 3:
        net[1].weight.data[:, :192] = reader(range(4))[1].weight.data
    checked = check(net, pairs, "1", classes=["0", "1", "2", "3"], normalise=None)
    assert 0.85 < checked.accuracy < 0.95
    for guide in ("composed", "mllm"):
        with pytest.raises(GuideUnavailableError, match=f"of 1 or 3 channels, and these have {channels}: choose"):
            session_of(guide, checked, None)
    session_of("names", checked, None)


def test_a_folder_that_is_called_like_a_package_is_none(tmp_path, monkeypatch):
    (tmp_path / "wandbx").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MeguError, match="wandbx"):
        extras.check_extra("log", "wandbx")
    (tmp_path / "wandbx" / "__init__.py").touch()
    extras.check_extra("log", "wandbx")


def test_copies_are_measured_once(model, parts):
    train, test = parts
    gone = (train.tensors[1] == NAMES.index("trouser")).nonzero()[:, 0].tolist()
    unseen = (test.tensors[1] == NAMES.index("trouser")).nonzero()[:, 0].tolist()
    many = ConcatDataset([train, *[Subset(train, gone)] * 3]), ConcatDataset([test, *[Subset(test, unseen)] * 3])
    stays = [i for i in range(len(train)) if i not in gone]
    thrice = ConcatDataset([train, *[Subset(train, stays)] * 2]), test  # as of those who make rare classes frequent
    once, again, other = (forget(model, these, **BRIEF).report for these in (parts, many, thrice))
    for found in (again, other):
        assert [row["images"] for row in found["accuracy"]] == [row["images"] for row in once["accuracy"]]
    assert "retained training images are copies of others: each is measured once" in str(other["done"]["notices"])
    assert [(row["members"], row["others"]) for row in again["attacks"]] == [
        (row["members"], row["others"]) for row in once["attacks"]
    ]
    assert "are copies of others: each is measured once" in str(again["done"]["notices"])
    assert "are copies" not in str(once["done"]["notices"])


def test_an_unseen_image_of_two_classes_is_on_no_side(model, parts):
    train, (x, y) = parts[0], parts[1].tensors
    gone, kept = ((y == k).nonzero()[:3, 0] for k in (NAMES.index("trouser"), 0))
    others = torch.tensor([0, NAMES.index("trouser")]).repeat_interleave(3)
    both = TensorDataset(torch.cat([x, x[gone], x[kept]]), torch.cat([y, others]))
    once, other = (forget(model, (train, test), **BRIEF).report for test in (parts[1], both))
    counts = [{row["part"]: row["images"] for row in of["accuracy"] if row["model"] == "after"} for of in (once, other)]
    assert counts[0] | {"test_forget": 7, "test_retain": 87} == counts[1]
    assert "6 unseen images are of what is forgotten and of what is retained" in str(other["done"]["notices"])


def test_classes_without_test_images_are_named(model, parts):
    train, (x, y) = parts[0], parts[1].tensors
    few = TensorDataset(x[y != 3], y[y != 3])
    said = forget(model, (train, few), **BRIEF).report["done"]["notices"]
    assert f"no test image is of {NAMES[3]!r}: what is measured on test images says nothing of them" in said


@pytest.mark.parametrize("method", ["megu", "finetune"])
def test_a_method_that_asks_no_guide_says_nothing_of_one(method):
    given = {"classes": ["class_0", "class_1", "class_2", "class_3"], "guide": None, "method": method}
    notices = check(reader(range(4)), as_dataset(), "class_1", **given).notices
    assert any("guide without language" in line for line in notices) == (method == "megu")
