"""A run's model leaves as a checkpoint, or as a line that says why not."""

import shutil
from pathlib import Path

import pytest
import torch
from hub import FakeApi
from huggingface_hub import hub_mixin
from refusals import refused
from typer.testing import CliRunner

from megu.cli.main import app
from megu.core.train import predict
from megu.own.checkpoint import Checkpoint
from megu.own.export import export
from megu.runs.experiment import Experiment
from megu.settings.errors import SettingsError


@pytest.fixture(scope="module")
def run(tiny_overrides, tmp_path_factory):
    """A run with two measured models."""
    overrides = {**tiny_overrides, "seeds": 1, "training.epochs": 1}
    lab = Experiment(run_dir=tmp_path_factory.mktemp("runs") / "one", overrides=overrides)
    for name in ("finetune", "retrain"):
        lab.rows(name, 0)
    return lab


def test_a_runs_model_is_exported_without_its_data(run, tmp_path):
    said = exported(run, tmp_path / "out")
    assert said.exit_code == 0 and "written  model.safetensors, config.json, README.md" in said.output
    found = Checkpoint.from_pretrained(tmp_path / "out")
    index = run.split.test_retain
    logits = [predict(model, run.images, index) for model in (run.unlearned("finetune", 0), run.original(0))]
    with torch.no_grad():
        assert torch.allclose(found(run.images.x[index]), logits[0], atol=1e-5)
        assert not torch.allclose(found(run.images.x[index]), logits[1], atol=1e-3)
    about, rows = found.about, run.rows("finetune", 0).set_index("metric")["value"]
    assert about.classes == run.images.classes and about.split == run.split.digest()
    assert about.forget == run.settings.forget and set(about.measured) == set(rows.index)
    assert about.images["train"]["content"] == run.run.manifest["notes"]["images"]["train"]["content"]
    assert about.measured["acc_retain_test"][0] == pytest.approx(rows["acc_retain_test"])
    assert about.measured["tow"][1] == 1.0  # the retrained model's own
    written = [file.read_text(errors="ignore") for file in (tmp_path / "out").iterdir()]
    assert str(run.run.path.parent) not in "".join(written)
    original = export(run.run.path, "original", 0).about
    assert original.forget is None and not original.measured


def exported(run, *more):
    return CliRunner().invoke(app, ["export", str(run.run.path), "finetune", "0", "--out", *map(str, more)])


def test_what_cannot_be_exported(run, tmp_path):
    with refused("is no run directory of this version"):
        export(tmp_path, "megu", 0)
    with refused("the model 'fintune-0' does not exist; did you mean 'finetune-0'"):
        export(run.run.path, "fintune", 0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert "'full' is not empty: name a new folder" in str(exported(run, tmp_path / "full").exception)
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("file", ["models/finetune-0.safetensors", "rows/finetune-0-0.csv", "rows/retrain-0-0.csv"])
def test_what_a_run_did_not_write_is_not_exported(run, tmp_path, file):
    other = Path(shutil.copytree(run.run.path, tmp_path / "other"))
    assert export(other, "finetune", 0).about == export(run.run.path, "finetune", 0).about
    with open(other / file, "a") as there:
        there.write(" ")
    with refused(f"{file} in 'other' is not the file that was written there"):
        export(other, "finetune", 0)


class ConnectError(Exception):
    """No OSError, as that of the client that reaches the hub."""


class Unreachable(FakeApi):
    def create_repo(self, *_, **__):
        raise ConnectError("[Errno 111] Connection refused\nmore")


def test_what_cannot_be_sent_is_one_line_and_written_all_the_same(run, tmp_path, monkeypatch):
    for api, why in ((None, ""), (Unreachable, "ConnectError: [Errno 111] Connection refused")):
        out = tmp_path / why[:7]
        if api:
            monkeypatch.setattr(hub_mixin, "HfApi", api)
        said = exported(run, out / "out", "--push", "someone/forgetful").exception
        assert isinstance(said, SettingsError) and f"'someone/forgetful' was not sent ({why}" in str(said)
        assert "\n" not in str(said) and Checkpoint.from_pretrained(out / "out")
