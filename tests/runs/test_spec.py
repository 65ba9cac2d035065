"""What a grid is made of: the paper's cells, and keys that change with what a result depends on."""

from collections import Counter
from multiprocessing.reduction import ForkingPickler

import pandas as pd
import pytest
import torch
from conftest import ROOT
from safetensors.torch import save_file

from megu.core.train import optimiser
from megu.methods import METHODS, method_settings
from megu.runs.spec import specs_of
from megu.runs.study import paper_grid
from megu.settings.cells import CELLS, MAIN, PUBLIC_CODE
from megu.settings.errors import SettingsError
from megu.settings.profiles import resolve

CAT = "data=cifar10,arch=resnet-small,scenario=class"


@pytest.fixture
def grid(changes):
    """Specs of a selection of the small profile's grid."""
    return lambda only, seeds=1, repeats=1, **more: paper_grid("small", (only,), seeds, repeats, changes | more)


@pytest.fixture
def key(grid):
    """The key of the one method that a selection names."""

    def key(only="method=megu", **more):
        specs = grid(f"{CAT},seed=1,{only}", 2, **more)
        return next(s for s in specs if s.method not in ("original", "retrain")).key

    return key


def test_the_papers_cells_are_all_there_and_are_settings():
    reported = pd.read_csv(ROOT / "paper_figures" / "data" / "reported.csv")
    asked = set(reported[["table", "dataset", "scenario", "arch", "forget"]].itertuples(index=False, name=None))
    arch = {"resnet18": "resnet18", "vit-b16": "vit"}
    cells = CELLS["paper"]
    assert asked == {
        (t, c.data, c.scenario, arch[c.arch], c.request.replace("images", "samples")) for c in cells for t in c.tables
    }
    for cell in cells:
        settings = resolve("paper", 0, cell.overrides())
        assert settings.retain_images == 10_000 and (settings.forget.count == 100 or cell.scenario != "random")
        assert method_settings("megu", settings).recipe.epochs == (5 if cell.arch == "vit-b16" else 3)
        assert all(cell.scenario in METHODS[name].scenarios for name in cell.methods)
    assert {(c.data, c.scenario, c.forget) for c in MAIN} <= {(c.data, c.scenario, c.forget) for c in CELLS["small"]}
    assert set(PUBLIC_CODE.values()) <= set(METHODS)


@pytest.mark.parametrize(
    ("arch", "recipes"),
    [
        ("resnet18", {"cifar10": (20, (7, 11, 15)), "cifar20": (40, (14, 29, 34)), "cifar100": (200, (59, 119, 159))}),
        ("vit-b16", {"cifar10": (8, (6,)), "cifar20": (9, (7,)), "cifar100": (8, (6,))}),
    ],
)
def test_recipes_are_those_of_the_public_code(arch, recipes):
    def training(data, **more):
        return resolve("paper", 0, {"data.name": data, "arch": arch, "forget.scenario": "random", **more}).training

    assert {data: (training(data).epochs, training(data).milestones) for data in recipes} == recipes
    assert training("cifar20", **{"training.epochs": 3}).epochs == 3, "the user's word is the last"


def test_the_public_codes_retrain_takes_the_epochs_of_its_pre_training():
    for cell in CELLS["paper"]:
        settings = resolve("paper", 0, cell.overrides())
        again, usual = method_settings("retrain-head", settings).recipe, settings.training
        later = tuple(epoch + 1 for epoch in usual.milestones)
        assert (again.epochs, again.milestones, again.lr) == (usual.epochs, later, 0.01)
        batch = 128 if cell.scenario == "random" else 64
        assert again.batch == method_settings("finetune", settings).recipe.batch == batch


@pytest.mark.filterwarnings("ignore:.*epoch parameter in:UserWarning", "ignore:Detected call of:UserWarning")
@pytest.mark.parametrize(("recipe", "first"), [("training", 1), ("retrain-head", 0)])
@pytest.mark.parametrize(
    ("data", "arch", "milestones"),
    [("cifar10", "resnet18", [8, 12, 16]), ("cifar20", "resnet18", [15, 30, 35]), ("cifar20", "vit-b16", [8])],
)
def test_the_rate_drops_in_the_epoch_in_which_the_public_code_drops_it(recipe, first, data, arch, milestones):
    """That code calls ``MultiStepLR.step(epoch)`` before each epoch after the warm-up, counted from 1 in pre-training
    and from 0 in its "retrain"."""
    settings = resolve("paper", 0, {"data.name": data, "arch": arch, "forget.scenario": "random"})
    ours = settings.training if recipe == "training" else method_settings(recipe, settings).recipe
    opt, schedule = optimiser(torch.nn.Linear(1, 1), ours, 3)
    rates = []
    for _ in range(3 * ours.epochs):
        rates.append(opt.param_groups[0]["lr"])
        opt.step()
        schedule.step()

    def public(first):
        opt = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), ours.lr)
        steps, expected = torch.optim.lr_scheduler.MultiStepLR(opt, milestones, 0.2), []
        for epoch in range(first, first + ours.epochs):
            steps.step(epoch)
            expected.append(opt.param_groups[0]["lr"])
        return expected[1:]  # the first one is the warm-up

    assert rates[3::3] == pytest.approx(public(first))
    assert rates[3::3] != pytest.approx(public(1 - first)), "the control counts otherwise"


