"""Published presets repeat the public code, defaults the formulas: each departure against values made by hand."""

import pytest
import torch
from recording import recorded
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from megu.core.device import Compute, generator
from megu.core.train import fit
from megu.methods import METHODS, method_settings, salun
from megu.settings.config import Recipe
from megu.settings.profiles import resolve

FLOAT32 = Compute(torch.device("cpu"), False)


def given(name, preset="paper"):
    """A method's settings by a preset."""
    return method_settings(name, resolve(overrides={"preset": preset})).model_dump()


def test_published_settings_are_those_of_the_publications():
    paper, names = (
        resolve(overrides={"preset": "paper"}),
        ("unsir", "unsir-ssd", "ssd", "ssd-code", "amnesiac", "salun"),
    )
    unsir, coded, ssd, ssd_code, amnesiac, salun = (method_settings(name, paper) for name in names)
    assert (unsir.impair.lr, unsir.repair.lr, coded.impair.lr, coded.repair.lr) == (0.02, 0.01, 1e-4, 1e-4)
    assert (ssd.alpha, ssd.lam, ssd.importance) == (10, 1, "sample")
    assert (ssd_code.alpha, ssd_code.lam, ssd_code.importance) == (10, 1, "batch")
    assert (amnesiac.recipe.optimiser, salun.recipe.lr) == ("adam", 0.013)
    assert method_settings("amnesiac", resolve()).recipe.optimiser == "sgd"  # without the preset


@pytest.mark.parametrize(("count", "batch", "equal", "rest"), [
    (10, 4, [5, 5], [4, 4, 2]), (11, 4, [4, 4, 3], [4, 4, 3]), (9, 4, [5, 4], [4, 4, 1]), (3, 4, [3], [3]),
])  # fmt: skip
def test_batches_are_equal_or_the_last_holds_the_rest(count, batch, equal, rest):
    assert Recipe(batch=batch).batches(count) == equal == [*map(len, torch.arange(count).tensor_split(len(equal)))]
    assert Recipe(batch=batch, cut="rest").batches(count) == rest == [*map(len, DataLoader(range(count), batch))]


@pytest.mark.parametrize(("cut", "sizes"), [("equal", [5, 5] * 2), ("rest", [4, 4, 2] * 2)])
def test_a_training_cuts_its_batches_so(cut, sizes):
    def batch(i):
        seen.append(i)
        return torch.ones(len(i), 1, 1, 1), torch.zeros(len(i), dtype=torch.long)

    seen, net = [], nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    fit(net, batch, 10, Recipe(epochs=2, batch=4, lr=0.1, cut=cut), generator(0), FLOAT32)
    assert [*map(len, seen)] == sizes and torch.cat(seen[: len(sizes) // 2]).sort().values.equal(torch.arange(10))


def test_every_published_training_cuts_as_the_public_code_does():
    published = [name for name, entry in METHODS.items() if entry.published or entry.variant_of]
    for name in published:
        ours, theirs = (given(name, preset) for preset in ("tuned", "paper"))
        for part in {"recipe", "impair", "repair"} & ours.keys():
            as_published = name.startswith("megu-printed")  # in each preset
            assert (ours[part]["cut"], theirs[part]["cut"]) == ("rest" if as_published else "equal", "rest"), name
    assert len(published) > 14


@pytest.mark.parametrize(("moments", "moved"), [(None, 1.0 + 1.0), ({}, 1.0 + 1.9)])
def test_momentum_is_carried_from_training_to_training_where_asked(moments, moved):
    """One weight, a constant slope of 1, two trainings of one step."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 1, bias=False))
    recipe = Recipe(epochs=1, batch=1, lr=1.0, nesterov=False, weight_decay=0.0, schedule="constant")
    start, how = net[1].weight.item(), {"loss": lambda logits, _: logits.sum(), "moments": moments}
    for _ in range(2):
        fit(net, lambda i: (torch.ones(1, 1, 1, 1), i), 1, recipe, generator(0), FLOAT32, **how)
    assert start - net[1].weight.item() == pytest.approx(moved)


@pytest.mark.parametrize(("preset", "carried"), [("tuned", False), ("paper", True)])
def test_scrub_carries_its_momentum_through_all_passes_as_published(task, monkeypatch, preset, carried):
    made = recorded(monkeypatch, task, "scrub", **given("scrub", preset) | {"rewind": False})
    assert len(made) == 5 and len({id(call.moments) for call in made}) == 1
    assert (made[0].moments is not None) == carried


@pytest.mark.parametrize(("name", "items", "usual"), [("unsir-ssd", 240, 2560), ("unsir", 60, 640)])
def test_unsir_trains_on_copies_of_three_noises_as_published(task, monkeypatch, name, items, usual):
    few = given(name)
    few["noise"]["steps"] = 1
    impair, _ = recorded(monkeypatch, task, name, **few)
    retained, x = len(task.retain_sample()), task.images.batch(impair.index)
    noises = impair.shift(x, torch.arange(len(x)))[retained:]
    assert len(noises) == items and len(noises.unique(dim=0)) == 3
    ours = given(name, "tuned")
    assert ours["noises"] * ours["copies"] == usual


def test_saluns_published_saliency_sums_the_means_of_batches(task):
    weights, forget = list(task.original.parameters()), task.split.forget
    recipe = Recipe(batch=len(forget) - 1)  # the last batch has one image, which counts as much as all others

    def mask(how):
        total = torch.zeros(sum(w.numel() for w in weights))
        for part in task.sample(forget, len(forget), "saliency").split(recipe.batch):
            loss = F.cross_entropy(task.original(task.images.batch(part)), task.images.y[part], reduction=how)
            total += torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])
        return total.abs() > total.abs().median()

    by_hand = {"images": mask("sum"), "batches": mask("mean")}
    for saliency in by_hand:
        found = salun.salient(task, salun.SalunSettings(saliency=saliency, recipe=recipe))
        found = torch.cat([m.flatten() for m in found])
        same = {how: (found == expected).float().mean() for how, expected in by_hand.items()}
        assert same[saliency] > 0.999 > 0.99 > min(same.values()), same
    assert given("salun")["saliency"] == "batches" and given("salun", "tuned")["saliency"] == "images"
