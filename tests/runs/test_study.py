"""The studies: every method of the registry, every variant, the same values in each of them, and open to one more."""

import dataclasses
import json
import shutil
from unittest.mock import patch

import pandas as pd
import pytest
from conftest import BRIEF, similarity_like

from megu import methods
from megu.core.models import copy_of
from megu.measure import recovery as known
from megu.measure.relearn import relearn_steps
from megu.measure.summary import summary
from megu.methods import METHODS, Method, finetune
from megu.perturbing_labels import transition_matrix
from megu.runs import engine, study
from megu.runs.experiment import Experiment
from megu.runs.runner import Inline
from megu.runs.spec import specs_of
from megu.settings import cells
from megu.settings.cells import CELLS
from megu.settings.config import Part
from megu.settings.errors import SettingsError, StageError
from megu.settings.files import hash_file

QUICKER = {"training.epochs": 1, "methods.megu.noise.steps": 4}


@pytest.fixture
def small(monkeypatch, tiny_overrides, tmp_path):
    """A comparison on tiny data of three methods; its results under the temporary folder."""
    monkeypatch.setattr(engine.Engine, "_ask", lambda self, spec, run: None)
    monkeypatch.setattr(Experiment, "transition", lambda self, source=None: transition_matrix(similarity_like(10)))
    few = {name: METHODS[name] for name in ("original", "retrain", "finetune", "unsir", "megu", "ssd-code")}
    overrides = {k: v for k, v in tiny_overrides.items() if k != "seeds"} | QUICKER

    def run(what=study.comparison, name="comparison", **more):
        more = {"overrides": overrides, "folder": tmp_path / "study", "workers": 1, **more}
        if what is study.comparison:
            more["overrides"] = {"compare": [name for name in METHODS if name != "ssd-code"][2:], **more["overrides"]}
        what(tmp_path / "out", **more)
        return pd.read_csv(tmp_path / "out" / f"{name}.csv")

    # and its order afterwards, which tables follow: monkeypatch would put names back at the end
    with patch.dict(METHODS, few, clear=True):
        yield run
    engine._cell.cache_clear()


def test_every_case_has_every_metric_and_scenarios_are_declared(small, tmp_path):
    table = small(scenarios=("class", "random"), seeds=2, repeats=2, shadows=2)
    cases = table[["scenario", "method", "seed", "repeat"]].drop_duplicates().groupby(["scenario", "method"]).size()
    assert cases["class"].to_dict() == {"original": 2, "retrain": 2, "finetune": 4, "unsir": 4, "megu": 4}
    assert "unsir" not in cases["random"] and cases["random"]["megu"] == 4
    lira = table[table["metric"] == "mia_lira_online_auc"]
    assert len(lira) == cases.sum() and lira["value"].between(0, 1).all()
    assert (table[table["metric"] == "relearn_steps"].groupby(["scenario", "method"]).size() == 2).all()
    gaps = summary(table[table["scenario"] == "class"])
    assert set(gaps["seeds"]) == {2} and set(gaps["mode"]) == {"strict", "compat"}
    assert list(table) == ["method", "seed", "repeat", "metric", "value", "mode", "unit", "scenario"]
    seconds = pd.read_csv(tmp_path / "out" / "comparison_seconds.csv")
    assert list(seconds) == ["method", "seed", "repeat", "part", "seconds", "scenario"]
    assert set(seconds["part"]) >= {"total", "evaluation", "noise", "labels", "fine-tuning"}
    source = json.loads((tmp_path / "out" / "comparison_source.json").read_text())
    files = ("comparison.csv", "comparison_seconds.csv")
    assert source["files"] == {name: hash_file(tmp_path / "out" / name) for name in files}
    assert source["scenarios"] == ["class", "random"] and source["shadows"] == 2 and source["measured"] == cases.sum()
    shared = {path.name for path in (tmp_path / "study").glob("shared-*")}
    assert len(shared) == 1, "scenarios with the same labels share originals and shadow models"