def test_a_key_changes_with_what_the_result_depends_on_and_with_nothing_else(key, cifar_like):
    usual, ssd = key(), key("method=ssd")
    assert key(**{"data.path": str(cifar_like[1])}) == usual == key(**{"methods.ssd.alpha": 3.0})
    assert key("method=ssd", **{"methods.ssd.alpha": 3.0}) != ssd
    others = {
        "retain_images": 61, "methods.megu.recipe.lr": 0.01, "threads": 2, "training.epochs": 2, "guide.exemplars": 3,
        "preset": "paper", "data.validation": 0.2, "autocast": "on", "deterministic": False, "tf32": True,
    }  # fmt: skip
    assert len({usual, ssd, *(key(**{name: value}) for name, value in others.items())}) == 12


def test_a_key_changes_with_what_a_cell_gives_with_seeds_and_with_the_code(grid, monkeypatch):
    specs = grid("arch=resnet-small,method=megu", 2, 2)
    assert len({spec.key for spec in specs}) == len(specs)
    originals = sum(spec.method == "original" for spec in specs)
    assert originals == 2 * len({spec.cell for spec in specs}), "a reference has no seeds of unlearning"
    monkeypatch.setattr("megu.runs.spec.CODE", "another")
    assert not {spec.key for spec in specs} & {spec.current_key() for spec in specs}


def test_a_key_changes_with_the_weights_of_a_vit(changes, tmp_path):
    def key(weights):
        only, given = ("arch=vit-b16,scenario=random,method=megu",), changes | {"weights": str(weights)}
        return paper_grid("paper", only, 1, changes=given)[-1].key

    for name, size in {"a": 1, "b": 1, "c": 2}.items():
        save_file({"x": torch.zeros(size)}, tmp_path / f"{name}.safetensors")
    a, b, c = (key(tmp_path / f"{name}.safetensors") for name in "abc")
    assert a == b and len({key("random"), a, c}) == 3


def test_a_key_changes_with_the_guides_answers_and_not_with_their_place(key, tmp_path):
    def replayed(file):
        return key(**{"guide.source": "replay", "guide.path": str(file)})

    for folder, text in {"a": "one", "b": "one", "c": "two"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "answers.jsonl").write_text(text)
    first, same, other = (replayed(tmp_path / folder / "answers.jsonl") for folder in "abc")
    assert first == same != other
    with pytest.raises(SettingsError, match="'missing' does not exist"):
        replayed(tmp_path / "missing")


def test_models_that_cells_share_have_one_name_in_all_of_them(grid):
    specs = grid("data=cifar20,arch=resnet-small", 2)
    counts = Counter(kind for kind, _ in {(need.kind, need.key) for spec in specs for need in spec.needs.values()})
    assert counts["original"] == 2, "one for each seed: CIFAR-20 names superclasses, whatever is forgotten"
    assert counts["retrained"] == 2 * len({spec.cell for spec in specs}) and counts["answers"] == 1
    shadowed = specs_of("small", specs[0].cell, ("original", "megu"), (0, 1), 1, {"shadows": 3})
    shadows = {need.key for spec in shadowed for need in spec.needs.values() if need.kind == "shadow"}
    assert len(shadows) == 3, "shadow models are those of all seeds and methods"


def test_a_grid_computes_with_one_thread_so_that_it_is_the_same_everywhere(grid):
    for given, threads in (({}, 1), ({"threads": 2}, 2)):
        assert {s.settings.threads for s in grid(f"{CAT},method=megu", **given)} == {threads}


def test_paths_of_the_environment_go_along_with_a_spec(changes, cifar_like, monkeypatch):
    without = {name: value for name, value in changes.items() if name != "data.path"}
    monkeypatch.setenv("MEGU_DATA_PATH", str(cifar_like[0]))
    spec = paper_grid("small", ("data=cifar10,method=megu",), 1, changes=without)[-1]
    monkeypatch.delenv("MEGU_DATA_PATH")
    again = ForkingPickler.loads(ForkingPickler.dumps(spec))
    assert again.settings.data.path == str(cifar_like[0]) not in spec.command
    assert again == spec and again.key == spec.key and hash(again) == hash(spec)


def test_the_command_of_a_model_makes_it_and_asks_a_guide_about_the_same_classifier(grid):
    spec = grid(f"{CAT},method=megu,repeat=1", 1, 2)[-1]
    assert "repeats=2" in spec.command and spec.repeat == 1
    for source, first, seeds in (("posterior", 0, 3), ("names", 2, 1)):
        command = grid(f"{CAT},method=megu,seed=2", 3, **{"guide.source": source})[-1].command
        assert f"--seed {first} " in command and f"seeds={seeds}" in command


def test_references_come_along_and_nothing_else():
    specs = paper_grid("small", ("data=cifar10,arch=vit-tiny,scenario=random,method=megu,seed=1",), 2)
    assert [(s.method, s.seed) for s in specs] == [("original", 1), ("retrain", 1), ("megu", 1)]
    assert len(paper_grid("paper", (), 3)) == 3 * sum(len(c.methods) for c in CELLS["paper"])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("smal",), "did you mean 'small'"),
        (("small", ("dta=cifar10",)), "did you mean 'data'"),
        (("small", ("data=cifar1",)), "did you mean 'cifar10'"),
        (("small", ("cifar10",)), "write field=value"),
        (("small", ("method",)), "'method' has no '='"),
        (("small", ("data=cifar10,scenario=subclass",)), "selects nothing"),
        (("small", (), 2, 1, {"arch": "vit-tiny"}), "--only"),
        (("small", (), 2, 1, {"methods.megu.lr": 1}), "methods.megu.lr"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(arguments, word):
    with pytest.raises(SettingsError, match=word):
        paper_grid(*arguments)
