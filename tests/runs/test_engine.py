"""The engine: each result once, wherever it runs, and the same result everywhere."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, TWO, values
from typer.testing import CliRunner

import megu.runs.spec
from megu.cli.main import app
from megu.runs.engine import Engine
from megu.runs.executors import executor
from megu.runs.experiment import opened
from megu.runs.models import Models
from megu.runs.runner import Inline
from megu.runs.study import paper_grid
from megu.settings.errors import StageError
from megu.settings.files import hash_file

SMALL = "data=cifar10,arch=resnet-small"


def specs_of(changes, text, seeds=1, repeats=1, **more):
    return paper_grid("small", (f"{SMALL},{text}",), seeds, repeats, changes | more)


@pytest.fixture
def engine(tmp_path):
    return Engine("small", tmp_path / "g")


@pytest.fixture
def command(engine, changes, tmp_path):
    """``megu study paper`` of a selection, in the engine's folder and with its tables in another."""

    def call(text, *more):
        values = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
        where = ["--folder", str(engine.path), "--out", str(tmp_path / "out"), "--workers", "1"]
        return CliRunner().invoke(app, ["study", "paper", "--only", f"{SMALL},{text}", *where, *values, *more])

    return call


def test_originals_and_retrained_models_are_made_once_for_all(inline):
    engine, specs = inline
    models = [path.relative_to(engine.path).as_posix() for path in engine.path.glob("shared-*/**/*.safetensors")]
    assert [sum(f"models/{name}" in path for path in models) for name in ("original", "retrain")] == [1, 2]
    assert not list(engine.path.glob("cifar10-*/models"))
    table = values(engine, specs)
    assert len(specs) == 2 * 4 == len(table.groupby(["scenario", "method", "seed"]))
    assert set(table["dataset"]) == {"cifar10"} and set(table["forget"]) == {"cat", "100 images"}


def test_finished_specs_are_skipped_and_other_methods_share_what_is_there(inline, changes, monkeypatch):
    engine, specs = inline
    assert engine.jobs(specs) == []
    more = specs_of(changes, "scenario=class,method=amnesiac,seed=0", 2)
    assert [job.name for job in engine.jobs(more)] == ["cifar10/resnet-small/class/cat/amnesiac/0/0"]
    monkeypatch.setattr(Models, "_fit", lambda *_: pytest.fail("an original was trained again"))
    assert engine.carry_out(more, Inline) == {}


def test_originals_and_retrained_models_can_be_made_ahead(engine, changes, monkeypatch):
    specs, said = specs_of(changes, "scenario=random,method=megu", 2), []
    engine.pretrain(specs, said.append)
    done = [f"{name}, seed {seed}: done" for seed in (0, 1) for name in ("original", "retrain")]
    assert said == ["cifar10, resnet-small, random, 100 images", *done]
    left = [job.name for job in engine.jobs(specs)]
    assert left == ["answers cifar10/resnet-small/class/posterior", *map(str, specs)], "what is made is not left to do"
    monkeypatch.setattr(Models, "_fit", lambda *_: pytest.fail("an original was trained again"))
    monkeypatch.setattr("megu.methods.task.Task.fresh_model", lambda _: pytest.fail("a model was retrained again"))
    assert engine.carry_out(specs, Inline) == {} and list(engine.finished(specs)) == specs
    table = values(engine, specs).query("metric == 'tow'").pivot(index="seed", columns="method", values="value")
    assert (table["retrain"] == 1).all() and (table["original"] < 1).all(), "each seed with its own retrained model"


def test_repeats_of_unlearning_differ_and_threads_of_a_worker_do_not_disturb_each_other(inline, engine, changes):
    shared, _ = inline
    specs = specs_of(changes, "scenario=class,method=finetune,seed=0", 1, 2)
    assert shared.carry_out(specs, lambda: ThreadPoolExecutor(2)) == {}
    first, second = (values(shared, [spec])["value"] for spec in specs if spec.method == "finetune")
    assert not first.equals(second)
    assert engine.carry_out(specs, Inline) == {}
    pd.testing.assert_frame_equal(values(engine, specs), values(shared, specs))
    missing = specs_of(changes, "scenario=class,method=finetune|unsir,seed=0", 1, 2)
    source = shared.tables(missing)[2]
    assert (source["repeats"], source["measured"], source["not_run"]) == (2, 4, 2)


def test_other_data_and_another_order_are_refused_before_any_work(inline, changes, cifar_like, tmp_path):
    with np.load(cifar_like[0] / "cifar10_tiny.npz") as arrays:
        parts = dict(arrays)
    order = np.random.default_rng(0).permutation(len(parts["y_train"]))
    np.savez(tmp_path / "cifar10_tiny.npz", **parts | {name: parts[name][order] for name in ("x_train", "y_train")})
    for path in (cifar_like[1], tmp_path):
        for only in (f"{SMALL},scenario=class,method=unsir,seed=0", *TWO):  # also where everything has a result
            specs = paper_grid("small", (only,), 1, changes=changes | {"data.path": str(path)})
            with pytest.raises(StageError, match="made with data cifar10"):
                inline[0].carry_out(specs, lambda: pytest.fail("work began"))


