"""The contract that every method in the registry keeps, in every scenario that it declares, on a ResNet and a ViT."""

import dataclasses

import pytest
import torch
from conftest import ARCHS, similarity_like
from refusals import refused

from megu import methods
from megu.core import models
from megu.core.device import Stopwatch
from megu.core.train import predict
from megu.methods.megu import training_items
from megu.methods.task import Task
from megu.noise_pair import NoisePair
from megu.perturbing_labels import transition_matrix
from megu.runs.experiment import Experiment
from megu.settings.config import Noise
from megu.settings.profiles import resolve

SMALL = {  # settings that make a method small enough for the tiny data
    "retrain-head": {"recipe": {"epochs": 1}},
    "unsir": {"noises": 4, "copies": 2},
    "unsir-ssd": {"noises": 4, "copies": 2},
    "ssd": {"images": 20, "alpha": 1.0},
}


CASES = [
    (name, scenario, arch) for name, entry in methods.METHODS.items() for scenario in entry.scenarios for arch in ARCHS
]


@pytest.mark.parametrize(("name", "scenario", "arch"), CASES)
def test_contract(tasks, name, scenario, arch):
    entry, settings = (
        methods.METHODS[name],
        methods.method_settings(name, resolve(overrides={"methods": {name: SMALL.get(name, {})}})),
    )
    before = {k: v.clone() for k, v in tasks[scenario, arch].original.state_dict().items()}
    found = []
    for _ in range(2):
        task = dataclasses.replace(tasks[scenario, arch], clock=Stopwatch())
        found.append(entry.unlearn(task, settings))
    original, (one, two) = tasks[scenario, arch].original.state_dict(), (model.state_dict() for model in found)
    assert found[0] is not tasks[scenario, arch].original and not found[0].training
    assert all(torch.equal(original[k], before[k]) for k in before), "the original was altered"
    assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in before.items()}
    assert all(torch.isfinite(v).all() for v in one.values())
    assert all(torch.equal(one[k], two[k]) for k in one), "same seed, other result"
    assert all(p.requires_grad for p in found[0].parameters())
    if name != "original":
        assert any(not torch.equal(one[k], before[k]) for k in before)
    if name != "original" and (name != "ssd-code" or scenario == "random"):  # which draw nothing
        other = entry.unlearn(dataclasses.replace(tasks[scenario, arch], seed=1), settings).state_dict()
        assert any(not torch.equal(one[k], other[k]) for k in one), "another seed, same result"


def test_retrain_never_sees_the_forget_images(tasks):
    task = tasks["class", "resnet-small"]
    task.images.x.requires_grad_(False)
    blind = dataclasses.replace(task.images, x=task.images.x.clone())
    blind.x[task.split.forget] = 255 - blind.x[task.split.forget]
    seen, unseen = (
        methods.METHODS["retrain"].unlearn(dataclasses.replace(task, images=i), None) for i in (task.images, blind)
    )
    assert all(torch.equal(a, b) for a, b in zip(seen.state_dict().values(), unseen.state_dict().values(), strict=True))
    model = methods.METHODS["amnesiac"]
    seen, unseen = (model.unlearn(dataclasses.replace(task, images=i), model.settings()) for i in (task.images, blind))
    assert not torch.equal(seen.head.weight, unseen.head.weight)  # a method that does look at them


def test_retrain_shares_nothing_with_the_original(tasks):
    task = tasks["class", "resnet-small"]
    fresh, original = task.fresh_model(), models.build("resnet-small", 10, task.images.shape, 0)
    weights = [
        (a, b)
        for (n, a), (_, b) in zip(fresh.named_parameters(), original.named_parameters(), strict=True)
        if a.ndim > 1
    ]
    assert len(weights) > 10 and not any(torch.equal(a, b) for a, b in weights)


def test_retain_sample_is_the_same_for_every_method_of_a_seed(tasks):
    task = tasks["class", "resnet-small"]
    sample = task.retain_sample()
    assert torch.equal(sample, task.retain_sample()) and len(sample.unique()) == 60
    assert set(sample.tolist()) <= set(task.split.retain.tolist())
    assert not torch.equal(sample, dataclasses.replace(task, seed=1).retain_sample())


