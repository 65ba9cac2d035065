"""SSD: the weights that it dampens, and the public code's order of batches."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from megu.methods import METHODS, ssd
from megu.methods.task import Task


def request(model, images, split=None):
    return Task(model, images, split, (), None, 0, None, None, 0, None)


def test_importance_by_hand():
    x, y, model = (
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
        torch.tensor([0, 1, 0]),
        nn.Linear(2, 2, bias=False),
    )
    task = request(model, SimpleNamespace(y=y, batch=lambda index: x[index]))
    sample, batch = (ssd.importance(task, torch.arange(3), size)[0] for size in (1, 3))
    each = (model(x).softmax(1) - F.one_hot(y, 2))[:, :, None] * x[:, None]
    assert torch.allclose(sample, each.square().mean(0)) and torch.allclose(batch, each.mean(0).square())
    assert not torch.allclose(sample, batch)


@pytest.mark.parametrize(("alpha", "lam", "first"), [
    (3, 1, 0.5), (5, 1, 2.0), (3, 9, 2.0),  # 2 * 2/8; not important enough; never amplified
])  # fmt: skip
def test_dampened_by_hand(alpha, lam, first):
    weights, of_forget, of_all = (torch.tensor(values) for values in ([2.0, 3.0], [8.0, 1.0], [2.0, 1.0]))
    (found,) = ssd.dampened(nn.ParameterList([weights]), [of_forget], [of_all], alpha, lam)
    assert found.tolist() == [first, 3.0]


FINE = torch.tensor([2, 0, 3, 1, 2, 3, 0, 1, 2, 0])  # (fine) class of ten images; superclasses are 0, 1 and 2, 3


def order(labels, goes):
    """The public code's order of ten images, of which ``goes`` are to be forgotten."""
    stays = torch.tensor([i for i in range(10) if i not in goes])
    split = SimpleNamespace(forget=torch.tensor(goes), retain=stays)
    return [part.tolist() for part in ssd.public_order(request(None, SimpleNamespace(y=labels, fine=FINE), split))]


@pytest.mark.parametrize(("labels", "goes", "expected"), [
    (FINE, [3, 7], [1, 6, 9, 0, 4, 8, 2, 5, 3, 7]),  # class 1 goes: classes 0, 2, 3, and 1 at the end
    (FINE // 2, [1, 3, 6, 7, 9], [0, 2, 4, 5, 8, 1, 3, 6, 7, 9]),  # superclass 0 goes: classes 2 and 3 stand mixed
    (FINE // 2, [3, 7], [1, 6, 9, 0, 4, 8, 2, 5, 3, 7]),  # class 1 of superclass 0 goes: by class, not by superclass
])  # fmt: skip
def test_ssd_code_has_the_batches_of_the_public_code(labels, goes, expected):
    assert order(labels, goes) == [goes, expected]


def test_ssd_code_mixes_where_single_images_go():
    forget, everything = order(FINE, [0, 1, 2])
    assert sorted(forget) == [0, 1, 2] and everything[7:] == forget and sorted(everything) == list(range(10))
    retained = everything[:7]  # neither by class nor as they came
    assert (FINE[retained].diff() < 0).sum() > 1 and retained != sorted(retained)


def test_ssd_code_takes_all_images_in_that_order(tasks, monkeypatch):
    task, seen = tasks["class", "resnet-small"], []
    monkeypatch.setattr(ssd, "importance", lambda task, *cut: seen.append(cut) or [torch.ones(1)] * 99)
    monkeypatch.setattr(ssd, "dampened", lambda model, *a: model)
    ssd.unlearn(task, METHODS["ssd"].settings(importance="batch"))
    (forget, size), (everything, _) = seen
    assert size == 64 and all(map(torch.equal, (forget, everything), ssd.public_order(task)))
    assert len(everything) == len(task.split.train) and torch.equal(everything[-len(forget) :], task.split.forget)
