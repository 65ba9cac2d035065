"""The training loop: it learns, it repeats itself, it stops where there is nothing to learn from."""

import pytest
import torch
from conftest import Narrow
from refusals import refused

from megu.core import models
from megu.core.device import choose, generator
from megu.core.train import DivergedError, fit, optimiser, predict
from megu.settings.config import Recipe
from megu.settings.profiles import resolve

FLOAT32 = choose(resolve(overrides={"autocast": "off"}))


def train(tiny, seed=0, shuffled=False, **recipe):
    images, split = tiny.images, tiny.split
    index = split.train
    y = images.y[index]
    if shuffled:
        y = y[torch.randperm(len(y), generator=generator(0, "shuffle"))]
    model = models.build("resnet-small", 10, images.shape, seed)
    gen = generator(seed, "order")
    history = fit(
        model,
        lambda i: (images.batch(index[i]), y[i]),
        len(index),
        Recipe(**{"epochs": 4, "batch": 32, "lr": 0.1} | recipe),
        gen,
        FLOAT32,
    )
    return model, history


def test_it_learns_and_shuffled_labels_do_not_generalise(tiny):
    test = torch.cat([tiny.split.test_retain, tiny.split.test_forget])
    accuracy = {}
    for shuffled in (False, True):
        model, history = train(tiny, shuffled=shuffled)
        assert history[-1] < history[0] and not model.training
        accuracy[shuffled] = (predict(model, tiny.images, test).argmax(1) == tiny.images.y[test]).float().mean().item()
    assert accuracy[False] > 0.4 > accuracy[True]


def test_same_seed_same_bits(tiny):
    one, two, other = train(tiny)[0], train(tiny)[0], train(tiny, seed=1)[0]
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert not torch.equal(one.head.weight, other.head.weight)


def test_nothing_to_train_on_and_divergence(tiny):
    with pytest.raises(ValueError, match="0 items"):
        fit(torch.nn.Linear(1, 1), None, 0, Recipe(), generator(0), FLOAT32)
    with pytest.raises(FloatingPointError, match="smaller learning rate than 1e\\+08"):
        train(tiny, lr=1e8, schedule="constant")


def test_a_batch_that_does_not_fit_is_summed_over_parts(tiny, caplog):
    """Without batch statistics the weights are the same up to rounding; the control, a smaller batch, is not."""
    images, index = tiny.images, tiny.split.train[:96]
    ends = {}
    for name, room, batch in (("whole", 10_000, 32), ("parts", 10, 32), ("smaller batch", 10_000, 8)):
        model = Narrow(models.build("vit-tiny", 10, images.shape, 0), room)
        recipe = Recipe(epochs=1, batch=batch, lr=0.05, schedule="constant")
        history = fit(
            model, lambda i: (images.batch(index[i]), images.y[index[i]]), 96, recipe, generator(0, "order"), FLOAT32
        )
        ends[name] = history[-1], torch.cat([w.detach().flatten() for w in model.parameters()])
    assert ends["parts"][0] == pytest.approx(ends["whole"][0], abs=1e-4)
    far = {name: (ends[name][1] - ends["whole"][1]).abs().max() for name in ends}
    assert far["parts"] < 1e-4 < 10 * 1e-4 < far["smaller batch"]
    assert "does not hold 32 images at a time; going on in 4 parts each" in caplog.text
    with refused("not even one image at a time fits"):
        fit(
            Narrow(model.net, 0),
            lambda i: (images.batch(index[i]), images.y[index[i]]),
            96,
            recipe,
            generator(0),
            FLOAT32,
        )


def test_prediction_goes_on_with_smaller_batches(tiny):
    class Small(torch.nn.Module):
        def forward(self, x):
            if len(x) > 7:
                raise torch.OutOfMemoryError("no room")
            return x.flatten(1)[:, :10]

    index = tiny.split.retain[:50]
    assert torch.equal(predict(Small(), tiny.images, index), tiny.images.batch(index).flatten(1)[:, :10])


def test_a_training_that_runs_away_leaves_the_last_good_weights(tiny):
    model, images, index = models.build("resnet-small", 10, tiny.images.shape, 0), tiny.images, tiny.split.train[:64]
    recipe = Recipe(epochs=3, batch=32, lr=0.05, schedule="constant")
    epoch = []

    def loss(logits, y):
        epoch.append(1)
        return torch.nn.functional.cross_entropy(logits, y) * (
            1.0 if len(epoch) <= 2 else torch.nan
        )  # sound for one epoch

    with pytest.raises(DivergedError, match="in epoch 2; try a smaller learning rate than 0.05") as caught:
        fit(model, lambda i: (images.batch(index[i]), images.y[index[i]]), 64, recipe, generator(0), FLOAT32, loss=loss)
    once = models.build("resnet-small", 10, tiny.images.shape, 0)
    one_epoch = Recipe(epochs=1, batch=32, lr=0.05, schedule="constant")
    fit(once, lambda i: (images.batch(index[i]), images.y[index[i]]), 64, one_epoch, generator(0), FLOAT32)
    assert caught.value.last_good is model and all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), once.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("schedule", ["constant", "onecycle", "multistep"])
def test_schedules(schedule):
    recipe = Recipe(
        epochs=4, lr=0.1, schedule=schedule, warmup_epochs=1 if schedule == "multistep" else 0, milestones=(2, 3)
    )
    opt, steps = optimiser(torch.nn.Linear(1, 1), recipe, 10)
    rates = []
    for _ in range(40):
        rates.append(opt.param_groups[0]["lr"])
        assert opt.param_groups[0]["momentum"] == 0.9 and opt.param_groups[0]["nesterov"]
        opt.step()
        steps.step()
    assert max(rates) == pytest.approx(0.1, rel=1e-2)
    if schedule == "multistep":
        assert (
            rates[0] == pytest.approx(0.01) and rates[20] == pytest.approx(0.02) and rates[30] == pytest.approx(0.004)
        )
    elif schedule == "onecycle":
        assert rates[0] < 0.05 and rates[-1] < 1e-3
    else:
        assert set(rates) == {0.1}


@pytest.mark.parametrize("total", range(1, 9))
def test_a_short_training_has_a_schedule_too(total):
    opt, steps = optimiser(torch.nn.Linear(1, 1), Recipe(epochs=1, lr=0.1), total)
    for _ in range(total):
        assert 0 < opt.param_groups[0]["lr"] <= 0.1
        opt.step()
        steps.step()


def test_prediction_does_not_depend_on_the_batch(tiny):
    model = tiny.original(0)
    index = tiny.split.retain[:50]
    assert torch.allclose(predict(model, tiny.images, index, batch=7), predict(model, tiny.images, index), atol=1e-5)
    assert predict(model, tiny.images, index[:0]).shape == (0, 10)


def test_bfloat16_is_never_chosen_for_a_vit_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    chosen = {arch: choose(resolve(overrides={"arch": arch})).autocast for arch in ("resnet-small", "vit-tiny")}
    assert chosen == {"resnet-small": True, "vit-tiny": False}
    assert choose(resolve(overrides={"arch": "vit-tiny", "autocast": "on"})).autocast
