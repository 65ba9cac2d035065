"""The studies: every method of the registry, every variant, the same values in each of them, and open to one more."""

import dataclasses
import json
import shutil
from unittest.mock import patch

import pandas as pd
import pytest
from conftest import BRIEF, similarity_like

from megu.core.models import copy_of
from megu.measure import recovery as known
from megu.measure.relearn import relearn_steps
from megu.measure.summary import summary
from megu.methods import METHODS, Method, finetune
from megu.perturbing_labels import transition_matrix
from megu.runs import study
from megu.runs.engine import Engine
from megu.runs.experiment import Experiment, opened
from megu.runs.runner import Inline
from megu.runs.spec import specs_of
from megu.settings import cells
from megu.settings.cells import CELLS
from megu.settings.config import Part
from megu.settings.errors import SettingsError, StageError
from megu.settings.files import hash_file

ONCE = {"scenarios": ("class",), "repeats": 1, "shadows": 0}


@pytest.fixture
def changes(tiny_overrides):
    """Settings of a quick study on the tiny data."""
    quicker = {"training.epochs": 1, "methods.megu.noise.steps": 4, "forget.count": 20, "threads": 1}
    return {k: v for k, v in tiny_overrides.items() if k != "seeds"} | quicker


@pytest.fixture
def small(monkeypatch, changes, tmp_path):
    """A study on tiny data of few methods; its results under the temporary folder."""
    monkeypatch.setattr(Engine, "_ask", lambda self, spec, run: None)
    variant = lambda self, source=None: transition_matrix(similarity_like(10) + (source is not None))  # noqa: E731
    monkeypatch.setattr(Experiment, "transition", variant)
    few = {name: METHODS[name] for name in ("original", "retrain", "finetune", "unsir", "megu", "ssd-code")}

    def run(name="comparison", seeds=1, overrides=(), **more):
        compared = {"compare": [name for name in METHODS if name != "ssd-code"][2:]} if name == "comparison" else {}
        given = {**compared, **changes, **dict(overrides)}
        made = study.Study(tmp_path / "out", "quick", 1, seeds, given, tmp_path / "study")
        getattr(made, name)(**more)
        return pd.read_csv(sorted(tmp_path.glob(f"out/{name}*.csv"))[0])

    # and its order afterwards, which tables follow: monkeypatch would put names back at the end
    with patch.dict(METHODS, few, clear=True):
        yield run
    opened.cache_clear()


def test_every_case_has_every_metric_and_scenarios_are_declared(small, tmp_path):
    table, out = small(scenarios=("class", "random"), seeds=2, repeats=2, shadows=2), tmp_path / "out"
    cases = table[["scenario", "method", "seed", "repeat"]].drop_duplicates().groupby(["scenario", "method"]).size()
    assert cases["class"].to_dict() == {"original": 2, "retrain": 2, "finetune": 4, "unsir": 4, "megu": 4}
    assert "unsir" not in cases["random"] and cases["random"]["megu"] == 4
    lira = table[table["metric"] == "mia_lira_online_auc"]
    assert len(lira) == cases.sum() and lira["value"].between(0, 1).all()
    assert (table[table["metric"] == "relearn_steps"].groupby(["scenario", "method"]).size() == 2).all()
    gaps = summary(table[table["scenario"] == "class"])
    assert set(gaps["seeds"]) == {2} and set(gaps["mode"]) == {"strict", "compat"}
    assert " ".join(table) == "method seed repeat metric value mode unit scenario"
    seconds = pd.read_csv(out / "comparison_seconds.csv")
    assert " ".join(seconds) == "method seed repeat part seconds scenario"
    assert set(seconds["part"]) >= {"total", "evaluation", "noise", "labels", "fine-tuning"}
    source = json.loads((out / "comparison_source.json").read_text())
    assert source["files"] == {f: hash_file(out / f) for f in ("comparison.csv", "comparison_seconds.csv")}
    assert source["scenarios"] == ["class", "random"] and source["shadows"] == 2 and source["measured"] == cases.sum()
    shared = list((tmp_path / "study").glob("shared-*"))
    assert len(shared) == 1, "scenarios with the same labels share originals and shadow models"


