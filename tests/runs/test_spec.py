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
from megu.runs.study import paper_grid as grid
from megu.settings.cells import CELLS, MAIN, PUBLIC_CODE
from megu.settings.errors import SettingsError
from megu.settings.profiles import resolve


def test_the_papers_cells_are_all_there_and_are_settings():
    reported = pd.read_csv(ROOT / "paper_figures" / "data" / "reported.csv")
    asked = {
        (t, *rest) for t, *rest in reported[["table", "dataset", "scenario", "arch", "forget"]].itertuples(index=False)
    }
    ours = {(t, c.data, c.scenario, {"resnet18": "resnet18", "vit-b16": "vit"}[c.arch], c.request.replace("images", "samples"))
            for c in CELLS["paper"] for t in c.tables}  # fmt: skip
    assert ours == asked
    for cell in CELLS["paper"]:
        settings = resolve("paper", 0, cell.overrides())
        assert settings.retain_images == 10_000 and method_settings("megu", settings).recipe.epochs == (
            5 if cell.arch == "vit-b16" else 3
        )
        assert settings.forget.count == 100 or cell.scenario != "random"
        assert set(cell.methods) <= set(METHODS) and all(
            cell.scenario in METHODS[name].scenarios for name in cell.methods
        )
    assert {(c.data, c.scenario, c.forget) for c in MAIN} <= {(c.data, c.scenario, c.forget) for c in CELLS["small"]}
    assert set(PUBLIC_CODE.values()) <= set(METHODS)


def test_recipes_are_those_of_the_public_code():
    def training(data, arch, **more):
        return resolve("paper", 0, {"data.name": data, "arch": arch, "forget.scenario": "random", **more}).training

    assert [(training(d, "resnet18").epochs, training(d, "resnet18").milestones) for d in ("cifar10", "cifar20", "cifar100")] == [
        (20, (7, 11, 15)), (40, (14, 29, 34)), (200, (59, 119, 159)),
    ]  # fmt: skip
    assert [(training(d, "vit-b16").epochs, training(d, "vit-b16").milestones) for d in ("cifar10", "cifar20", "cifar100")] == [
        (8, (6,)), (9, (7,)), (8, (6,)),
    ]  # fmt: skip
    assert training("cifar20", "resnet18", **{"training.epochs": 3}).epochs == 3  # the user's word is the last
    for cell in CELLS["paper"]:
        settings = resolve("paper", 0, cell.overrides())
        again = method_settings(
            "retrain-head", settings
        ).recipe  # the public code's "retrain" takes the epochs of its pre-training
        assert (again.epochs, again.milestones, again.lr) == (
            settings.training.epochs,
            tuple(epoch + 1 for epoch in settings.training.milestones),
            0.01,
        )
        assert (
            again.batch
            == method_settings("finetune", settings).recipe.batch
            == (128 if cell.scenario == "random" else 64)
        )


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

    assert rates[3::3] == pytest.approx(public(first)) and rates[3::3] != pytest.approx(public(1 - first)), (
        "the control counts otherwise"
    )


def test_a_key_changes_with_what_the_result_depends_on_and_with_nothing_else(changes, cifar_like):
    def key(text="method=megu", **more):
        found = [
            s
            for s in grid(
                "small", (f"data=cifar10,arch=resnet-small,scenario=class,seed=1,{text}",), 2, changes=changes | more
            )
        ]
        return next(s for s in found if s.method not in ("original", "retrain")).key

    usual = key()
    assert key(**{"data.path": str(cifar_like[1])}) == usual and key(**{"methods.ssd.alpha": 3.0}) == usual
    others = [
        key("method=ssd"),
        key(**{"retain_images": 61}),
        key(**{"methods.megu.recipe.lr": 0.01}),
        key(**{"threads": 2}),
    ]
    more = {
        "training.epochs": 2,
        "guide.exemplars": 3,
        "preset": "paper",
        "data.validation": 0.2,
        "autocast": "on",
        "deterministic": False,
        "tf32": True,
    }
    others += [key(**{name: value}) for name, value in more.items()]
    assert len({usual, *others}) == 12
    assert key("method=ssd", **{"methods.ssd.alpha": 3.0}) != others[0]


def test_a_key_changes_with_what_a_cell_gives_with_seeds_and_with_the_code(changes, monkeypatch):
    specs = grid("small", ("arch=resnet-small,method=megu",), 2, 2, changes)
    assert len({spec.key for spec in specs}) == len(specs)
    assert sum(spec.method == "original" for spec in specs) == 2 * len({spec.cell for spec in specs}), (
        "a reference has no seeds of unlearning"
    )
    monkeypatch.setattr("megu.runs.spec.CODE", "another")
    assert not {spec.key for spec in specs} & {spec.current_key() for spec in specs}


