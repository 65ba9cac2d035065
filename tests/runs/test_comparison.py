"""The comparison: every method of the registry, resumable, and open to one more."""

import dataclasses
import shutil
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from conftest import BRIEF, similarity_like

from megu import methods
from megu.core.models import copy_of
from megu.measure.relearn import relearn_steps
from megu.measure.summary import summary
from megu.methods import METHODS, Method, finetune
from megu.perturbing_labels import transition_matrix
from megu.runs import ablation, comparison
from megu.runs.experiment import Experiment
from megu.settings.config import Part
from megu.settings.errors import SettingsError
from megu.settings.values import build, nest


@pytest.fixture
def small(monkeypatch, tiny_overrides, tmp_path):
    """A comparison on tiny data of three methods; run directories under the temporary folder."""
    monkeypatch.setattr(
        Experiment, "transition", lambda self, source=None: transition_matrix(similarity_like(self.images.num_classes))
    )
    monkeypatch.setattr("megu.runs.experiment.project_root", lambda: tmp_path)
    few = {name: METHODS[name] for name in ("original", "retrain", "finetune", "unsir", "megu")}
    overrides = {k: v for k, v in tiny_overrides.items() if k != "seeds"}

    def run(scenarios=("class",), seeds=1):
        comparison.compare_all(
            tmp_path / "out",
            scenarios=scenarios,
            say=lambda line: None,
            workers=1,
            seeds=seeds,
            repeats=2,
            shadows=2,
            overrides=overrides,
        )
        return pd.read_csv(tmp_path / "out" / "comparison.csv")

    with patch.dict(
        METHODS, few, clear=True
    ):  # and its order afterwards, which tables follow: monkeypatch would put names back at the end
        yield run


def test_every_case_has_every_metric_and_scenarios_are_declared(small):
    table = small(("class", "random"), seeds=2)
    cases = table[["scenario", "method", "seed", "repeat"]].drop_duplicates().groupby(["scenario", "method"]).size()
    assert cases["class"].to_dict() == {"original": 2, "retrain": 2, "finetune": 4, "unsir": 4, "megu": 4}
    assert "unsir" not in cases["random"] and cases["random"]["megu"] == 4
    lira = table[table["metric"] == "mia_lira_online_auc"]
    assert len(lira) == cases.sum() and lira["value"].between(0, 1).all()
    assert (table[table["metric"] == "relearn_steps"].groupby(["scenario", "method"]).size() == 2).all()
    gaps = summary(table[table["scenario"] == "class"])
    assert set(gaps["seeds"]) == {2} and set(gaps["mode"]) == {"strict", "compat"}


def test_an_interrupted_comparison_makes_nothing_twice(small, monkeypatch, tmp_path):
    undisturbed = small()
    shutil.rmtree(tmp_path / "runs")
    real, calls = finetune.unlearn, []

    def dies(task, settings):
        calls.append(task.seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(task, settings)

    monkeypatch.setitem(METHODS, "finetune", dataclasses.replace(METHODS["finetune"], unlearn=dies))
    with pytest.raises(KeyboardInterrupt):
        small()
    assert small().equals(undisturbed) and len(calls) == 3 and calls[1] == calls[2]


def test_a_thirteenth_method_is_one_file_and_one_line(small, monkeypatch):
    class ToySettings(Part):
        """Nothing to set."""

    def toy(task, settings):
        r"""Forget the head."""
        model = copy_of(task.original)
        model.head.reset_parameters()
        return model

    monkeypatch.setitem(METHODS, "toy", Method(toy, ToySettings, "Toy", ("class",)))
    table = small()
    assert (summary(table)["method"] == "toy").sum() > 20
    assert methods.method("toy").title == "Toy"


def test_every_variant_of_the_ablation_is_a_setting_and_is_measured(tiny, monkeypatch):
    monkeypatch.setattr(
        Experiment,
        "transition",
        lambda self, source=None: transition_matrix(similarity_like(10) if source is None else np.eye(10) + 0.1),
    )
    for variants in ablation.ABLATIONS.values():
        for changes in variants.values():
            changes = {name: value for name, value in changes.items() if name != "guide.source"}
            build(methods.megu.MeguSettings, nest(changes), over=tiny.parameters("megu"))
    monkeypatch.setattr(
        ablation,
        "ABLATIONS",
        {
            "default": {"as tuned": {}},
            "noise": {"none": {"noise.kind": "none"}},
            "A12": {"guide": {"guide.source": "features"}},
        },
    )
    table = ablation.ablate(tiny).pivot_table(index=["variant", "seed"], columns="metric", values="value")
    assert len(table) == 4 * 2
    assert not table.loc["none"].equals(table.loc["as tuned"]) and not table.loc["guide"].equals(table.loc["as tuned"])


def test_two_processes_find_what_one_finds(tiny_overrides, tmp_path):
    overrides = {**tiny_overrides, "compare": ["finetune", "megu"], "repeats": 2, "threads": 1, "shadows": 2}
    labs = [Experiment(run_dir=tmp_path / str(workers) / "run", overrides=overrides) for workers in (1, 2)]
    tables = []
    for workers, lab in enumerate(labs, 1):
        comparison.prepare([lab], workers)
        tables.append(comparison.compare(lab, workers)[0])
    assert tables[0].equals(tables[1])
    assert sorted(labs[0].run.manifest["artefacts"]) == sorted(labs[1].run.manifest["artefacts"])


def test_scenarios_with_the_same_labels_share_their_originals(tiny_overrides, tmp_path):
    labs = [
        Experiment(
            run_dir=tmp_path / s, overrides={**tiny_overrides, "forget.scenario": s, "forget.count": 30, "seeds": 1}
        )
        for s in methods.ANY
    ]
    originals = [lab.original(0).state_dict() for lab in labs]
    sums = [lab.run.manifest["artefacts"]["models/original-0.safetensors"]["seconds"]["total"] for lab in labs]
    assert labs[0].shared.path == labs[2].shared.path != labs[1].shared.path and sums[0] == sums[2] != sums[1]
    assert all(v.equal(originals[2][k]) for k, v in originals[0].items())


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
        comparison.compare_all(tmp_path / "out", scenarios=("class", "clas"))
    assert not (tmp_path / "out").exists()
