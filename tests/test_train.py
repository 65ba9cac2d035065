"""The training loop: it learns, it repeats itself, it stops where there is nothing to learn from."""

import pytest
import torch

from megu import models
from megu.config import Recipe
from megu.device import choose, generator
from megu.profiles import resolve
from megu.train import fit, optimiser, predict

FLOAT32 = choose(resolve(overrides={"autocast": "off"}))


def train(tiny, seed=0, shuffled=False, **recipe):
    images, split = tiny.images, tiny.split
    index = split.train
    y = images.y[index]
    if shuffled:
        y = y[torch.randperm(len(y), generator=generator(0, "shuffle"))]
    model = models.build("resnet-small", 10, images.shape, seed)
    gen = generator(seed, "order")
    history = fit(model, lambda i: (images.batch(index[i]), y[i]), len(index), Recipe(**{"epochs": 4, "batch": 32, "lr": 0.1} | recipe), gen, FLOAT32)
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


@pytest.mark.parametrize("schedule", ["constant", "onecycle", "multistep"])
def test_schedules(schedule):
    recipe = Recipe(epochs=4, lr=0.1, schedule=schedule, warmup_epochs=1 if schedule == "multistep" else 0, milestones=(2, 3))
    opt, steps = optimiser(torch.nn.Linear(1, 1), recipe, 10)
    rates = []
    for _ in range(40):
        rates.append(opt.param_groups[0]["lr"])
        assert opt.param_groups[0]["momentum"] == 0.9 and opt.param_groups[0]["nesterov"]
        opt.step()
        steps.step()
    assert max(rates) == pytest.approx(0.1, rel=1e-2)
    if schedule == "multistep":
        assert rates[0] == pytest.approx(0.01) and rates[20] == pytest.approx(0.02) and rates[30] == pytest.approx(0.004)
    elif schedule == "onecycle":
        assert rates[0] < 0.05 and rates[-1] < 1e-3
    else:
        assert set(rates) == {0.1}


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
