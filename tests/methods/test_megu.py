"""MeGU: what it trains on, with which labels; its rows as printed, tuned, without noise."""

import dataclasses

import pytest
import torch

from megu.methods import METHODS, method_settings
from megu.methods.megu import choose_labels, training_items
from megu.noise_pair import NoisePair
from megu.settings.config import Noise
from megu.settings.profiles import resolve


def test_megu_trains_on_perturbed_forget_images_and_clean_retain_images(task, calls):
    (call,), forget = calls("megu"), task.split.forget
    n, x = len(forget), task.images.batch(call.index)
    assert call.index[:n].equal(forget)
    change = call.shift(x, torch.arange(len(x))) - x
    assert not change[n:].any() and (change[:n].flatten(1).norm(dim=1) > 0.1).all()


@pytest.mark.parametrize("kind", ["both", "none"])
def test_megu_trains_on_clean_forget_images_too_where_asked(task, calls, kind):
    (once,), (call,) = calls("megu", noise={"kind": kind}), calls("megu", noise={"kind": kind, "forget_items": "both"})
    n, total, x = len(task.split.forget), len(once.index), task.images.batch(call.index)
    assert call.index.equal(torch.cat([once.index, task.split.forget]))
    assert call.labels.equal(torch.cat([once.labels, once.labels[:n]]))
    if kind != "none":
        at = torch.arange(len(x))
        assert call.shift(x, at)[:total].equal(once.shift(x[:total], at[:total])) and call.shift(x, at)[total:].equal(
            x[total:]
        )


@pytest.mark.parametrize("barred", [True, False])
def test_a_forgotten_class_is_chosen_only_where_it_may_be(task, barred):
    transition = torch.full((10, 10), 0.05)
    transition[task.forgotten] = 0.55  # the most associated class of every image
    settings = METHODS["megu"].settings(labels={"tau": 0.1, "exclude_forgotten": barred})
    found = choose_labels(dataclasses.replace(task, transition=transition), settings)
    assert (found == task.forgotten[0]).any() != barred


@pytest.mark.parametrize(("kind", "where", "called", "pixels"), [
    ("both", [10, 11, 10, 11], [1, 2, 5, 5], [3, 3, -3, -3]), ("neg", [10, 11], [5, 5], [-3, -3]),
    ("pos", [10, 11], [1, 2], [3, 3]),
])  # fmt: skip
def test_separate_noise_items_keep_the_forget_label(kind, where, called, pixels):
    given = torch.tensor([10, 11, 20]), torch.tensor([1, 2, 7]), torch.tensor([5, 5])
    pair = NoisePair(*(torch.full((2, 1, 2, 2), value) for value in (3.0, -3.0)))
    index, labels, replace = training_items(*given, pair, Noise(combine="separate", kind=kind))
    assert index.tolist() == [10, 11, 20, *where] and labels.tolist() == [1, 2, 7, *called]
    x = replace(torch.zeros(len(index), 1, 2, 2), torch.arange(len(index)))
    assert x[:, 0, 0, 0].tolist() == [0, 0, 0, *pixels]


PRINTED = {"megu-printed": "rank", "megu-printed-random-labels": "random", "megu": "rank"}


@pytest.mark.parametrize("name", PRINTED)
def test_megu_as_printed_has_the_papers_values(name):
    """As a row of its own beside the tuned one, or by the preset."""
    resolved = resolve(overrides={"preset": "paper"} if name == "megu" else {})
    found = method_settings(name, resolved)
    labels, noise, recipe = found.labels, found.noise, found.recipe
    assert (labels.tau, labels.choice, noise.kind, noise.combine) == (0.3, PRINTED[name], "both", "add")
    assert noise.weights == pytest.approx((0.7, 0.3)) and (noise.lam, noise.steps, noise.lr) == (0.1, 25, 0.1)
    assert (noise.mode, noise.forget_items) == ("eval", "noised")
    assert (recipe.optimiser, recipe.lr, recipe.batch, recipe.epochs) == ("adam", 1e-4, 128, 3)
    assert (recipe.schedule, recipe.augment, recipe.weight_decay) == ("constant", None, 0)
    assert method_settings("megu", resolve()).noise.weights == pytest.approx((0.39, 1.5))  # the default is not


@pytest.mark.parametrize(("arch", "epochs"), [("resnet18", 3), ("vit-b16", 5)])
def test_the_papers_epochs_and_retain_images(arch, epochs):
    paper = resolve("paper", overrides={"arch": arch})
    for name in ("megu", "megu-no-noise", "megu-random-labels", "megu-printed"):
        assert method_settings(name, paper).recipe.epochs == epochs
    assert paper.retain_images == 10_000


def test_a_variant_has_the_preset_of_its_entry_then_the_runs_settings_then_its_own():
    def of(name, **methods):
        given = {"megu": {"noise": {"lam": 3.0, "kind": "pos"}}, **methods}
        return method_settings(name, resolve(overrides={"preset": "paper", "methods": given})).noise

    found = of("megu-no-noise")
    assert (found.lam, found.kind, found.alpha) == (3.0, "none", 0.7)
    assert of("megu-no-noise", **{"megu-no-noise": {"noise": {"kind": "neg"}}}).kind == "neg"
    assert of("megu").kind == "pos"


def test_no_tuned_rate_of_a_profile_gets_into_the_papers_preset():
    small = {"arch": "vit-tiny", "forget.classes": ["cat"]}
    rates = [
        method_settings("megu", resolve("small", overrides=small | {"preset": preset})).recipe.lr
        for preset in ("tuned", "paper")
    ]
    assert rates == [0.005, 1e-4]
