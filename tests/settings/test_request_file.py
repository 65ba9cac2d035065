"""A request in a TOML or YAML file: what it says is what is asked, and what it cannot say is refused."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from conftest import ROOT
from refusals import refused
from torchvision import models

from megu.methods import METHODS
from megu.own.guide_choice import NAMED
from megu.own.request import Request
from megu.settings.known import check_arch, method_names, registered
from megu.settings.request_file import GUIDES, KINDS, RequestFile, arguments_of, overlay, read, request_of, write

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


def test_the_guides_that_are_refused_are_those_that_nobody_can_ask():
    assert sorted(GUIDES) == sorted(NAMED)
    with refused("guide 'composd' does not exist; did you mean 'composed'"):
        request_of({"guide": "composd"}).arguments()
    assert request_of({"guide": "matrix.csv"}).arguments() == {"guide": "matrix.csv"}


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


@pytest.mark.parametrize("arch", ["net.py:make", "hf:config"])
def test_files_that_arch_names_are_found_from_another_folder(arch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir(), (tmp_path / "config").mkdir(), (tmp_path / "net.py").write_text("make = 1")
    write(request_of({"arch": arch}), Path("kept") / "request.toml")
    assert "../" in (tmp_path / "kept" / "request.toml").read_text()
    monkeypatch.chdir("/")
    parts = re.split(":", request_of({}, tmp_path / "kept" / "request.toml").arch)
    assert {Path(part).resolve() for part in parts} & {tmp_path / "net.py", tmp_path / "config"}
    for other in ("resnet18", "hf:owner/name", "timm:resnet18", "package.module:make"):
        (tmp_path / "kept" / "request.toml").write_text(f"arch = '{other}'")
        assert request_of({}, tmp_path / "kept" / "request.toml").arch == other


def test_options_win_over_the_file(tmp_path):
    (file := tmp_path / "a.yaml").write_text("seed: 1\nforget_list: a.txt\nsettings: {recipe.lr: 1, recipe.batch: 2}")
    request = request_of({"forget": ["ape"], "seed": None, "settings": {"recipe": {"lr": 3}}}, file)
    assert (request.seed, request.forget, request.forget_list) == (1, ["ape"], None)
    assert request.settings == {"recipe": {"lr": 3, "batch": 2}}
    assert request_of({"seed": 0}, file).seed == 0 and overlay({"seed": 1}, {}) == {"seed": 1}
    file.write_text("settings:\n  <<: {recipe.lr: 1, recipe.batch: 2}\n  recipe.batch: 4")
    assert request_of({}, file).settings == {"recipe": {"lr": 1, "batch": 4}}, "YAML's merge"


@pytest.mark.parametrize(("text", "said"), [
    ("modle: a", "did you mean 'model'"), ("seed: -1", "'seed' is -1"),
    ("seed: 1\nseed: 2", "'seed' stands in it twice"), ("forget: " + "[" * 3000, "maximum recursion depth"),
    ("forget: no", "'forget' is False: give names of classes in quotes"), ("forget: [1, ape]", "positions of images"),
    ("forget: [true]", "positions"), ("classes: [ape, 2]", "names in quotes"), ("normalise: [[x], [1]]", "mean"),
    ("method: 3", "'method' is 3: give a name"), ("settings: 3", "'settings' is 3"), ("size: 3.5", "'size' is 3.5"),
    ("a: [", "cannot be read"), ("data: ''", "'data' is '': give a value, or leave it out"), ("out: ''", "'out' is ''"),
    ("settings: {recipe.lr: 1, recipe: {lr: 2}}", "recipe.lr is there twice, nested and with a dot"),
    ("- 1", "is a list"),
    ("forget: a\nforget_list: b", "both given"), ("", "NoneType"), ("!!python/object/apply:os.getcwd []", "cannot be"),
])  # fmt: skip
def test_what_no_request_has_is_refused_with_the_files_name(text, said, tmp_path):
    (file := tmp_path / "a.yaml").write_text(text)
    with refused(f"config 'a.yaml'.*{said}"):
        read(file)


@pytest.mark.parametrize("name", ["data", "test", "out", "model"])
def test_an_empty_text_is_no_path_to_where_one_stands(name):
    with refused("'' can be no path"):
        arguments_of(None, **{"data": "photos", name: ""})


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.ini").write_text("seed=1")
    (tmp_path / "a.toml").write_text("seed = 1\nseed = 2")
    for name, said in (("a.ini", "ends in .toml"), ("none.toml", "No such file"), ("a.toml", "cannot be read")):
        with refused(f"config '{name}'.*{said}"):
            read(tmp_path / name)
    with refused("--save-config 'a.ini'"):
        write(request_of({}), tmp_path / "a.ini")


def test_a_file_of_other_origin_is_not_replaced_by_a_request(tmp_path):
    (tmp_path / "pyproject.toml").write_text(text := "[project]\nname = 'mine'\n")
    with refused("--save-config 'pyproject.toml' is there and is no request: choose another name"):
        write(request_of({}), tmp_path / "pyproject.toml")
    assert (tmp_path / "pyproject.toml").read_text() == text
    for seed in (1, 2):
        write(request_of({"seed": seed}), tmp_path / "request.toml")
    assert read(tmp_path / "request.toml") == {"seed": 2}


@pytest.mark.parametrize("name", ["model", "data", "test", "reference", "classes", "forget_list"])
def test_a_file_that_is_not_there_is_said(name):
    with refused(f"{name} 'none.txt' does not exist: give"):
        request_of({name: "none.txt"}).arguments()


def test_a_name_that_no_folder_has_is_refused_without_torch(tmp_path):
    for name in ("train/ape/big", "train/bee", "test/ape"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.png").touch()
    for name, said in (("aep", "did you mean 'ape'"), ("ape/bgi", "does not exist; choose from: ape, b")):
        with refused(f"forget: in '{tmp_path.name}' the class.*{said}"):
            request_of({"data": str(tmp_path), "forget": name}).arguments()
    (names := tmp_path / "names.txt").write_text("a b")  # a reader of its own may know other names
    for good in ("bee", "ape/big", ["ape", "bee "], [3], ["bee/1.png"], str(names)):
        assert request_of({"data": str(tmp_path), "forget": good}).arguments()["forget"] == good
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with refused("data 'empty' holds no folder of a class: put"):
        request_of({"data": str(tmp_path / "empty"), "forget": "ape"}).arguments()
    assert request_of({"data": str(tmp_path), "forget": "b", "classes": str(names)}).arguments()


def test_names_that_are_read_from_source_are_those_that_are_registered():
    assert method_names() == {name: about.reference for name, about in METHODS.items()}
    assert sorted(registered("torchvision", "models")) == sorted(models.list_models(module=models))
    for good in ("resnet18", "vit-tiny", "convnext_tiny", "hf:anything", "own_model:network"):
        check_arch(good)
    with refused("arch 'net.py' is a file: name the function that builds the network, net.py:NAME"):
        check_arch("net.py")
    with refused("arch 'resnet19' does not exist; did you mean 'resnet18'"):
        check_arch("resnet19")


def test_timms_names_are_read_from_source(monkeypatch):
    timm = pytest.importorskip("timm")
    assert sorted(registered("timm", "models")) == sorted(timm.list_models())
    for there in (True, False):
        if not there:
            monkeypatch.delitem(sys.modules, "timm")
        for good in ("resnet10t", "resnet10t.c3_in1k", "vit_tiny_patch16_224_in21k"):
            check_arch(f"timm:{good}")
        with refused("timm has no model 'resnet10'; did you mean 'resnet10t'"):
            check_arch("timm:resnet10")


EARLY = [  # options -> what is said, before torch is imported
    ({"model": "none"}, "does not exist"), ({"data": "none"}, "does not exist"), ({"forget": "aep"}, "mean 'ape'"),
    ({"config": "none.toml"}, "No such file"), ({"classes": "none"}, "does not exist"), ({"set": "recipe.lr"}, "'='"),
    ({"out": None}, "no out given"), ({"log": "wandbb"}, "mean 'wandb'"), ({"reference": "none"}, "does not exist"),
    ({"seed": "-1"}, "--seed"), ({"guide": "composd"}, "mean 'composed'"), ({"method": "megoo"}, "mean 'megu'"),
    ({"method": "retrain"}, "compared with"), ({"arch": "resnet19"}, "mean 'resnet18'"), ({"size": "1"}, "equal to 2"),
    ({"arch": "timm:resnet10"}, "resnet10t"), ({"arch": "none.py:net"}, "no file 'none.py'"),
    ({"normalise": "imagnet"}, "choose from"), ({"normalise": "0.5"}, "choose from"),
    ({"normalise": "125,123,114; 58,57,57"}, "choose from"), ({"normalise": "0.5; 0"}, "choose from"),
    ({"duplicates": "kepe"}, "'forget' or 'keep'"), ({"command": "compare", "set": "recipe.lr=1"}, "is of one method"),
    ({"command": "compare", "forget": "aep"}, "mean 'ape'"), ({"model": "model.pth"}, "a pickle can run code"),
    ({"reference": "model.pth"}, "a pickle can run code"), ({"out": "model.pth/out"}, "cannot be written"),
    ({"out": "photos/out"}, "whose folders are classes"), ({"command": "compare", "out": "old"}, "of an unlearning"),
    ({"guide": "mllm"}, "mllm needs guide.model"), ({"guide": "clip"}, "clip needs guide.model"),
    ({"guide": "served"}, "served needs guide.model"), ({"classes": "one.txt"}, "at least two"),
    ({"data": "images.csv"}, "image 1: 'gone.png' is no file"), ({"test": "images.csv"}, "'gone.png' is no"),
    ({"arch": "broken.py:net"}, "broken.py, line 2 cannot be read as Python"), ({"arch": "net.py:nte"}, "mean 'net'"),
    ({"variable": {"WORLD_SIZE": "2"}}, "one of 2 processes"), ({"flag": "--onnx"}, "pip install 'megu[onnx]'"),
    ({"set": "guide.exemplars=0"}, "guide.exemplars"),
]  # fmt: skip


@pytest.mark.slow
def test_the_command_refuses_common_mistakes_before_torch_is_imported(tmp_path):
    (tmp_path / "photos" / "ape").mkdir(parents=True)
    header = b"{}"
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (tmp_path / "old" / "work").mkdir(parents=True)
    (tmp_path / "model.pth").write_bytes(b"PK\x03\x04")
    (tmp_path / "one.txt").write_text("ape")
    (tmp_path / "images.csv").write_text("path,label\ngone.png,ape")
    (tmp_path / "broken.py").write_text("import torch\ndef net(:\n")
    (tmp_path / "net.py").write_text("def net(): pass\nraise SystemExit('it was run')")
    good = {"model": "model.safetensors", "arch": "resnet18", "data": "photos", "forget": "ape", "out": "out"}
    code = f"""
