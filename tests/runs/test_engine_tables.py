"""What the engine's command writes, alone and by two processes."""

import json

import pandas as pd
import pytest
from conftest import ROOT, values
from typer.testing import CliRunner

from megu.cli.main import app
from megu.runs.engine import Engine
from megu.runs.executors import executor
from megu.runs.study import paper_grid
from megu.settings.files import hash_file


def test_the_command_writes_tables_that_say_where_they_are_from(changes, tmp_path):
    arguments = [
        "study",
        "paper",
        "--only",
        "data=cifar10,arch=resnet-small,scenario=class,method=finetune,seed=0",
        "--folder",
        str(tmp_path / "g"),
        "--workers",
        "1",
    ]
    arguments += [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    dry = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert not (tmp_path / "g").exists(), "a dry run leaves nothing behind"
    assert (
        dry.exit_code == 0
        and "0 measured, 5 jobs left" in dry.output
        and "retrained cifar10/resnet-small/class/cat/0" in dry.output
    )
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    table, source = (
        pd.read_csv(tmp_path / "out" / "grid_small.csv"),
        json.loads((tmp_path / "out" / "grid_small_source.json").read_text()),
    )
    assert list(table) == [
        "dataset",
        "arch",
        "scenario",
        "forget",
        "method",
        "seed",
        "repeat",
        "metric",
        "value",
        "mode",
        "unit",
    ]
    assert source["files"] == {
        name: hash_file(tmp_path / "out" / name) for name in ("grid_small.csv", "grid_small_seconds.csv")
    }
    tracked = json.loads((ROOT / "paper_figures" / "data" / "grid_small_source.json").read_text())
    assert set(tracked) == set(source) and {*map(frozenset, tracked["data"].values())} == {
        *map(frozenset, source["data"].values())
    }
    assert (
        source["measured"] == 3
        and source["data"]["cifar10"]["train"] == 400
        and source["epochs"] == {"cifar10, resnet-small": 1}
    )
    assert changes["data.path"] not in json.dumps(source) and str(tmp_path) not in json.dumps(source)
    assert (
        source["command"].startswith("megu study paper --profile small --only data=cifar10")
        and "--set training.epochs=1" in source["command"]
    )
    seconds = pd.read_csv(tmp_path / "out" / "grid_small_seconds.csv")
    assert set(seconds["method"]) == {"original", "retrain", "finetune"} and (seconds["seconds"] > 0).all()


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(inline, changes, tmp_path):
    engine, only = Engine("small", tmp_path / "pool"), ("data=cifar10,arch=resnet-small,scenario=random,method=megu",)
    specs = paper_grid("small", only, 1, changes=changes)
    assert engine.carry_out(specs, executor(2)) == {}
    pd.testing.assert_frame_equal(values(engine, specs), values(inline[0], specs))