def test_an_interrupted_comparison_makes_nothing_twice(small, monkeypatch, tmp_path):
    counts = ONCE | {"repeats": 2}
    undisturbed = small(**counts)
    shutil.rmtree(tmp_path / "study")
    calls = []

    def dies(task, settings):
        calls.append(task.seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return finetune.unlearn(task, settings)

    monkeypatch.setitem(METHODS, "finetune", dataclasses.replace(METHODS["finetune"], unlearn=dies))
    with pytest.raises(KeyboardInterrupt):
        small(**counts)
    assert small(**counts).equals(undisturbed) and len(calls) == 3 and calls[1] == calls[2]


def test_one_more_method_is_one_file_and_one_line(small, monkeypatch):
    class ToySettings(Part):
        """Nothing to set."""

    def toy(task, settings):
        model = copy_of(task.original)
        model.head.reset_parameters()
        return model

    monkeypatch.setitem(METHODS, "toy", Method(toy, ToySettings, "Toy", ("class",)))
    assert (summary(small(**ONCE))["method"] == "toy").sum() > 20


def test_comparison_grid_and_run_of_the_same_cell_have_equal_values(small, changes, tmp_path):
    by = ["method", "seed", "repeat", "metric"]
    ours = small(scenarios=("random",), repeats=2, shadows=2).set_index(by)["value"]
    without = {k: v for k, v in changes.items() if k != "data.name"}
    cell = dataclasses.replace(CELLS["quick"][2], data="npz")
    specs = specs_of("quick", cell, ("original", "retrain", "finetune", "megu"), range(1), 2, without)
    grid = Engine("quick", tmp_path / "grid")
    assert grid.carry_out(specs, Inline) == {}
    rows = grid.tables(specs)[0]
    rows.to_csv(tmp_path / "grid.csv", index=False, float_format="%.6g")
    theirs = pd.read_csv(tmp_path / "grid.csv").set_index(by)["value"]
    assert len(theirs) == 6 * len(theirs.unstack().columns) and ours.loc[theirs.index].equals(theirs)
    assert len(ours) > len(theirs), "with shadow models and relearning"
    run = Experiment(
        "quick", 0, tmp_path / "run" / "one", {**changes, "forget.scenario": "random", "compare": ["megu"]}
    )
    again = rows.query("method == 'megu' and repeat == 0").set_index("metric")["value"]
    pd.testing.assert_series_equal(run.rows("megu", 0).set_index("metric")["value"], again)


def test_all_scenarios_of_one_data_set_lie_in_one_folder(changes, tmp_path):
    """Sub-class forgetting reads the same images with labels of superclasses; other images are refused."""
    quick = [dataclasses.replace(cell, data="npz") for cell in CELLS["quick"]]
    changes = {k: v for k, v in changes.items() if k != "data.name"}
    specs = [spec for cell in quick for spec in specs_of("quick", cell, ("original",), [0], 1, changes)]
    made = Engine("quick", tmp_path)
    made.check(specs)
    assert list(made.run.manifest["notes"]) == ["data npz", "data npz by superclass"]
    made.run.note("data npz by superclass", "others")
    with pytest.raises(StageError, match="made with data npz by superclass 'others'"):
        made.check(specs)


def test_every_variant_of_the_ablation_is_a_setting_and_is_measured(small):
    few = {
        "default": {"as tuned": {}},
        "noise": {"none": {"noise.kind": "none"}},
        "A12": {"guide": {"guide.source": "features"}},
        "A2": {"few": {"retain_images": 5}},
    }
    with patch.dict(cells.ABLATIONS, few, clear=True):
        table = small("ablation", seeds=2)
    assert " ".join(table) == "seed metric value mode unit point variant"
    wide = table.pivot_table(index=["variant", "seed"], columns="metric", values="value")
    assert len(wide) == 5 * 2
    assert not any(wide.loc[variant].equals(wide.loc["as tuned"]) for variant in ("none", "guide", "few"))


def test_the_mechanism_is_measured_on_originals_of_several_strengths(small):
    few = {name: cells.MECHANISM[name] for name in ("scale 2, guided", "no noise, guided")}
    with patch.dict(cells.MECHANISM, few, clear=True), patch.object(study, "STRENGTHS", (1, 2)):
        table = small("mechanism", seeds=1, overrides={"forget.classes": ["trouser"]})
    wide = table.pivot_table(index=["point", "variant"], columns="metric", values="value")
    assert {*wide.index} == {(point, variant) for point in (1, 2) for variant in few}
    start = table[table["method"] == "megu"].pivot_table(index=["point", "variant"], columns="metric", values="value")
    before = table.query("method == 'original' and metric == 'acc_forget_train'").set_index("point")["value"]
    for point in (1, 2):  # without a pair the original names its own images
        plain, noised = (start.loc[point, name] for name in ("no noise, guided", "scale 2, guided"))
        assert plain["noised_named"] == pytest.approx(before[point]) and plain["noised_perturbed"] < 100
        assert noised["noised_loss"] != plain["noised_loss"]


def test_all_variants_are_accepted_by_the_settings():
    for point, variants in cells.ABLATIONS.items():
        for variant, values in variants.items():
            more = {"point": point, "variant": variant, "variation": tuple(values.items())}
            (spec,) = specs_of("quick", CELLS["quick"][0], ["megu"], [0], **more)
            assert str(spec).endswith(f"megu/0/0/{point}/{variant}")
    with pytest.raises(SettingsError, match="methods.megu.noise.lamda"):
        specs_of("quick", CELLS["quick"][0], ["megu"], [0], variation=(("noise.lamda", 1.0),))


def test_disentanglement_of_every_method_and_kind_of_noise(small):
    table = small("disentanglement", overrides={"forget.classes": ["trouser"]})
    kinds = {"megu, pos noise", "megu, neg noise", "megu, random noise"}
    assert set(table["method"]) == {"original", "retrain", "finetune", "unsir", "megu", "ssd-code", *kinds}
    assert " ".join(table) == "view measure value low high method seed"
    value = table.set_index(["method", "view", "measure"])["value"]
    assert value["original", "in place", "suppressed"] == 0 and value["original", "in place", "kept"] == 1


def test_forget_images_are_shown_to_every_method_in_other_preparations(small):
    table = small("hidden", seeds=1, overrides={"forget.classes": ["trouser"]})
    assert set(table["method"]) == {"original", "retrain", "finetune", "unsir", "megu", "ssd-code"}
    wide = table.pivot_table(index="method", columns="metric", values="value", sort=False)
    assert wide.columns[0] == "as given" and wide.notna().all(axis=None) and wide.shape[1] > 12
    assert {"upside down", "normalised by imagenet"} < {*wide} and "as negatives" not in wide
    assert wide.loc["original"].any() and not wide.loc["retrain"].any(), "also of retained images"


def test_known_parts_are_measured_once(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    calls = []
    table = lambda here, seed: calls.append(1) or pd.DataFrame({"x": [seed]})  # noqa: E731
    monkeypatch.setattr(study, "_RECOVER", dict.fromkeys(study._RECOVER, table))
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
        study.Study(tmp_path / "out").comparison(("class", "clas"))
    assert not (tmp_path / "out").exists()
