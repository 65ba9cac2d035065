"""The training loop: it learns, repeats itself, stops where there is nothing to learn from, and does with little
memory."""

import dataclasses

import pytest
import torch
from conftest import Narrow
from refusals import refused
from torch.nn import functional as F
from training import FLOAT32, far, same, train

from megu import methods
from megu.core import models
from megu.core.device import generator
from megu.core.optimiser import optimiser
from megu.core.train import DivergedError, fit, predict
from megu.settings.config import Augment, Recipe
from megu.settings.values import build, nest


def test_it_learns_repeats_itself_and_shuffled_labels_do_not_generalise(tiny):
    test, y = torch.cat([tiny.split.test_retain, tiny.split.test_forget]), tiny.images.y[tiny.split.train]
    shuffled, accuracy, made = y[torch.randperm(len(y), generator=generator(0, "shuffle"))], [], []
    for seed, labels in ((0, y), (0, shuffled), (0, y), (1, y)):
        model = models.build("resnet-small", 10, tiny.images.shape, seed)
        _, history = train(tiny, model, gen=generator(seed, "order"), y=labels, epochs=4, lr=0.1, schedule="onecycle")
        assert history[-1] < history[0] and not model.training
        accuracy.append((predict(model, tiny.images, test).argmax(1) == tiny.images.y[test]).float().mean().item())
        made.append(model)
    assert accuracy[0] > 0.4 > accuracy[1]
    assert same(made[0], made[2]) and not torch.equal(made[0].head.weight, made[3].head.weight)


def test_nothing_to_train_on_and_divergence(tiny):
    with pytest.raises(ValueError, match="0 items"):
        fit(torch.nn.Linear(1, 1), None, 0, Recipe(), generator(0), FLOAT32)
    with pytest.raises(FloatingPointError, match="smaller learning rate than 1e\\+08"):
        train(tiny, "resnet-small", epochs=4, lr=1e8)


@pytest.mark.parametrize(("name", "more"), [("finetune", {}), ("neggrad-plus", {}), ("l1-sparse", {"alpha": 0.005})])
def test_a_step_in_parts_is_the_step(tasks, name, more, caplog):
    """Where memory does not suffice for a batch: the same weights up to rounding, without batch statistics; the
    control, a smaller batch, is far away."""
    task, method, ends = tasks["class", "vit-tiny"], methods.METHODS[name], {}
    for how, room, batch in (("whole", 1000, 32), ("parts", 5, 32), ("smaller batch", 1000, 8)):
        recipe = {"recipe.epochs": 2, "recipe.batch": batch, "recipe.lr": 0.05, "recipe.optimiser": "sgd"}
        given = dataclasses.replace(task, original=Narrow(task.original, room), compute=FLOAT32, history={})
        model = method.unlearn(given, build(method.settings, nest(recipe | more)))
        ends[how] = model, torch.tensor([*given.history.values()])
    distance = {how: far(model, ends["whole"][0]) for how, (model, _) in ends.items()}
    assert distance["parts"] < 1e-4 < 10 * 1e-4 < distance["smaller batch"], distance
    assert torch.allclose(ends["parts"][1], ends["whole"][1], atol=1e-4)
    assert "images at a time; going on in 8 parts each" in caplog.text


@pytest.mark.parametrize("fails", [0, 1, 3])
def test_a_batch_that_is_made_again_is_the_same_batch(tiny, fails):
    """Memory that does not suffice for the images, after they were augmented: the next attempt draws the same."""
    images, index, left = tiny.images, tiny.split.train[:64], [fails]
    gen, again = generator(0, "order"), generator(0, "order")

    def batch(i):
        x = images.batch(index[i], Augment(), gen)
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("no room")
        return x, images.y[index[i]]

    model, _ = train(tiny, "vit-tiny", 64, gen=gen, make=batch)
    usual, _ = train(tiny, "vit-tiny", 64, gen=again, augment=Augment())
    assert far(model, usual) < 1e-5
    assert gen.get_state().equal(again.get_state()), "later draws are the same too"


