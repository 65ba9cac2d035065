"""A run as a research object: every artefact with its hash, every claim in its state; nothing that is not there."""

import json

import pytest
from refusals import refused
from typer.testing import CliRunner

from megu.cli.crate import NAME, describe
from megu.cli.main import app
from megu.runs.store import RunDirectory

ABOUT = {
    "code": "c0de", "arch": "resnet-small",
    "settings": {"arch": "resnet-small", "data": {"name": "d"}, "forget": {"scenario": "class", "classes": ["x"]}},
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    made = RunDirectory(tmp_path / "run", ABOUT, seeds=(0, 1))
    save = lambda text, path: path.write_text(text)  # noqa: E731
    made.once("rows/one.csv", lambda: ("a,b", {}), save, lambda path: path.read_text())
    with made._changed() as manifest:
        claim = {"state": "fails", "sentence": "MeGU forgets", "value": 42, "bound": 2, "relation": "<"}
        manifest["stages"]["evaluate"] = {"claims": [claim], "seconds": 1.0}
    return made


def test_a_run_is_described_by_its_files_and_claims(run):
    said = CliRunner().invoke(app, ["crate", str(run.path)])
    assert said.exit_code == 0 and NAME in said.output
    parts = {one["@id"]: one for one in json.loads((run.path / NAME).read_text())["@graph"]}
    assert parts["rows/one.csv"]["sha256"] == run.manifest["artefacts"]["rows/one.csv"]["sha256"]
    assert {"@id": "rows/one.csv"} in parts["./"]["hasPart"] and parts["#megu"]["identifier"] == "code c0de"
    assert parts["#evaluate"]["name"] == "05_evaluate" and parts["#evaluate"]["description"] == "fails: MeGU forgets"
    assert str(run.path.parent) not in (run.path / NAME).read_text()


def test_what_is_no_run_or_lacks_a_file_is_refused(run, tmp_path):
    (run.path / "rows" / "one.csv").unlink()
    with refused("lacks rows/one.csv"):
        describe(run.path)
    with refused("is no run directory"):
        describe(tmp_path / "none")
    assert not (run.path / NAME).exists()
