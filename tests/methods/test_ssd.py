"""SSD: the weights that it dampens, and the public code's order of batches."""

import dataclasses
import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from megu import methods
from megu.methods import ssd
from megu.methods.task import Task


@pytest.fixture
def task(tasks):
    return tasks["class", "resnet-small"]


def settings(name, **values):
    entry = methods.METHODS[name]
    return entry.settings(**values)


class TwoWeights(nn.Module):
    """Logits (w1 * x1, w2 * x2): gradients that can be written down."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([2.0, 3.0]))

    def forward(self, x):
        return x.flatten(1) * self.w


@dataclasses.dataclass
class Pixels:
    """As much of `megu.datasets.images.Images` as the importance needs."""

    x: torch.Tensor
    y: torch.Tensor

    def batch(self, index):
        return self.x[index]


def test_ssd_on_two_weights():
    model, images = (
        TwoWeights(),
        Pixels(torch.tensor([[[[1.0, 0.0]]], [[[0.0, 1.0]]], [[[1.0, 1.0]]]]), torch.tensor([0, 1, 0])),
    )

    def gradient(i):  # of CE at w, by hand: (softmax - onehot) * x
        z = images.x[i].flatten() * model.w.detach()
        return (z.softmax(0) - F.one_hot(images.y[i], 2)) * images.x[i].flatten()

    index = torch.tensor([0, 1, 2])
    (sample,) = ssd.importance(model, images, index, 1)
    (batch,) = ssd.importance(model, images, index, 3)
    each = torch.stack([gradient(i) for i in range(3)])
    assert torch.allclose(sample, each.square().mean(0)) and torch.allclose(batch, each.mean(0).square())
    assert not torch.allclose(sample, batch)
    of_forget, of_all = [torch.tensor([8.0, 1.0])], [torch.tensor([2.0, 1.0])]
    assert ssd.dampened(TwoWeights(), of_forget, of_all, alpha=3, lam=1).w.tolist() == [
        0.5,
        3.0,
    ]  # 2 * 2/8; the other is kept
    assert ssd.dampened(TwoWeights(), of_forget, of_all, alpha=5, lam=1).w.tolist() == [2.0, 3.0]
    assert ssd.dampened(TwoWeights(), of_forget, of_all, alpha=3, lam=9).w.tolist() == [2.0, 3.0]  # never amplified


FINE = torch.tensor(
    [2, 0, 3, 1, 2, 3, 0, 1, 2, 0]
)  # (fine) class of ten training images; superclasses are 0, 1 and 2, 3


def order(labels, goes):
    """What the public code's order makes of ten images, of which ``goes`` are to be forgotten."""
    images = types.SimpleNamespace(y=labels, fine=FINE)
    stays = torch.tensor([i for i in range(10) if i not in goes])
    split = types.SimpleNamespace(forget=torch.tensor(goes), retain=stays)
    request = Task(None, images, split, (), None, 0, None, None, 0, None)
    return [part.tolist() for part in ssd.public_order(request)]


@pytest.mark.parametrize(("labels", "goes", "expected"), [
    (FINE, [3, 7], [1, 6, 9, 0, 4, 8, 2, 5, 3, 7]),  # class 1 goes: classes 0, 2, 3, and 1 at the end
    (FINE // 2, [1, 3, 6, 7, 9], [0, 2, 4, 5, 8, 1, 3, 6, 7, 9]),  # superclass 0 goes: classes 2 and 3 stand mixed
    (FINE // 2, [3, 7], [1, 6, 9, 0, 4, 8, 2, 5, 3, 7]),  # class 1 goes inside superclass 0: by class, not by superclass
])  # fmt: skip
def test_ssd_code_has_the_batches_of_the_public_code(labels, goes, expected):
    assert order(labels, goes) == [goes, expected]


def test_ssd_code_mixes_where_single_images_go():
    forget, everything = order(FINE, [0, 1, 2])
    assert sorted(forget) == [0, 1, 2] and everything[7:] == forget and sorted(everything) == list(range(10))
    retained = FINE[everything[:7]]
    assert (retained.diff() < 0).sum() > 1 and everything[:7] != sorted(
        everything[:7]
    )  # neither by class nor as they came


def test_ssd_code_takes_all_images_in_that_order(task, monkeypatch):
    seen = []
    monkeypatch.setattr(ssd, "importance", lambda model, images, *cut: seen.append(cut) or [torch.ones(1)] * 99)
    monkeypatch.setattr(ssd, "dampened", lambda model, *a: model)
    ssd.unlearn(task, settings("ssd", importance="batch"))
    (forget, size), (everything, _) = seen
    assert size == 64 and all(map(torch.equal, (forget, everything), ssd.public_order(task)))
    assert len(everything) == len(task.split.train) and torch.equal(everything[-len(forget) :], task.split.forget)
