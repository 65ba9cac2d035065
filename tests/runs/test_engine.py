"""The engine: each result once, wherever it runs, and the same result everywhere."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from conftest import TWO, values
from typer.testing import CliRunner

import megu.runs.engine
import megu.runs.spec
from megu.cli.main import app
from megu.runs.engine import Engine
from megu.runs.evaluation import Evaluation
from megu.runs.models import Models
from megu.runs.runner import Inline
from megu.runs.study import paper_grid
from megu.settings.errors import StageError


def specs_of(changes, text, seeds=1, repeats=1):
    return paper_grid("small", (f"data=cifar10,arch=resnet-small,{text}",), seeds, repeats, changes)


def test_originals_and_retrained_models_are_made_once_for_all(inline):
    engine, specs = inline
    models = {
        p.relative_to(engine.path).as_posix().partition("/")[2] for p in engine.path.glob("shared-*/**/*.safetensors")
    }
    assert (
        len([m for m in models if m.startswith("models/original")]) == 1
        and len([m for m in models if "models/retrain" in m]) == 2
    )
    assert not list(engine.path.glob("cifar10-*/models"))
    table = values(engine, specs)
    assert len(specs) == 2 * 4 == len(table.groupby(["scenario", "method", "seed"])) and set(table["dataset"]) == {
        "cifar10"
    }
    assert set(table["forget"]) == {"cat", "100 images"}


def test_finished_specs_are_skipped_and_other_methods_share_what_is_there(inline, changes, monkeypatch):
    engine, specs = inline
    assert engine.jobs(specs) == []
    more = specs_of(changes, "scenario=class,method=amnesiac,seed=0", 2)
    new = [p.name for p in engine.jobs(more)]
    assert new == [f"cifar10/resnet-small/class/cat/amnesiac/0/{repeat}" for repeat in range(len(new))] and new
    fits = []
    usual = Models._fit
    monkeypatch.setattr(Models, "_fit", lambda *a: fits.append(1) or usual(*a))
    assert engine.carry_out(more, Inline) == {} and not fits


def test_originals_and_retrained_models_can_be_made_ahead(changes, tmp_path, monkeypatch):
    engine, specs = (Engine("small", tmp_path / "g"), specs_of(changes, "scenario=random,method=megu", 2))
    said = []
    engine.pretrain(specs, said.append)
    done = [f"{name}, seed {seed}: done" for seed in (0, 1) for name in ("original", "retrain")]
    assert said[0] == "cifar10, resnet-small, random, 100 images" and sorted(said[1:]) == sorted(done)
    left = [job.name for job in engine.jobs(specs)]
    assert left == ["answers cifar10/resnet-small/class/posterior", *map(str, specs)], "what is made is not left to do"
    monkeypatch.setattr(Models, "_fit", lambda *_: pytest.fail("an original was trained again"))
    monkeypatch.setattr("megu.methods.task.Task.fresh_model", lambda _: pytest.fail("a model was retrained again"))
    assert engine.carry_out(specs, Inline) == {} and list(engine.finished(specs)) == specs
    table = values(engine, specs).set_index(["method", "seed", "metric"])["value"]
    for seed in (0, 1):  # each seed is compared with its own retrained model
        assert (
            table["retrain", seed, "tow"] == 1
            and table["retrain", seed, "js_retrain"] == 0
            and table["original", seed, "tow"] < 1
        )


def test_repeats_of_unlearning_differ_and_threads_of_a_worker_do_not_disturb_each_other(inline, changes, tmp_path):
    engine, _ = inline
    specs = specs_of(changes, "scenario=class,method=finetune,seed=0", 1, 2)
    assert engine.carry_out(specs, lambda: ThreadPoolExecutor(2)) == {}
    rows = {spec.repeat: engine.tables([spec])[0]["value"] for spec in specs if spec.method == "finetune"}
    assert not rows[0].equals(rows[1])
    other = Engine("small", tmp_path / "g")
    assert other.carry_out(specs, Inline) == {}
    pd.testing.assert_frame_equal(values(other, specs), values(engine, specs))
    missing = specs_of(changes, "scenario=class,method=finetune|unsir,seed=0", 1, 2)
    source = engine.source(missing, engine.tables(missing)[1])
    assert (source["repeats"], source["measured"], source["not_run"]) == (2, 4, 2)


def test_other_data_another_order_another_precision_and_other_code_are_refused(
    inline, changes, cifar_like, tmp_path, monkeypatch
):
    engine, _ = inline
    ask = ("data=cifar10,arch=resnet-small,scenario=class,method=unsir,seed=0",)

    def refused(**more):
        failed = engine.carry_out(paper_grid("small", ask, 1, changes=changes | more), Inline)
        return next(iter(failed.values()))[0]

    def refused_at_once(path):  # also where everything has a result
        for what in (ask, TWO):
            with pytest.raises(StageError, match="made with data cifar10"):
                engine.carry_out(
                    paper_grid("small", what, 1, changes=changes | {"data.path": str(path)}),
                    lambda: pytest.fail("work began"),
                )

    refused_at_once(cifar_like[1])
    with np.load(cifar_like[0] / "cifar10_tiny.npz") as arrays:
        parts = dict(arrays)
    order = np.random.default_rng(0).permutation(len(parts["y_train"]))
    np.savez(
        tmp_path / "cifar10_tiny.npz",
        **parts | {"x_train": parts["x_train"][order], "y_train": parts["y_train"][order]},
    )
    refused_at_once(tmp_path)
    usual = engine.carry_out(specs_of(changes, "scenario=class,method=megu,seed=0"), Inline)
    other = "off" if "bfloat16" in engine.run.manifest["notes"]["device for resnet-small"] else "on"
    assert not usual and "made with device for resnet-small" in refused(autocast=other)
    with monkeypatch.context() as patched:
        patched.setattr("torch.__version__", "1.0.0")
        assert "made with torch" in refused()
    monkeypatch.setattr(engine, "code", "another")
    assert "other code" in refused()


def test_a_worker_that_finds_other_files_than_the_leader_is_refused(inline, changes, monkeypatch):
    engine, specs = inline
    seen = specs_of(changes | {"training.epochs": 2}, "scenario=class,method=finetune,seed=0")
    kept = [spec.key for spec in seen]
    monkeypatch.setenv("MEGU_ORIGINAL", str(next(engine.path.glob("shared-*/models/original-0.safetensors"))))
    megu.runs.spec._settings.cache_clear()  # as in a process of its own
    failed = engine.carry_out(seen, Inline)
    assert all(
        "finds other weights, another original" in error for error, _ in list(failed.values())[:1]
    ) and not engine.finished(seen)
    assert [spec.key for spec in seen] == kept
    monkeypatch.undo()
    megu.runs.spec._settings.cache_clear()


def test_another_version_of_a_guide_is_refused(inline, changes, monkeypatch):
    engine, _ = inline
    megu.runs.engine._cell.cache_clear()  # as in a process of its own
    note = next(name for name in engine.run.manifest["notes"] if name.startswith("guide posterior, version"))
    known = engine.run.manifest["notes"][note]
    engine.run.note(note, "weights of yesterday")
    ask = ("data=cifar10,arch=resnet-small,scenario=class,method=megu,seed=0",)
    failed = engine.carry_out(paper_grid("small", ask, 1, changes=changes | {"methods.megu.labels.tau": 0.5}), Inline)
    engine.run.note(note, known)
    assert [error for error, _ in failed.values()] and all(
        "made with guide posterior, version" in error for error, _ in failed.values()
    )


def test_a_result_that_is_not_as_it_was_written_is_not_one(changes, tmp_path):
    engine = Engine("small", tmp_path / "g")
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


def test_one_failed_cell_does_not_stop_the_grid(changes, tmp_path, monkeypatch):
    engine, specs = Engine("small", tmp_path / "g"), paper_grid("small", TWO, 1, changes=changes)
    usual = Evaluation.references

    def broken(self, seed):
        if self.models.settings.forget.scenario == "random":
            raise ValueError("no luck today")
        return usual(self, seed)

    monkeypatch.setattr(Evaluation, "references", broken)
    failed = engine.carry_out(specs, Inline)
    assert len(failed) == 5 and all("in broken" in file.read_text() for _, file in failed.values())
    assert [error for error, _ in failed.values()] == ["ValueError: no luck today"] + [
        "it needs retrained cifar10/resnet-small/random/100 images/0, which failed"
    ] * 4
    assert list(engine.finished(specs)) == [s for s in specs if s.cell.scenario == "class"]
    assert all(
        "megu run --profile small --seed 0 --set data.name=cifar10" in file.read_text().splitlines()[0]
        for _, file in failed.values()
    )
    again = [
        "study",
        "paper",
        "--folder",
        str(engine.path),
        "--only",
        "data=cifar10,arch=resnet-small,scenario=random,method=megu,seed=0",
        "--workers",
        "1",
    ]
    again += [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    told = CliRunner().invoke(app, [*again, "--out", str(tmp_path / "out")]).exception
    assert "no luck today" in str(told) and not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert (
        engine.carry_out(specs, Inline) == {}
        and list(engine.finished(specs)) == specs
        and not list((engine.path / "failures").glob("*"))
    )
