"""Where the numbers of a call go: a tracker's run that is open, or one of its own; refused before any work."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from own_model import forget
from refusals import refused

from megu.runs.loggers import loggers
from megu.settings.errors import MeguError


class Fake(ModuleType):
    """What of W&B and MLflow is used; ``said``: every call."""

    def __init__(self, name, run=None):
        super().__init__(name)
        self.run, self.said = run, []
        self.active_run = lambda: self.run

    def init(self, project):
        self.run = SimpleNamespace(finish=lambda: self.said.append("finished"))
        return self.run

    def start_run(self):
        self.run = self
        return self

    def end_run(self):
        self.said.append("finished")

    def log(self, values):
        self.said.append(tuple(values.values()))

    def log_metric(self, name, value, step):
        self.said.append((value, step))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
@pytest.mark.parametrize("own", [True, False])
def test_numbers_go_to_a_tracker(name, own, monkeypatch):
    monkeypatch.setitem(sys.modules, name, fake := Fake(name, None if own else SimpleNamespace()))
    (logger,) = loggers(name, None)
    assert not fake.said and (fake.run is None) == own, "nothing is opened before work"
    logger.on_epoch("MeGU", 2, {"loss": 0.5})
    logger.close()
    assert fake.said == [(0.5, 2)] + ["finished"] * own  # a run that the user has opened stays open


@pytest.mark.parametrize("name", ["wandb", "mlflow", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_refused_before_work(name, model, parts, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else name, None)
    with refused(rf"is not installed: `pip install 'megu\[{name}\]'`", MeguError):
        forget(model, parts, log=name, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tensorboard_reads_what_is_written(tmp_path):
    pytest.importorskip("torch.utils.tensorboard")
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    (logger,) = loggers("tensorboard", tmp_path)
    logger.on_epoch("MeGU", 2, {"loss": 0.5})
    logger.close()
    events = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(one.step, one.value) for one in events.Scalars("MeGU/loss")] == [(2, 0.5)]


def test_where_numbers_cannot_go_is_said(model, parts):
    for name, said in (("wandbb", "did you mean 'wandb'"), ("csv", "none is given")):
        with refused(said):
            forget(model, parts, log=name)
