"""Where results go: nothing of the user's, of a run or of another call is overwritten or mixed with."""

import os
from contextlib import nullcontext
from pathlib import Path

import pytest
from refusals import refused

import megu
from megu.settings import place as places
from megu.settings.errors import MeguError, StageError
from megu.settings.files import alone
from megu.settings.place import place


@pytest.mark.parametrize(("out", "made", "said"), [
    ("photos/out", "", "'out' lies in 'photos', whose folders are classes"), (".", "model.safetensors", "holds model"),
    ("file", "file", "which is no folder"), ("old", "old/report.html", "holds report.html, and no work/ of an unlearn"),
    ("run", "run/manifest.json", "'run' is a run"), (3, "", "which is no folder"), ("~/new", "", ""),
    ("old", "old/model.onnx", "holds model.onnx, and no work/"), ("old", "old/log.csv", "holds log.csv"),
    ("new", "new/notes.txt", ""), ("on", "on/work/manifest.json", ""), (None, "", ""),
])  # fmt: skip
def test_nothing_of_the_users_is_overwritten(out, made, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in filter(None, ("photos/ape/0.png", made)):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    with refused(said, MeguError) if said else nullcontext():
        there = place(out, {"data": "photos"})
        assert there is None if out is None else there.resolve() == tmp_path / out.removeprefix("~/")
    if said:  # also by the call itself, before anything is read
        with refused(said, MeguError):
            megu.unlearn(None, "photos", "ape", out=out)


@pytest.mark.parametrize(("made", "said"), [
    ("report.json", "holds report.json, of an unlearning: name another folder"),
    ("work/manifest.json", "holds work, of an unlearning"), ("model.safetensors", ""),
    ("comparison.csv", "holds comparison.csv, of no comparison that could go on: name"),
    ("manifest.json", ""), ("reference.safetensors", ""), ("SHA256SUMS", ""), ("finetune/model.safetensors", ""),
])  # fmt: skip
def test_a_comparison_is_not_mixed_with_an_unlearning(made, said, tmp_path):
    (file := tmp_path / "out" / made).parent.mkdir(parents=True)
    file.touch()
    with refused(said) if said else nullcontext():
        place(tmp_path / "out", {}, comparison=True)
    with refused(said or "is None: say which"):  # by the call itself, before anything is read
        megu.compare(None, None, "ape", out=tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [file]
    with refused("holds") if said or made == "reference.safetensors" else nullcontext():
        place(tmp_path / "out", {"retrain": True}, comparison=True)


def test_an_unlearning_is_not_put_into_a_comparison(tmp_path):
    for name in ("manifest.json", "comparison.csv"):
        (tmp_path / name).touch()
    with refused("is a run, a comparison, or of an earlier version: choose another folder", StageError):
        megu.unlearn(None, None, "ape", out=tmp_path)


@pytest.mark.parametrize("out", ["file/below", "closed/deep/new"])
def test_a_folder_that_cannot_be_written_is_refused(out, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir()
    may = os.access
    monkeypatch.setattr(places.os, "access", lambda path, how: Path(path).name != "closed" and may(path, how))
    assert place(tmp_path / "open" / "deep", {}), "the control"
    with refused(f"{out}' cannot be written, as nothing may be put into '{out.partition('/')[0]}': name another"):
        place(tmp_path / out, {})
    assert not (tmp_path / out).exists()


@pytest.mark.parametrize("called", [None, "the folder 'mine'"])
def test_a_folder_that_cannot_be_locked_is_named_and_not_its_lock(called, tmp_path):
    (tmp_path / "mine").touch()
    with refused(r"^(the folder )?'mine' could not be written to \(Not a directory\): choose another", StageError):
        alone(tmp_path / "mine", called).__enter__()