def test_random_labels_are_wrong_and_fixed(tasks, monkeypatch):
    task, seen = tasks["class", "resnet-small"], []
    monkeypatch.setattr(
        Task, "train_on", lambda self, model, index, labels, *a, **k: seen.append((index, labels)) or model
    )
    for _ in range(2):
        methods.METHODS["amnesiac"].unlearn(task, methods.METHODS["amnesiac"].settings())
    n = len(task.split.forget)
    (index, labels), again = seen
    assert (
        torch.equal(labels, again[1])
        and (labels[:n] != task.images.y[index[:n]]).all()
        and len(labels[:n].unique()) > 5
    )
    assert torch.equal(labels[n:], task.images.y[index[n:]])


def test_megu_trains_on_perturbed_forget_images_and_clean_retain_images(tasks, monkeypatch):
    task, seen = tasks["class", "resnet-small"], {}
    monkeypatch.setattr(
        Task,
        "train_on",
        lambda self, model, index, labels, recipe, **k: seen.update(index=index, labels=labels, **k) or model,
    )
    methods.METHODS["megu"].unlearn(task, methods.METHODS["megu"].settings())
    n, index = len(task.split.forget), seen["index"]
    assert torch.equal(index[:n], task.split.forget) and set(task.forgotten).isdisjoint(seen["labels"].tolist())
    x = task.images.batch(index)
    shifted = seen["shift"](x, torch.arange(len(index)))
    assert torch.equal(shifted[n:], x[n:]) and ((shifted[:n] - x[:n]).flatten(1).norm(dim=1) > 0.1).all()


def test_separate_noise_items_keep_the_forget_label():
    y, pair = torch.tensor([5, 5]), NoisePair(torch.full((2, 1, 2, 2), 3.0), torch.full((2, 1, 2, 2), -3.0))
    index, labels, replace = training_items(
        torch.tensor([10, 11, 20]), torch.tensor([1, 2, 7]), y, pair, Noise(combine="separate")
    )
    assert labels.tolist() == [1, 2, 7, 1, 2, 5, 5] and index.tolist() == [10, 11, 20, 10, 11, 10, 11]
    x = replace(torch.zeros(7, 1, 2, 2), torch.arange(7))
    assert x[:, 0, 0, 0].tolist() == [0, 0, 0, 3, 3, -3, -3]
    only = training_items(
        torch.tensor([10, 11, 20]), torch.tensor([1, 2, 7]), y, pair, Noise(combine="separate", kind="neg")
    )
    assert only[1].tolist() == [1, 2, 7, 5, 5] and only[2](torch.zeros(5, 1, 2, 2), torch.arange(5))[
        :, 0, 0, 0
    ].tolist() == [0, 0, 0, -3, -3]


def test_megu_forgets_and_the_original_does_not(tiny_overrides, tmp_path, monkeypatch):
    """End to end on tiny real data, an easy class, with a guide that is not needed to be good."""
    monkeypatch.setattr(Experiment, "transition", lambda self, source=None: transition_matrix(similarity_like(10)))
    lab = Experiment(
        run_dir=tmp_path, overrides={**tiny_overrides, "forget.classes": ["trouser"], "training.epochs": 6}
    )
    forget, y = lab.split.forget, lab.images.y[lab.split.forget]
    models = {
        "original": lab.original(0),
        "megu": lab.models.make("megu", 0, changes={"recipe.batch": 16, "recipe.lr": 0.05})[0],
    }
    known = {
        name: (predict(model, lab.images, forget).argmax(1) == y).float().mean().item()
        for name, model in models.items()
    }
    assert known["original"] > 0.5 and known["megu"] < known["original"] / 2


def test_unsupported_scenario_is_refused(monkeypatch):
    entry = dataclasses.replace(methods.METHODS["finetune"], scenarios=("class",))
    monkeypatch.setitem(methods.METHODS, "class-only", entry)
    methods.check(resolve(overrides={"compare": ["class-only"]}))
    with refused("does not support forget.scenario 'random'"):
        methods.check(resolve(overrides={"compare": ["class-only"], "forget.scenario": "random"}))
