"""The run directory: whole artefacts or none, and nothing mixed."""

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
from megu.settings.errors import SettingsError, StageError
from megu.settings.files import atomic
from megu.settings.progress import LOG, collect_notices

ABOUT = {"settings": {"seed": 0, "noise": {"lam": 0.1}}}


@pytest.fixture
def run(tmp_path):
    """A new store of one and the same directory at each call, as another process has it."""
    return lambda: RunDirectory(tmp_path, ABOUT, seeds=(0, 1))


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


def test_an_artefact_is_made_once_and_again_where_it_was_not_recorded_and_refused_where_it_changed(run, tmp_path):
    made = []
    make = lambda: made.append(1) or pd.DataFrame({"value": [1.5]})  # noqa: E731
    for _ in range(2):
        assert run().table("t.csv", make)["value"].item() == 1.5
    assert len(made) == 1 and run().facts("t.csv") == {}
    (tmp_path / "half.csv").write_text("value\n9\n")  # written, but the run died before it was recorded
    assert run().table("half.csv", make)["value"].item() == 1.5
    (tmp_path / "t.csv").write_text("value\n2\n")
    with pytest.raises(StageError, match=r"t\.csv .* remove it"):
        run().table("t.csv", make)
    (tmp_path / "t.csv").unlink()
    run().table("t.csv", lambda: (make(), {"seconds": 3}))
    assert run().facts("t.csv") == {"seconds": 3}


def test_what_was_said_while_an_artefact_was_made_is_heard_again_where_it_is_read(run):
    table = pd.DataFrame({"value": [1]})

    def make():
        run().table("inner.csv", lambda: LOG.warning("few images") or table)
        LOG.warning("new weights")
        return table, {"seconds": 3}

    wanted = {"t.csv": ["few images", "new weights"], "inner.csv": ["few images"], "quiet.csv": []}
    for name in ("t.csv", *wanted):
        with collect_notices(heard := []):
            run().table(name, make if name == "t.csv" else lambda: table)
        assert heard == wanted[name]
    assert run().facts("t.csv") == {"seconds": 3}


def test_two_processes_make_an_artefact_once_and_lose_no_note(run):
    made = []

    def slow():
        made.append(1)
        time.sleep(0.2)
        return pd.DataFrame({"value": [len(made)]})

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda k: run().table("t.csv", slow)["value"].item(), range(4))) == [1, 1, 1, 1]
        list(pool.map(lambda k: run().note(f"fact {k}", k), range(20)))
    assert len(run().manifest["notes"]) == 20


def test_other_settings_are_refused_and_named(run, tmp_path):
    RunDirectory(tmp_path / "run", ABOUT)
    assert not (tmp_path / "run").exists(), "nothing is written before something is kept"
    for _ in range(2):
        run().note("opened", True)
    with pytest.raises(StageError, match=r"settings\.noise\.lam was 0\.1, is 0\.2"):
        RunDirectory(tmp_path, {"settings": {"seed": 0, "noise": {"lam": 0.2}}})
    assert differences({"a": 1}, {"a": 1}) == []
    one, other = "0f" * 32, "1e" * 32
    assert differences({"x": {"model": one}, "n": "12"}, {"x": {"model": other}, "n": "13"}) == [
        "n was '12', is '13'", "x.model is another"
    ]  # fmt: skip
    whole = differences({"guide": dict.fromkeys("abc", 1), "p": {"megu": {"lr": 1}}}, {"guide": {}, "p": {"scrub": {}}})
    assert len(whole) == 3 and whole[0] == "guide was {'a': 1, 'b': 1, 'c': 1}, is {}", "not each of its parts"


def test_a_fact_that_must_not_change_is_noted_once_and_refused_when_it_changes(run):
    run().same("guide", ("lite0", 40))
    run().note("device", "cpu")
    run().same("guide", ("lite0", 40))
    with pytest.raises(StageError, match=r"guide \['lite0', 40\], now it is \['lite0', 80\]: choose another run_dir"):
        run().same("guide", ("lite0", 80))
    assert run().manifest["notes"] == {"guide": ["lite0", 40], "device": "cpu"}