@pytest.mark.parametrize("other", ["device for resnet-small", "torch", "guide posterior, version", "code"])
def test_another_precision_torch_guide_or_code_is_refused(inline, changes, monkeypatch, other):
    engine, _ = inline
    opened.cache_clear()  # as in a process of its own
    more = {"methods.megu.labels.tau": 0.5}
    notes, refused = engine.run.manifest["notes"], f"made with {other}"
    known = {name: value for name, value in notes.items() if name.startswith("guide posterior, version")}
    if other == "code":
        monkeypatch.setattr(engine, "code", "another")
        refused = "other code"
    elif other == "torch":
        monkeypatch.setattr("torch.__version__", "1.0.0")
    elif other.startswith("device"):
        more["autocast"] = "off" if "bfloat16" in notes[other] else "on"
    else:
        for name in known:
            engine.run.note(name, "weights of yesterday")
    try:
        failed = engine.carry_out(specs_of(changes, "scenario=class,method=megu,seed=0", **more), Inline)
    finally:
        for name, value in known.items():
            engine.run.note(name, value)
    assert failed and refused in next(iter(failed.values()))[0]


def test_a_worker_that_finds_other_files_than_the_leader_is_refused(inline, changes, monkeypatch):
    engine, _ = inline
    seen = specs_of(changes, "scenario=class,method=finetune,seed=0", **{"training.epochs": 2})
    kept = [spec.key for spec in seen]
    monkeypatch.setenv("MEGU_ORIGINAL", str(next(engine.path.glob("shared-*/models/original-0.safetensors"))))
    megu.runs.spec._settings.cache_clear()  # as in a process of its own
    failed = engine.carry_out(seen, Inline)
    assert "finds other weights, another original" in next(iter(failed.values()))[0] and not engine.finished(seen)
    assert [spec.key for spec in seen] == kept
    monkeypatch.undo()
    megu.runs.spec._settings.cache_clear()


def test_a_result_that_is_not_as_it_was_written_is_not_one(engine, changes):
    specs = specs_of(changes, "scenario=class,method=original,seed=0")
    assert engine.carry_out(specs, Inline) == {}
    first, second = (engine.path / engine.file(spec) for spec in specs)
    whole = first.read_text()
    first.write_text(whole[: len(whole) // 2])
    second.unlink()
    assert engine.finished(specs) == {}
    failed = engine.carry_out(specs, Inline)
    assert list(failed) == [str(specs[0])] and "remove it to have it made again" in failed[str(specs[0])][0]
    first.unlink()
    assert engine.carry_out(specs, Inline) == {} and first.read_text() == whole


def test_one_failed_cell_does_not_stop_the_grid(engine, command, changes, tmp_path, monkeypatch):
    specs, usual = paper_grid("small", TWO, 1, changes=changes), Models.references

    def broken(self, seed):
        if self.settings.forget.scenario == "random":
            raise ValueError("no luck today")
        return usual(self, seed)

    monkeypatch.setattr(Models, "references", broken)
    failed = engine.carry_out(specs, Inline)
    needy = "it needs retrained cifar10/resnet-small/random/100 images/0, which failed"
    assert [error for error, _ in failed.values()] == ["ValueError: no luck today", *4 * [needy]]
    for _, file in failed.values():
        head, *trace = file.read_text().splitlines()
        assert "megu run --profile small --seed 0 --set data.name=cifar10" in head and "in broken" in "".join(trace)
    assert list(engine.finished(specs)) == [s for s in specs if s.cell.scenario == "class"]
    told = str(command("scenario=random,method=megu,seed=0").exception)
    assert "jobs failed; the others are kept" in told and "no luck today" in told and not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert engine.carry_out(specs, Inline) == {} and list(engine.finished(specs)) == specs
    assert not list((engine.path / "failures").glob("*"))


def test_the_command_writes_tables_that_say_where_they_are_from(engine, command, changes, tmp_path):
    what, out = "scenario=class,method=finetune,seed=0", tmp_path / "out"
    dry = command(what, "--dry-run")
    assert not engine.path.exists() and not out.exists(), "a dry run leaves nothing behind"
    assert dry.exit_code == 0 and "0 measured, 5 jobs left" in dry.output
    assert "retrained cifar10/resnet-small/class/cat/0" in dry.output
    done = command(what)
    assert done.exit_code == 0, done.output
    table, seconds = (pd.read_csv(out / f"grid_small{name}.csv") for name in ("", "_seconds"))
    assert " ".join(table) == "dataset arch scenario forget method seed repeat metric value mode unit"
    assert set(seconds["method"]) == {"original", "retrain", "finetune"} and (seconds["seconds"] > 0).all()
    written, data = (json.loads((f / "grid_small_source.json").read_text()) for f in (out, ROOT / "paper_figures/data"))
    assert written["files"] == {name: hash_file(out / name) for name in ("grid_small.csv", "grid_small_seconds.csv")}
    assert set(data) == set(written)
    assert {*map(frozenset, data["data"].values())} == {*map(frozenset, written["data"].values())}
    assert written["measured"] == 3 and written["data"]["cifar10"]["train"] == 400
    assert written["epochs"] == {"cifar10, resnet-small": 1}
    assert changes["data.path"] not in json.dumps(written) and str(tmp_path) not in json.dumps(written)
    assert written["command"].startswith("megu study paper --profile small --only data=cifar10")
    assert "--set training.epochs=1" in written["command"]


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(inline, engine, changes):
    specs = specs_of(changes, "scenario=random,method=megu")
    assert engine.carry_out(specs, executor(2)) == {}
    pd.testing.assert_frame_equal(values(engine, specs), values(inline[0], specs))