import contextlib, io, os, sys
sys.modules["onnxruntime"] = None
from megu.cli.main import main
for one, words in {EARLY}:
    given = {good} | one
    command, flag, variable = given.pop("command", "unlearn"), given.pop("flag", None), given.pop("variable", {{}})
    options = [word for k, v in given.items() if v for word in ("--" + k.replace("_", "-"), v)]
    sys.argv = ["megu", command, *options, *filter(None, [flag])]
    os.environ.update(variable)
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            main()
    except SystemExit as end:
        assert end.code == 2 and "torch" not in sys.modules and words in said.getvalue(), (one, said.getvalue())
    else:
        raise AssertionError(one)
    for name in variable:
        del os.environ[name]
"""
    how = {"capture_output": True, "text": True, "cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    said = subprocess.run([sys.executable, "-c", code], **how)
    assert said.returncode == 0, said.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", [
    "def net(): pass", "net = print", "from os import *", "from os import path as net", "class net: pass",
    "def __getattr__(name): return print", "globals()['ne' + 't'] = print",
])  # fmt: skip
def test_a_file_that_may_have_the_function_is_left_to_python(text, tmp_path):
    (file := tmp_path / "own.py").write_text(text)
    check_arch(f"{file}:net")
    with refused("arch: in empty.py the function 'net' does not exist; there is none"):
        (tmp_path / "empty.py").touch()
        check_arch(f"{tmp_path / 'empty.py'}:net")
