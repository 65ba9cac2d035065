"""The run directory: whole artefacts or none, and nothing mixed."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import megu
from megu.runs.claims import finding, invariant
from megu.runs.store import CODE, RunDirectory, code_digest, differences
from megu.settings.errors import StageError
from megu.settings.files import atomic

ABOUT = {"settings": {"seed": 0, "noise": {"lam": 0.1}}}


def test_who_may_read_a_directory_may_read_the_weights_in_it(tmp_path):
    usual = tmp_path / "usual"
    usual.touch()
    with atomic(tmp_path / "x.safetensors") as part:
        save_file({"x": torch.zeros(1)}, part)
    assert (tmp_path / "x.safetensors").stat().st_mode == usual.stat().st_mode


def test_atomic_leaves_nothing_behind_after_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "a.txt") as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with atomic(tmp_path / "a.txt") as part:
        part.write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_once_makes_once_and_makes_again_what_was_not_recorded(tmp_path):
    run, made = RunDirectory(tmp_path, ABOUT), []
    make = lambda: made.append(1) or pd.DataFrame({"value": [1.5]})  # noqa: E731
    for _ in range(2):
        assert RunDirectory(tmp_path, ABOUT).table("t.csv", make)["value"].item() == 1.5
    assert len(made) == 1
    (tmp_path / "half.csv").write_text("value\n9\n")  # written, but the run died before it was recorded
    assert run.table("half.csv", make)["value"].item() == 1.5


def test_two_processes_make_an_artefact_once(tmp_path):
    made = []

    def slow():
        made.append(1)
        time.sleep(0.2)
        return pd.DataFrame({"value": [len(made)]}), {}

    def once(k):  # its own Run, as another process has
        return (
            RunDirectory(tmp_path, ABOUT)
            .once("t.csv", slow, lambda table, path: table.to_csv(path, index=False), pd.read_csv)["value"]
            .item()
        )

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(once, range(4))) == [1, 1, 1, 1]
    runs = [RunDirectory(tmp_path, ABOUT) for _ in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: runs[k].note(f"fact {k}", k), range(20)))
    assert len(runs[0].manifest["notes"]) == 20


def test_a_changed_artefact_is_refused(tmp_path):
    run = RunDirectory(tmp_path, ABOUT)
    run.table("t.csv", lambda: pd.DataFrame({"value": [1]}))
    (tmp_path / "t.csv").write_text("value\n2\n")
    with pytest.raises(StageError, match=r"t\.csv .* remove it"):
        run.table("t.csv", lambda: pd.DataFrame({"value": [1]}))


def test_other_settings_are_refused_and_named(tmp_path):
    RunDirectory(tmp_path / "run", ABOUT)
    assert not (tmp_path / "run").exists(), "nothing is written before something is kept"
    for _ in range(2):
        RunDirectory(tmp_path, ABOUT).note("opened", True)
    with pytest.raises(StageError, match=r"settings\.noise\.lam was 0\.1, is 0\.2"):
        RunDirectory(tmp_path, {"settings": {"seed": 0, "noise": {"lam": 0.2}}})
    assert differences({"a": 1}, {"a": 1}) == []


def test_a_fact_that_must_not_change_is_noted_once_and_refused_when_it_changes(tmp_path):
    run = RunDirectory(tmp_path, ABOUT)
    run.same("guide", ("lite0", 40))
    run.note("device", "cpu")
    RunDirectory(tmp_path, ABOUT).same("guide", ("lite0", 40))  # another process, the same fact
    with pytest.raises(StageError, match=r"guide \['lite0', 40\], now it is \['lite0', 80\]: choose another run_dir"):
        RunDirectory(tmp_path, ABOUT).same("guide", ("lite0", 80))
    assert run.manifest["notes"] == {"guide": ["lite0", 40], "device": "cpu"}


def test_of_two_processes_one_states_the_fact(tmp_path):
    def state(k):
        try:
            RunDirectory(tmp_path, ABOUT).same("guide", k)
        except StageError:
            return None
        return k

    with ThreadPoolExecutor(8) as pool:
        stated = [k for k in pool.map(state, range(8)) if k is not None]
    assert stated == [RunDirectory(tmp_path, ABOUT).manifest["notes"]["guide"]]


def test_a_missing_stage_names_the_notebook(tmp_path):
    run = RunDirectory(tmp_path, ABOUT)
    with pytest.raises(StageError, match="run notebooks/00_prepare first"):
        run.require("prepare")
    run.seal("prepare", [invariant("two is two", 2 == 2)], 1.0)
    run.require("prepare")


def test_an_invariant_that_fails_seals_nothing(tmp_path):
    run = RunDirectory(tmp_path, ABOUT)
    with pytest.raises(
        StageError, match=r"'prepare' is not sealed: .* two is three; fails: a sum \[nan, asked == 1\]$"
    ):
        run.seal(
            "prepare",
            [
                invariant("two is two", True),
                invariant("two is three", False),
                invariant("a sum", float("nan"), "==", 1),
            ],
            1.0,
        )
    assert not run.sealed("prepare")
    run.seal("prepare", [invariant("two is three", False, asked=False)], 1.0)


def test_a_finding_is_recorded_whatever_it_is_and_stated_where_it_was_asked(tmp_path):
    run = RunDirectory(tmp_path, ABOUT)
    said = run.seal("prepare", [
        invariant("two is two", True), finding("forgotten, %", 42.31, "<=", 2), finding("retained, %", 90, ">", 50.0),
        finding("seconds", 9.0, "<=", 1, asked=False), finding("no number", float("nan"), "<", 1), finding("nothing", None, "<", 1),
    ], 1.0)  # fmt: skip
    assert said == [
        "holds: two is two", "fails: forgotten, % [42.3, asked <= 2]", "holds: retained, % [90, asked > 50]",
        "fails: no number [nan, asked < 1]", "fails: nothing [none, asked < 1]",
    ]  # fmt: skip
    kept = run.manifest["stages"]["prepare"]["claims"]
    assert [claim["state"] for claim in kept] == ["holds", "fails", "holds", "not asked here", "fails", "fails"]
    assert kept[1] == {
        "sentence": "forgotten, %",
        "value": 42.31,
        "relation": "<=",
        "bound": 2,
        "kind": "finding",
        "state": "fails",
    }
    assert [claim["value"] for claim in kept[3:]] == [9.0, None, None] and kept[0]["kind"] == "invariant"


def test_unknown_stage_and_damaged_manifest(tmp_path):
    run = RunDirectory(tmp_path, ABOUT)
    with pytest.raises(ValueError, match="stages are: prepare"):
        run.sealed("prepar")
    (tmp_path / "manifest.json").write_text('{"settings": ')
    with pytest.raises(StageError, match="damaged"):
        RunDirectory(tmp_path, ABOUT)


def test_the_codes_digest_covers_the_registries(tmp_path, monkeypatch):
    copy = tmp_path / "megu"
    shutil.copytree(Path(megu.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__", "assets"))
    monkeypatch.setattr(megu, "__file__", str(copy / "__init__.py"))
    assert code_digest() == CODE
    for name, counts in (
        ("cli/main.py", False),
        ("figures/style.py", False),
        ("methods/__init__.py", True),
        ("noise_pair.py", True),
    ):
        before, file = code_digest(), copy / name
        file.write_text(file.read_text() + "\n# another word\n")
        assert (code_digest() != before) == counts, name


def test_manifest_says_what_made_it(tmp_path):
    run = RunDirectory(tmp_path, ABOUT, seeds=(0, 1))
    run.note("opened", True)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["seeds"] == [0, 1] and manifest["settings"] == ABOUT["settings"]
    assert "torch" in manifest["versions"] and len(run.manifest["digest"]) == 12 and len(code_digest()) == 12
