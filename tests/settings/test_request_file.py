"""A request in a TOML or YAML file: what it says is what is asked, and what it cannot say is refused."""

from dataclasses import fields
from pathlib import Path

import pytest
from refusals import refused

from megu.own.request import Request
from megu.settings.request_file import KINDS, RequestFile, overlay, read, request_of, write

WHOLE = {
    "model": Path("m.safetensors"), "arch": "resnet18", "data": "photos", "forget": ["ape", "1"], "test": "hf:cifar10",
    "classes": ["ape", "bee", "1"], "normalise": ((0.5,), (0.25,)), "guide": "model", "seed": 3, "trained_on": 900,
    "settings": {"recipe.lr": 1e-3, "guide.answers": "answers.jsonl"}, "out": Path("out"),
}  # fmt: skip


def plain(request):
    return {name: [list(v) if isinstance(v, tuple) else v for v in value] if isinstance(value, tuple) else value
            for name, value in dict(request).items()}  # fmt: skip


def test_every_argument_of_a_request_has_a_key():
    arguments = {field.name for field in fields(Request)} - {"subclasses"}  # of a Dataset only
    assert set(RequestFile.model_fields) == arguments | {"forget_list", "out"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_from_another_folder(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir()
    write(request_of(WHOLE), Path("kept") / f"request{kind}")
    monkeypatch.chdir("/")
    found = request_of({}, tmp_path / "kept" / f"request{kind}")
    for name in ("model", "data", "out"):
        assert Path(getattr(found, name)).resolve() == tmp_path / WHOLE[name]
    assert Path(found.settings["guide"]["answers"]).resolve() == tmp_path / "answers.jsonl"
    assert found.test == "hf:cifar10" and found.settings["recipe"] == {"lr": 1e-3}
    same = set(WHOLE) - {"model", "data", "out", "settings"}
    assert {name: plain(found)[name] for name in same} == {name: plain(request_of(WHOLE))[name] for name in same}


def test_options_win_over_the_file(tmp_path):
    (file := tmp_path / "a.yaml").write_text("seed: 1\nforget_list: a.txt\nsettings: {recipe.lr: 1, recipe.batch: 2}")
    request = request_of({"forget": ["ape"], "seed": None, "settings": {"recipe": {"lr": 3}}}, file)
    assert (request.seed, request.forget, request.forget_list) == (1, ["ape"], None)
    assert request.settings == {"recipe": {"lr": 3, "batch": 2}}
    assert request_of({"seed": 0}, file).seed == 0 and overlay({"seed": 1}, {}) == {"seed": 1}


@pytest.mark.parametrize(("text", "said"), [
    ("modle: a", "did you mean 'model'"), ("seed: -1", "'seed' is -1"),
    ("seed: 1\nseed: 2", "'seed' stands in it twice"),
    ("forget: no", "'forget' is False: give names of classes in quotes"), ("forget: [1, ape]", "positions of images"),
    ("forget: [true]", "positions"), ("classes: [ape, 2]", "names in quotes"), ("normalise: [[x], [1]]", "mean"),
    ("settings: 3", "'settings' is 3"), ("size: 3.5", "'size' is 3.5"),
    ("a: [", "cannot be read"), ("- 1", "is a list"),
    ("forget: a\nforget_list: b", "both given"), ("", "NoneType"), ("!!python/object/apply:os.getcwd []", "cannot be"),
])  # fmt: skip
def test_what_no_request_has_is_refused_with_the_files_name(text, said, tmp_path):
    (file := tmp_path / "a.yaml").write_text(text)
    with refused(f"config 'a.yaml'.*{said}"):
        read(file)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.ini").write_text("seed=1")
    (tmp_path / "a.toml").write_text("seed = 1\nseed = 2")
    for name, said in (("a.ini", "ends in .toml"), ("none.toml", "No such file"), ("a.toml", "cannot be read")):
        with refused(f"config '{name}'.*{said}"):
            read(tmp_path / name)
    with refused("--save-config 'a.ini'"):
        write(request_of({}), tmp_path / "a.ini")


@pytest.mark.parametrize("name", ["model", "data", "test", "reference", "classes", "forget_list"])
def test_a_file_that_is_not_there_is_said(name):
    with refused(f"{name} 'none.txt' does not exist: give"):
        request_of({name: "none.txt"}).arguments()