def test_what_no_smaller_part_can_help_is_one_line(tiny, monkeypatch):
    def no_room(*_, **__):
        raise torch.OutOfMemoryError("no room")

    with refused("training: not even one image at a time fits"):
        train(tiny, Narrow(models.build("vit-tiny", 10, tiny.images.shape, 0), 0), 64)
    with refused("training: 32 images do not fit into the memory of 1 devices: use more, or a smaller batch"):
        train(tiny, "vit-tiny", 64, make=no_room)
    monkeypatch.setattr(torch.optim.SGD, "step", no_room)
    with refused("training: what SGD keeps of each weight does not fit into the device's memory: use device cpu"):
        train(tiny, "vit-tiny", 64)


@pytest.mark.parametrize(("shift", "factor"), [(torch.nan, 1.0), (2e4, 1.0), (0.0, torch.nan)])
def test_a_training_that_runs_away_leaves_the_last_good_weights(tiny, shift, factor):
    """By its loss or by its weights alone, after one sound epoch of two steps."""
    model, calls = models.build("resnet-small", 10, tiny.images.shape, 0), []

    def loss(logits, y):
        calls.append(1)
        return F.cross_entropy(logits, y) + (0.0 if len(calls) <= 2 else shift)

    def after(model):
        model.head.bias.data *= 1.0 if len(calls) <= 2 else factor

    with pytest.raises(DivergedError, match="in epoch 2; try a smaller learning rate than 0.05") as caught:
        train(tiny, model, 64, epochs=3, how={"loss": loss, "after": after})
    assert caught.value.last_good is model and same(model, train(tiny, "resnet-small", 64)[0])


def test_no_smaller_rate_is_advised_where_a_gradient_is_no_number(tiny):
    def loss(logits, y):  # a root of 0
        return F.cross_entropy(logits, y) + (logits - logits.detach()).square().sum().sqrt()

    with pytest.raises(DivergedError, match=r"1; the gradient of .* no numbers, .*: look in forward\(\) for a root"):
        train(tiny, "resnet-small", 64, how={"loss": loss})


@pytest.mark.parametrize("schedule", ["constant", "onecycle", "multistep"])
def test_schedules(schedule):
    warm = 1 if schedule == "multistep" else 0
    recipe = Recipe(epochs=4, lr=0.1, schedule=schedule, warmup_epochs=warm, milestones=(2, 3))
    rates = list(rates_of(recipe, 10))
    assert max(rates) == pytest.approx(0.1, rel=1e-2)
    if schedule == "multistep":
        assert [rates[i] for i in (0, 20, 30)] == pytest.approx([0.01, 0.02, 0.004])
    elif schedule == "onecycle":
        assert rates[0] < 0.05 and rates[-1] < 1e-3
    else:
        assert set(rates) == {0.1}


def rates_of(recipe, steps_per_epoch):
    opt, steps = optimiser(torch.nn.Linear(1, 1), recipe, steps_per_epoch)
    for _ in range(recipe.epochs * steps_per_epoch):
        assert opt.param_groups[0]["momentum"] == 0.9 and opt.param_groups[0]["nesterov"]
        yield opt.param_groups[0]["lr"]
        opt.step()
        steps.step()


@pytest.mark.parametrize("total", range(1, 9))
def test_a_short_training_has_a_schedule_too(total):
    assert all(0 < rate <= 0.1 for rate in rates_of(Recipe(epochs=1, lr=0.1), total))


def test_prediction_does_not_depend_on_batch_and_memory(tiny):
    class Small(torch.nn.Module):
        def forward(self, x):
            if len(x) > 7:
                raise torch.OutOfMemoryError("no room")
            return model(x)

    model, index = tiny.original(0), tiny.split.retain[:50]
    usual = predict(model, tiny.images, index)
    for found in (predict(model, tiny.images, index, batch=7), predict(Small(), tiny.images, index)):
        assert torch.allclose(found, usual, atol=1e-5)
    assert predict(model, tiny.images, index[:0]).shape == (0, 10)
