"""The search: every method gets the same number of trials, a repeated search makes nothing again, a diverged trial
loses."""

import dataclasses

import pytest
from conftest import similarity_like

from megu import methods
from megu.perturbing_labels import transition_matrix
from megu.runs import tune
from megu.runs.experiment import Experiment
from megu.runs.models import Models
from megu.settings.errors import SettingsError


@pytest.fixture
def search(monkeypatch, tiny_overrides, tmp_path):
    monkeypatch.setattr(Experiment, "transition", lambda self, source=None: transition_matrix(similarity_like(10)))
    given = {"seeds": 1, "trials": 3, "methods": ["finetune", "megu"]}
    return lambda: tune.tune(run_dir=tmp_path, overrides=tiny_overrides, **given)


def test_a_search_is_fair_in_its_bounds_and_goes_on_where_it_stopped(search, monkeypatch):
    real, calls = Models.make, []

    def dies(self, name, seed, changes=None):
        if name != "original":
            calls.append((name, tuple(changes.items())))
            if len(calls) == 5:
                raise KeyboardInterrupt
        return real(self, name, seed, changes=changes)

    monkeypatch.setattr(Models, "make", dies)
    with pytest.raises(KeyboardInterrupt):
        search()
    table = search()
    assert len(calls) == 7 and calls[4] == calls[5]  # only the interrupted trial was made twice
    assert table.groupby("method")["chosen"].agg(["size", "sum"]).values.tolist() == [[3, 1], [3, 1]]
    for name in ("finetune", "megu"):
        for key, (low, high) in methods.METHODS[name].search.items():
            tried = table.loc[table["method"] == name, key]
            assert tried.between(low, high).all() and tried.nunique() == (3 if low < high else 1)
    assert search().equals(table) and len(calls) == 7


def test_a_diverged_trial_has_the_worst_score(search, monkeypatch):
    def diverges(task, settings):
        raise FloatingPointError

    for name in ("finetune", "megu"):
        monkeypatch.setitem(methods.METHODS, name, dataclasses.replace(methods.METHODS[name], unlearn=diverges))
    assert set(search()["score"]) == {-100.0}


def test_only_class_wise_forgetting_has_a_known_goal(tiny_overrides, tmp_path):
    with pytest.raises(SettingsError, match="class-wise"):
        tune.tune(run_dir=tmp_path, overrides={**tiny_overrides, "forget.scenario": "random", "forget.count": 20})