def test_a_key_changes_with_the_weights_of_a_vit(changes, tmp_path):
    def key(weights):
        return grid(
            "paper", ("arch=vit-b16,scenario=random,method=megu",), 1, changes=changes | {"weights": str(weights)}
        )[-1].key

    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors", "c.safetensors")]
    for path, size in zip(paths, (1, 1, 2), strict=True):
        save_file({"x": torch.zeros(size)}, path)
    assert key(paths[0]) == key(paths[1]) and len({key("random"), key(paths[0]), key(paths[2])}) == 3


def test_models_that_cells_share_have_one_name_in_all_of_them(changes):
    specs = grid("small", ("data=cifar20,arch=resnet-small",), 2, changes=changes)
    needs = {(need.kind, need.key) for spec in specs for need in spec.needs.values()}
    counts = Counter(kind for kind, _ in needs)
    assert counts["original"] == 2, "one for each seed: CIFAR-20 names superclasses, whatever is forgotten"
    assert counts["retrained"] == 2 * len({spec.cell for spec in specs}) and counts["answers"] == 1
    shadowed = [
        spec.needs for spec in specs_of("small", specs[0].cell, ("original", "megu"), (0, 1), 1, {"shadows": 3})
    ]
    shadows = {need.key for needs in shadowed for need in needs.values() if need.kind == "shadow"}
    assert len(shadows) == 3, "shadow models are those of all seeds and methods"


def test_a_grid_computes_with_one_thread_so_that_it_is_the_same_everywhere():
    only = ("data=cifar10,arch=resnet-small,scenario=random,method=megu",)
    assert {s.settings.threads for s in grid("small", only, 1)} == {1} and {
        s.settings.threads for s in grid("small", only, 1, changes={"threads": 2})
    } == {2}


def test_the_command_of_a_repeat_makes_it(changes):
    specs = grid("small", ("data=cifar10,arch=resnet-small,scenario=class,method=megu,repeat=1",), 1, 2, changes)
    assert "repeats=2" in specs[-1].command and specs[-1].repeat == 1


def test_a_key_changes_with_the_guides_answers_and_not_with_their_place(changes, tmp_path):
    def key(file):
        about = {"guide.source": "replay", "guide.path": str(file)}
        return grid(
            "small", ("data=cifar10,arch=resnet-small,scenario=class,method=megu",), 1, changes=changes | about
        )[-1].key

    paths = [tmp_path / folder / "answers.jsonl" for folder in "abc"]
    for path, text in zip(paths, ("one", "one", "two"), strict=True):
        path.parent.mkdir()
        path.write_text(text)
    first, same, other = map(key, paths)
    assert first == same != other
    with pytest.raises(SettingsError, match="'missing' does not exist"):
        key(tmp_path / "missing")


def test_paths_of_the_environment_go_along_with_a_spec(changes, cifar_like, monkeypatch):
    without = {name: value for name, value in changes.items() if name != "data.path"}
    monkeypatch.setenv("MEGU_DATA_PATH", str(cifar_like[0]))
    spec = grid("small", ("data=cifar10,method=megu",), 1, changes=without)[-1]
    monkeypatch.delenv("MEGU_DATA_PATH")
    assert ForkingPickler.loads(ForkingPickler.dumps(spec)).settings.data.path == str(cifar_like[0])
    assert str(cifar_like[0]) not in spec.command


def test_the_command_of_a_later_seed_asks_a_guide_about_the_same_classifier(changes):
    def command(source):
        asked = ("data=cifar10,arch=resnet-small,scenario=class,method=megu,seed=2",)
        return grid("small", asked, 3, changes=changes | {"guide.source": source})[-1].command

    assert "--seed 0 " in command("posterior") and "seeds=3" in command("posterior")
    assert "--seed 2 " in command("names") and "seeds=1" in command("names")


def test_references_come_along_and_nothing_else():
    specs = grid("small", ("data=cifar10,arch=vit-tiny,scenario=random,method=megu,seed=1",), 2)
    assert [(s.method, s.seed) for s in specs] == [("original", 1), ("retrain", 1), ("megu", 1)]
    assert len(grid("paper", (), 3)) == 3 * sum(len(c.methods) for c in CELLS["paper"])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("smal",), "did you mean 'small'"), (("small", ("dta=cifar10",)), "did you mean 'data'"), (("small", ("data=cifar1",)), "did you mean 'cifar10'"),
        (("small", ("cifar10",)), "write field=value"),
        (("small", ("method",)), "'method' has no '='"), (("small", ("data=cifar10,scenario=subclass",)), "selects nothing"),
        (("small", (), 2, 1, {"arch": "vit-tiny"}), "--only"), (("small", (), 2, 1, {"methods.megu.lr": 1}), "methods.megu.lr"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_any_work(arguments, word):
    with pytest.raises(SettingsError, match=word):
        grid(*arguments)


def test_a_spec_travels(changes):
    spec = grid("small", ("data=cifar10,method=megu",), 1, changes=changes)[-1]
    again = ForkingPickler.loads(ForkingPickler.dumps(spec))
    assert again == spec and again.key == spec.key and hash(again) == hash(spec)