def test_of_several_processes_one_states_the_fact(run):
    def state(k):
        try:
            run().same("guide", k)
        except StageError:
            return []
        return [k]

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(state, range(8)), []) == [run().manifest["notes"]["guide"]]


def test_a_missing_stage_names_the_notebook(run):
    with pytest.raises(StageError, match="run notebooks/00_prepare first"):
        run().require("prepare")
    run().seal("prepare", [invariant("two is two", 2 == 2)], 1.0)
    run().require("prepare")
    with pytest.raises(SettingsError, match="stages are: prepare"):
        run().sealed("prepar")


def test_an_invariant_that_fails_seals_nothing(run):
    claims = [invariant("two is two", True), invariant("is three", False), invariant("a sum", float("nan"), "==", 1)]
    with pytest.raises(StageError, match=r"'prepare' is not sealed: .* is three; fails: a sum \[nan, bound == 1\]$"):
        run().seal("prepare", claims, 1.0)
    assert not run().sealed("prepare")
    run().seal("prepare", [invariant("two is three", False, asked=False)], 1.0)
    assert run().sealed("prepare")


@pytest.mark.parametrize(("value", "relation", "bound", "shown"), [
    (1.0, ">", 1 - 1e-6, "[1, bound > 0.999999]"), (90.04, "<=", 90.0, "[90.04, bound <= 90]"),
    (0.1 + 0.2, "==", 0.3, "[0.30000000000000004, bound == 0.29999999999999999]"),
])  # fmt: skip
def test_rounding_never_contradicts_what_a_finding_says(value, relation, bound, shown):
    assert str(finding("x", value, relation, bound)).endswith(f"x {shown}")


def test_a_finding_is_recorded_whatever_it_is_and_stated_where_it_was_asked(run):
    said = run().seal("prepare", [
        invariant("two is two", True), finding("forgotten, %", 42.31, "<=", 2), finding("retained, %", 90, ">", 50.0),
        finding("seconds", 9.0, "<=", 1, asked=False), finding("no number", float("nan"), "<", 1),
        finding("nothing", None, "<", 1),
    ], 1.0)  # fmt: skip
    assert said == [
        "holds: two is two", "fails: forgotten, % [42.3, bound <= 2]", "holds: retained, % [90, bound > 50]",
        "fails: no number [nan, bound < 1]", "fails: nothing [none, bound < 1]",
    ]  # fmt: skip
    kept = run().manifest["stages"]["prepare"]["claims"]
    assert [claim["state"] for claim in kept] == ["holds", "fails", "holds", "not asked here", "fails", "fails"]
    about = {"sentence": "forgotten, %", "value": 42.31, "relation": "<=", "bound": 2}
    assert kept[1] == {**about, "kind": "finding", "state": "fails"} and kept[0]["kind"] == "invariant"
    assert [claim["value"] for claim in kept[3:]] == [9.0, None, None]


def test_the_codes_digest_covers_the_registries(tmp_path, monkeypatch):
    copy = tmp_path / "megu"
    shutil.copytree(Path(megu.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__", "assets"))
    monkeypatch.setattr(megu, "__file__", str(copy / "__init__.py"))
    assert code_digest() == CODE and len(CODE) == 12
    counted = {"cli/main.py": False, "figures/style.py": False, "methods/__init__.py": True, "noise_pair.py": True}
    for name, counts in counted.items():
        before, file = code_digest(), copy / name
        file.write_text(file.read_text() + "\n# another word\n")
        assert (code_digest() != before) == counts, name
    before, kept = code_digest(), copy / "runs" / ".ipynb_checkpoints"  # as JupyterLab does of a file that is opened
    kept.mkdir()
    (kept / "store-checkpoint.py").write_text("A copy\n")
    assert code_digest() == before


def test_manifest_says_what_made_it_and_a_damaged_one_is_refused(run, tmp_path):
    run().note("opened", True)
    manifest = run().manifest
    assert manifest["seeds"] == [0, 1] and manifest["settings"] == ABOUT["settings"]
    assert "torch" in manifest["versions"] and len(manifest["digest"]) == 12
    for content in (b'{"settings": ', b"", b"[]", b"\xff\xfe"):
        (tmp_path / "manifest.json").write_bytes(content)
        with pytest.raises(StageError, match="damaged"):
            run()
