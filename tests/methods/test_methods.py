"""The contract that every method in the registry keeps, in every scenario that it declares, on a ResNet and a ViT."""

import dataclasses

import pytest
from conftest import ARCHS
from refusals import refused

from megu.core.train import predict
from megu.methods import METHODS, check, method_settings
from megu.runs.experiment import Experiment
from megu.settings.profiles import resolve

# Settings that make a method small enough for the tiny data.
SMALL = {"retrain-head": {"recipe": {"epochs": 1}}, "ssd": {"images": 20, "alpha": 1.0}}
SMALL |= dict.fromkeys(("unsir", "unsir-ssd"), {"noises": 4, "copies": 2})
CASES = [(name, scenario, arch) for name, entry in METHODS.items() for scenario in entry.scenarios for arch in ARCHS]


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(one, two):
    return all(one[name].equal(two[name]) for name in one)


@pytest.mark.parametrize(("name", "scenario", "arch"), CASES)
def test_contract(tasks, name, scenario, arch):
    settings = method_settings(name, resolve(overrides={"methods": {name: SMALL.get(name, {})}}))
    task, unlearn = tasks[scenario, arch], METHODS[name].unlearn
    before = state(task.original)
    model = unlearn(task, settings)
    one, two = state(model), state(unlearn(task, settings))
    assert model is not task.original and not model.training and all(p.requires_grad for p in model.parameters())
    assert equal(state(task.original), before), "the original was altered"
    assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in before.items()}
    assert all(v.isfinite().all() for v in one.values())
    assert equal(one, two), "same seed, other result"
    assert equal(one, before) == (name == "original")
    if name != "original" and (name != "ssd-code" or scenario == "random"):  # which draw nothing
        assert not equal(one, state(unlearn(dataclasses.replace(task, seed=1), settings))), "other seed, same result"


def test_retrain_never_sees_the_forget_images(tasks):
    task = tasks["class", "resnet-small"]
    x, forget = task.images.x.clone(), task.split.forget
    x[forget] = 255 - x[forget]
    blind = dataclasses.replace(task, images=dataclasses.replace(task.images, x=x))
    for name, looks in (("retrain", False), ("amnesiac", True)):
        seen, unseen = (state(METHODS[name].unlearn(one, METHODS[name].settings())) for one in (task, blind))
        assert equal(seen, unseen) != looks


def test_megu_forgets_and_the_original_does_not(tiny_overrides, tmp_path):
    """End to end on an easy class, with a guide that need not be good."""
    easy = {**tiny_overrides, "forget.classes": ["trouser"], "training.epochs": 6, "guide.source": "posterior"}
    lab = Experiment(run_dir=tmp_path, overrides=easy)
    megu, _ = lab.models.make("megu", 0, changes={"recipe.batch": 16, "recipe.lr": 0.05})
    forget, y = lab.split.forget, lab.images.y[lab.split.forget]
    known = [(predict(model, lab.images, forget).argmax(1) == y).float().mean() for model in (lab.original(0), megu)]
    assert known[0] > 0.5 and known[1] < known[0] / 2


def test_unsupported_scenario_is_refused():
    check(resolve(overrides={"compare": ["projection"]}))
    with refused("'projection' does not support forget.scenario 'random'; it supports class"):
        check(resolve(overrides={"compare": ["projection"], "forget.scenario": "random"}))