def test_an_interrupted_comparison_makes_nothing_twice(small, monkeypatch, tmp_path):
    counts = {"scenarios": ("class",), "seeds": 1, "repeats": 2, "shadows": 0}
    undisturbed = small(**counts)
    shutil.rmtree(tmp_path / "study")
    real, calls = finetune.unlearn, []

    def dies(task, settings):
        calls.append(task.seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(task, settings)

    monkeypatch.setitem(METHODS, "finetune", dataclasses.replace(METHODS["finetune"], unlearn=dies))
    with pytest.raises(KeyboardInterrupt):
        small(**counts)
    assert small(**counts).equals(undisturbed) and len(calls) == 3 and calls[1] == calls[2]


def test_one_more_method_is_one_file_and_one_line(small, monkeypatch):
    class ToySettings(Part):
        """Nothing to set."""

    def toy(task, settings):
        r"""Forget the head."""
        model = copy_of(task.original)
        model.head.reset_parameters()
        return model

    monkeypatch.setitem(METHODS, "toy", Method(toy, ToySettings, "Toy", ("class",)))
    table = small(scenarios=("class",), seeds=1, repeats=1, shadows=0)
    assert (summary(table)["method"] == "toy").sum() > 20
    assert methods.method("toy").title == "Toy"


def test_comparison_and_grid_of_the_same_cell_have_equal_values(small, tiny_overrides, tmp_path):
    """Also of a run: one function measures for all of them."""
    changes = (
        {k: v for k, v in tiny_overrides.items() if k not in ("seeds", "data.name")} | QUICKER | {"forget.count": 20}
    )
    compared = small(scenarios=("random",), seeds=1, repeats=2, shadows=2, overrides=tiny_overrides_of(changes))
    cell = dataclasses.replace(CELLS["quick"][2], data="npz")
    specs = specs_of("quick", cell, ("original", "retrain", "finetune", "megu"), range(1), 2, changes)
    grid = engine.Engine("quick", tmp_path / "grid")
    assert grid.carry_out(specs, Inline) == {}
    by = ["method", "seed", "repeat", "metric"]
    ours = pd.read_csv(tmp_path / "out" / "comparison.csv").set_index(by)["value"]
    grid.tables(specs)[0].to_csv(tmp_path / "grid.csv", index=False, float_format="%.6g")
    theirs = pd.read_csv(tmp_path / "grid.csv").set_index(by)["value"]
    assert len(theirs) == 6 * len(theirs.unstack().columns) and ours.loc[theirs.index].equals(theirs)
    more = {"forget.scenario": "random", "compare": ["megu"]}
    run = Experiment("quick", 0, tmp_path / "run" / "one", {**tiny_overrides_of(changes), **more})
    rows = run.rows("megu", 0).set_index("metric")["value"]
    again = grid.tables([s for s in specs if (s.method, s.repeat) == ("megu", 0)])[0].set_index("metric")["value"]
    pd.testing.assert_series_equal(rows, again)
    assert len(compared) > len(theirs), "with shadow models and relearning"


def test_all_scenarios_of_one_data_set_lie_in_one_folder(tiny_overrides, tmp_path):
    """Sub-class forgetting reads the same images with labels of superclasses; other images are refused."""
    changes = {k: v for k, v in tiny_overrides.items() if k not in ("seeds", "data.name")} | {"forget.count": 20}
    quick = [dataclasses.replace(cell, data="npz") for cell in CELLS["quick"]]
    specs = [spec for cell in quick for spec in specs_of("quick", cell, ("original",), [0], 1, changes)]
    made = engine.Engine("quick", tmp_path)
    made.check(specs)
    assert [name for name in made.run.manifest["notes"]] == ["data npz", "data npz by superclass"]
    made.run._update("notes", "data npz by superclass", "others")
    with pytest.raises(StageError, match="made with data npz by superclass 'others'"):
        made.check(specs)


def tiny_overrides_of(changes):
    return {**changes, "data.name": "npz", "threads": 1}


def test_every_variant_of_the_ablation_is_a_setting_and_is_measured(small, monkeypatch):
    monkeypatch.setattr(
        Experiment,
        "transition",
        lambda self, source=None: transition_matrix(similarity_like(10) + (source is not None)),
    )
    few = {
        "default": {"as tuned": {}},
        "noise": {"none": {"noise.kind": "none"}},
        "A12": {"guide": {"guide.source": "features"}},
    }
    with patch.dict(cells.ABLATIONS, few, clear=True):
        table = small(study.ablation, "ablation", seeds=2)
    assert list(table) == ["seed", "metric", "value", "mode", "unit", "point", "variant"]
    wide = table.pivot_table(index=["variant", "seed"], columns="metric", values="value")
    assert len(wide) == 4 * 2
    assert not wide.loc["none"].equals(wide.loc["as tuned"]) and not wide.loc["guide"].equals(wide.loc["as tuned"])


def test_all_variants_are_accepted_by_the_settings():
    for point, variants in cells.ABLATIONS.items():
        for variant, values in variants.items():
            more = {"point": point, "variant": variant, "variation": tuple(values.items())}
            (spec,) = specs_of("quick", CELLS["quick"][0], ["megu"], [0], **more)
            assert str(spec).endswith(f"megu/0/0/{point}/{variant}")
    with pytest.raises(SettingsError, match="methods.megu.noise.lamda"):
        specs_of("quick", CELLS["quick"][0], ["megu"], [0], variation=(("noise.lamda", 1.0),))


def test_disentanglement_of_every_method_and_kind_of_noise(small, tiny_overrides):
    overrides = {k: v for k, v in tiny_overrides.items() if k != "seeds"} | {"forget.classes": ["trouser"]}
    table = small(study.disentanglement, "disentanglement_all", seeds=1, overrides=overrides)
    kinds = {"megu, pos noise", "megu, neg noise", "megu, random noise"}
    assert set(table["method"]) == {"original", "retrain", "finetune", "unsir", "megu", "ssd-code", *kinds}
    assert list(table) == ["view", "measure", "value", "low", "high", "method", "seed"]
    value = table.set_index(["method", "view", "measure"])["value"]
    assert value["original", "in place", "suppressed"] == 0 and value["original", "in place", "kept"] == 1


def test_known_parts_are_measured_once(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    calls = []
    tables = {
        name: lambda here, seed, name=name: calls.append(name) or pd.DataFrame({"x": [seed]}) for name in study._RECOVER
    }
    monkeypatch.setattr(study, "_RECOVER", tables)
    monkeypatch.setattr(known, "world", lambda seed: None)
    for _ in range(2):
        study.recovery(tmp_path / "out", range(2))
    assert len(calls) == 6 and pd.read_csv(tmp_path / "out" / "truth_units.csv")["seed"].tolist() == [0, 1]


def test_relearning_is_slow_only_where_something_was_forgotten(tasks):
    task = tasks["class", "resnet-small"]
    index = task.split.train
    taught = task.train_on(copy_of(task.original), index, task.images.y[index], BRIEF.model_copy(update={"epochs": 8}))
    task = dataclasses.replace(task, original=taught)
    assert relearn_steps(task, taught) == 0
    forgot = copy_of(taught)
    forgot.head.bias.data[list(task.forgotten)] -= 100
    before = {k: v.clone() for k, v in forgot.state_dict().items()}
    assert relearn_steps(task, forgot) >= 1
    assert all(v.equal(before[k]) for k, v in forgot.state_dict().items())


def test_an_unknown_scenario_is_refused_before_any_work(tmp_path):
    with pytest.raises(SettingsError, match="forget.scenario' is 'clas'"):
        study.comparison(tmp_path / "out", scenarios=("class", "clas"))
    assert not (tmp_path / "out").exists()
