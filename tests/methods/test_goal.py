"""What a retrained model may still name right, and MeGU's second training where its new model names more (A16)."""

import dataclasses
from math import isnan
from types import SimpleNamespace

import pytest
import torch
from recording import unlearn
from torch import nn
from torch.nn import functional as F

from megu.methods import goal as goals
from megu.methods.goal import LEFT, goal, nearer, remembers
from megu.methods.megu import AGAIN
from megu.methods.task import Task


@pytest.fixture
def single(tasks):
    return tasks["random", "resnet-small"]


def state(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def asked(monkeypatch, answer, second=True):
    """The models that MeGU asks about; what it is told, also of which model is nearer."""
    seen = []
    monkeypatch.setattr(Task, "remembers", lambda self, model: seen.append(model) or answer)
    monkeypatch.setattr(Task, "nearer", lambda self, *models: models[second])
    return seen


def naming(monkeypatch, task, right):
    """Whether a model that names so many forget images right remembers them."""
    y, k = task.images.y[task.split.forget], task.num_classes
    logits = F.one_hot(torch.where(torch.arange(len(y)) < right, y, (y + 1) % k), k).float()
    monkeypatch.setattr(goals, "predict", lambda *_: logits)
    return remembers(task, None)


def test_of_a_whole_class_nothing_may_be_left_and_of_single_images_what_their_class_still_tells(task, single):
    forget = single.split.forget
    assert goal(task, task.split.forget) == 0 and single.forgotten == ()
    assert 20 < goal(single, forget) < 100
    y = single.images.y.clone()
    y[single.split.retain] = (y[single.split.retain] + 1) % 10  # the control: a head that learns other names
    assert goal(dataclasses.replace(single, images=dataclasses.replace(single.images, y=y)), forget) < 20


def test_without_a_linear_head_there_is_no_goal_and_nothing_is_remembered(single, monkeypatch):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = single.original

        def forward(self, x):
            return 2 * self.net(x)

    headless = dataclasses.replace(single, original=Scaled().eval())
    assert isnan(goal(headless, single.split.forget)) and not isnan(goal(single, single.split.forget))
    count = len(single.split.forget)
    assert not naming(monkeypatch, headless, count) and naming(monkeypatch, single, count)


@pytest.mark.parametrize(("over", "found"), [(-1, False), (0, False), (1, True)])
@pytest.mark.parametrize("may", [0.0, 40.0])
def test_five_points_more_than_the_goal_are_not_remembered_and_one_image_more_is(monkeypatch, over, found, may):
    at = torch.arange(100)
    task = SimpleNamespace(images=SimpleNamespace(y=at % 10), split=SimpleNamespace(forget=at), num_classes=10)
    monkeypatch.setattr(goals, "goal", lambda task, forget: may)
    assert naming(monkeypatch, task, round(may + LEFT) + over) == found


def test_where_the_images_are_remembered_a_second_training_has_the_clean_ones_and_is_returned(task, calls, monkeypatch):
    seen = asked(monkeypatch, True)
    first, second = calls("megu")
    (both,) = calls("megu", noise={"forget_items": "both"})
    (plain,) = calls("megu", noise={"forget_items": "noised"})
    assert [first.label, second.label] == [*AGAIN] and len(seen) == 1 and seen[0] is first.model
    assert first.index.equal(plain.index) and first.labels.equal(plain.labels)
    assert second.index.equal(both.index) and second.labels.equal(both.labels) and second.model is not first.model
    assert len(second.index) == len(first.index) + len(task.split.forget)


def test_the_model_of_the_second_training_is_that_of_both(task, monkeypatch):
    asked(monkeypatch, True)
    found, both, noised = (unlearn("megu", task, noise={"forget_items": k}) for k in ("checked", "both", "noised"))
    assert state(found).equal(state(both)) and not state(found).equal(state(noised))


def test_the_first_model_is_returned_where_the_second_is_not_nearer(task, monkeypatch):
    asked(monkeypatch, True, second=False)
    found, both, noised = (unlearn("megu", task, noise={"forget_items": k}) for k in ("checked", "both", "noised"))
    assert state(found).equal(state(noised)) and not state(found).equal(state(both))


def chosen_by(monkeypatch, right, held_out=True):
    """Of "first" and "second" the nearer; right: model -> percent of forget, retained, held-out images named right."""
    at = torch.arange(3)
    split = SimpleNamespace(forget=at[:1], retain=at[1:2], val_retain=at[2:] if held_out else at[:0])
    images = SimpleNamespace(y=torch.zeros(3))
    task = SimpleNamespace(original="original", images=images, split=split, sample=lambda index, *_: index)
    monkeypatch.setattr(goals, "goal", lambda task, forget: 0.0)
    monkeypatch.setattr(goals, "predict", lambda model, images, index: (model, index[0].item()))
    monkeypatch.setattr(goals, "accuracy", lambda found, y: right[found[0]][found[1]])
    return nearer(task, "first", "second")


@pytest.mark.parametrize("held_out", [True, False])
@pytest.mark.parametrize(("left", "kept", "chosen"), [
    (44, 90, "second"), (6, 91, "second"),  # little of the accuracy is lost for it
    (6, 85, "first"), (0, 92, "first"),  # more is lost than was left; equal: the first
    (44, 75, "second"), (10, 81, "first"),
])  # fmt: skip
def test_the_nearer_model_forgets_and_keeps(monkeypatch, held_out, left, kept, chosen):
    right = {"original": (99, 92, 92), "first": (left, 92, 92), "second": (0, kept, kept)}
    assert chosen_by(monkeypatch, right, held_out) == chosen


def test_what_is_lost_of_training_and_of_held_out_images_counts_twice(monkeypatch):
    right = {"original": (99, 92, 92), "first": (7, 92, 92)}
    for second, chosen in (((0, 87, 87), "first"), ((0, 92, 87), "second"), ((0, 87, 92), "second")):
        assert chosen_by(monkeypatch, right | {"second": second}) == chosen


def test_where_nothing_is_remembered_the_bits_are_those_of_one_training(task, monkeypatch):
    seen = asked(monkeypatch, False)
    once = dataclasses.replace(task, history={})
    found = unlearn("megu", once)
    assert len(seen) == 1 and [*once.history] == [AGAIN[0]]
    assert state(found).equal(state(unlearn("megu", task, noise={"forget_items": "noised"})))


@pytest.mark.parametrize("noise", [{"kind": "none"}, {"forget_items": "noised"}, {"forget_items": "both"}])
def test_without_noise_or_where_the_items_are_given_nothing_is_asked(calls, monkeypatch, noise):
    seen = asked(monkeypatch, True)
    assert len(calls("megu", noise=noise)) == 1 and seen == []
    assert len(calls("megu")) == 2 and len(seen) == 1  # the control


def test_the_tasks_own_check_is_that_of_the_goal(task, monkeypatch):
    assert task.remembers(task.original) == remembers(task, task.original)
    count = len(task.split.forget)
    assert naming(monkeypatch, task, count) and not naming(monkeypatch, task, 0)
