"""Whatever a run, a study or `megu.unlearn` trains goes on where it was stopped."""

import pytest
import torch
from killing import stop_in
from own_model import forget

from megu.core.device import Stopwatch
from megu.measure.shadows import confidence
from megu.runs.experiment import Experiment

WORK = {  # what is made, its training's name
    "original": (lambda run: run.original(0).state_dict(), "original, seed 0"),
    "retrain": (lambda run: run.unlearned("retrain", 0).state_dict(), "original, seed 0"),
    "method": (lambda run: run.unlearned("finetune", 0).state_dict(), "original, seed 0"),
    "shadow": (lambda run: {"confidence": torch.from_numpy(confidence(run.models, 0, 2))}, "shadow 1 of 2"),
    "row": (lambda run: {"rows": torch.tensor(run.rows("finetune", 0, 1)["value"].to_numpy())}, "original, seed 0"),
}


def equal(one, other):
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def left(folder):
    return [file for file in folder.rglob(".unfinished/*/*") if file.is_file()]


FAST = {"original", "shadow"}


@pytest.mark.parametrize("kind", [pytest.param(k, marks=() if k in FAST else pytest.mark.slow) for k in WORK])
def test_a_stopped_run_goes_on_inside_its_training(tiny_overrides, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(Stopwatch, "earlier", 0.0)
    make, label = WORK[kind]

    def run(name):
        return Experiment(run_dir=tmp_path / name / "run", overrides={**tiny_overrides, "shadows": 0})

    undisturbed, made = make(run("whole")), stop_in(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        make(run("stopped"))
    assert made == [(label, step) for step in (1, 2, 3)] and len(left(tmp_path)) == 1
    assert equal(make(run("stopped")), undisturbed)
    assert made[3] == (label, 4) and len(made) == len(set(made)) and not left(tmp_path) and Stopwatch.earlier > 0


def test_a_stopped_call_of_unlearn_goes_on(model, parts, done, tmp_path, monkeypatch):
    made = stop_in(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        forget(model, parts, out=tmp_path / "out")
    found = forget(model, parts, out=tmp_path / "out")
    assert equal(found.model.state_dict(), done.model.state_dict()) and found.history == done.history
    assert made[4] == ("MeGU", 5) and len(made) == len(set(made)) and not left(tmp_path)
