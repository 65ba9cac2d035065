"""Wrong requests and files made by hand: each refused before long work, in one line, with nothing written."""

import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bad import NAMES, ask, folder, images, linear, refused
from safetensors.torch import save, save_file
from torch import nn
from torch.utils.data import TensorDataset

from megu.cli import main as command
from megu.core.loading import read_model
from megu.datasets import npz, sources
from megu.guide import Answer, AnswerStore
from megu.own import unlearn as unlearning
from megu.own.report import read
from megu.settings.profiles import resolve


@pytest.fixture(autouse=True)
def no_long_work(monkeypatch):
    monkeypatch.setattr(unlearning, "carry_out", lambda *_: pytest.fail("long work began"))


def nan_at(tensor):
    tensor = tensor.clone()
    tensor.view(-1)[0] = torch.nan
    return tensor


X, Y = images()
WRONG = {  # what is wrong -> (arguments of `ask`, what the message must name)
    "no class": ({"forget": []}, "forget"),
    "nothing": ({"forget": None}, "None"),
    "a number": ({"forget": 3}, "3"),
    "all classes": ({"forget": list(NAMES)}, "all 3"),
    "all images": ({"forget": range(30)}, "30 of 30"),
    "twice": ({"forget": [1, 1]}, "1 twice"),
    "mixed": ({"forget": ["ape", 1]}, "ape"),
    "misspelt": ({"forget": "bea"}, "did you mean 'bee'"),
    "path-like": ({"forget": "../../etc/passwd"}, "../../etc/passwd"),
    "no file": ({"forget": Path("none.txt")}, "none.txt"),
    "unicode": ({"forget": "а\u200bpe"}, "printed"),
    "upper case": ({"forget": "Ape"}, "did you mean 'ape'"),
    "one class": ({"classes": ["ape"]}, "at least two"),
    "duplicates": ({"classes": ["ape", "ape", "cat"]}, "'ape' twice"),
    "duplicates by accents": ({"classes": ["\u00e9", "e\u0301", "cat"]}, "twice"),
    "a name of nothing": ({"classes": ["ape", " ", "cat"]}, "empty"),
    "a name that cannot be printed": ({"classes": ["ape", "b\x00e", "cat"]}, "printed"),
    "a long name": ({"classes": ["ape", "b" * 500, "cat"]}, "200"),
    "more classes than outputs": ({"classes": [*NAMES, "dog"]}, "dog"),
    "fewer": ({"classes": NAMES[:2]}, "0 to 1"),
    "NaN in an image": ({"data": TensorDataset(nan_at(X), Y)}, "image 0"),
    "infinite": ({"data": TensorDataset(X / 0, Y)}, "NaN or infinite"),
    "NaN in a weight": ({"model": linear(nan_at(torch.eye(3, 16)))}, "weight"),
    "huge weights": ({"model": linear(torch.full((3, 16), 3e38))}, "logits"),
    "an untrained model": ({"model": linear(torch.zeros(3, 16))}, "normalise"),
    "no model": ({"model": "resnet"}, "str"),
    "no weights": ({"model": nn.Flatten()}, "(2, 16)"),
    "a tuple of logits": (
        {"model": type("T", (nn.Module,), {"forward": lambda self, x: (x.flatten(1)[:, :3],)})()},
        "tuple",
    ),
    "wrong size": ({"data": TensorDataset(torch.rand(30, 1, 5, 5), Y)}, "(1, 5, 5)"),
    "flat images": ({"data": TensorDataset(X.flatten(1), Y)}, "(16,)"),
    "integers": ({"data": TensorDataset((X * 9).long(), Y)}, "int64"),
    "no labels": ({"data": TensorDataset(X)}, "pairs"),
    "empty": ({"data": TensorDataset(X[:0], Y[:0])}, "empty"),
    "an iterator": ({"data": iter([1])}, "DataLoader"),
    "no folder": ({"data": "no/such/folder"}, "folder"),
    "numbers": ({"data": 3}, "int"),
    "one class without images": ({"data": TensorDataset(X[Y < 2], Y[Y < 2])}, "'cat'"),
    "other test images": ({"test": TensorDataset(X[..., :3], Y)}, "one size"),
    "no test folder": ({"test": "nowhere"}, "nowhere"),
    "NaN in a test image": ({"test": TensorDataset(nan_at(X), Y)}, "test"),
    "two sizes": ({"data": [*zip(X, Y, strict=True), (X[0, :, :3], 0)]}, "image 30"),
    "strings": ({"data": [("a", 0)] * 3}, "image 0"),
    "fewer trained on": ({"trained_on": 10}, "10"),
    "trained on text": ({"trained_on": "many"}, "many"),
    "no retain": ({"retain_images": 0}, "retain_images"),
    "normalise": ({"normalise": "imagnet"}, "imagnet"),
    "no std": ({"normalise": ((0.5,), (0.0,))}, "std"),
    "three channels": ({"normalise": ((1, 2, 3), "x")}, "normalise"),
    "size": ({"size": 0}, "size"),
    "large size": ({"size": 10**9}, "size"),
    "size text": ({"size": "big"}, "big"),
    "method": ({"method": "mgeu"}, "did you mean"),
    "reference method": ({"method": "retrain"}, "retrain"),
    "guide": ({"guide": "oracle"}, "oracle"),
    "guide of another size": ({"guide": np.eye(4)}, "(4, 4)"),
    "guide file": ({"guide": "none.csv"}, "none.csv"),
    "guide object": ({"guide": object()}, "object"),
    "NaN in a matrix": ({"guide": np.full((3, 3), np.nan)}, "no numbers"),
    "negative": ({"guide": np.array([[2, 0, 0], [-1, 1, 0], [0, 0, 1]])}, "negative"),
    "seed": ({"seed": -1}, "-1"),
    "seed text": ({"seed": "x"}, "x"),
    "device": ({"settings": {"device": "tpu"}}, "tpu"),
    "rate": ({"settings": {"recipe.lr": -1}}, "-1"),
    "settings list": ({"settings": [1]}, "[1]"),
    "epochs": ({"settings": {"recipe.epochs": 0}}, "recipe.epochs"),
    "tau": ({"settings": {"labels.tau": 2}}, "labels.tau"),
    "sub-classes": ({"subclasses": ["a"]}, "1 names for 30"),
    "unknown sub-class": ({"subclasses": ["a", "b"] * 15, "forget": "c"}, "'c'"),
    "unsupported": ({"method": "projection", "forget": [1, 2]}, "random"),
    "NaN reference": ({"reference": linear(nan_at(torch.eye(3, 16)))}, "reference"),
    "other reference": ({"reference": nn.Sequential(nn.Flatten(), nn.Linear(16, 5))}, "reference"),
}


@pytest.mark.parametrize("what", WRONG)
def test_hand_made(what, tmp_path):
    arguments, named = WRONG[what]
    refused(lambda: ask(**{**arguments, "out": tmp_path / "out"}), named)
    assert not (tmp_path / "out").exists()


def weights(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    return path


def test_hostile_checkpoints(tmp_path):
    planted = tmp_path / "planted"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (planted,))

    def refuse(content, *parts, arch="resnet18"):
        refused(lambda: read_model(weights(tmp_path, content), arch, 3, (32, 32)), *parts)

    torch.save({"weight": Payload()}, tmp_path / "model.pt")
    refused(lambda: read_model(tmp_path / "model.pt", "resnet18", 3, (32, 32)), "pickle can run code", "model.pt")
    refuse((tmp_path / "model.pt").read_bytes(), "pickle can run code")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("../../escaped", b"\0" * 10_000_000)
    refuse((tmp_path / "bomb.zip").read_bytes(), "not a safetensors file")
    good = save(linear().state_dict())
    refuse(good[:-10], "damaged")
    refused(lambda: read_model(tmp_path / "none.safetensors", "resnet18", 3, (32, 32)), "does not exist")
    refuse(good, "no resnet18 with 3 classes", "missing")
    refuse(good, "'resnet18'", arch="resnet81")
    refuse(good, "os:no_such_thing", arch="os:no_such_thing")
    assert not planted.exists() and not (tmp_path.parent.parent / "escaped").exists()


def test_a_zip_bomb_is_measured_before_it_is_opened(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("../../x_train.npy", b"\0" * 30_000_000)
    monkeypatch.setattr(npz.psutil, "virtual_memory", lambda: SimpleNamespace(available=20_000_000))
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was opened"))
    refused(
        lambda: sources.load(resolve(overrides={"data.name": "npz", "data.path": str(tmp_path / "bomb.npz")})),
        "bomb.npz",
    )
    refused(lambda: npz.fits_memory(1000, 30_000, "give a sample"), "0.0 GB of images", "give a sample")


def test_answers_edited_by_hand_are_asked_again(tmp_path, caplog):
    AnswerStore(tmp_path / "answers.jsonl").add(
        [Answer("q", "i", "ape", "s", "v", 0.5), Answer("r", "i", "bee", "s", "v", 0.25)]
    )
    text = (tmp_path / "answers.jsonl").read_text()
    (tmp_path / "answers.jsonl").write_text(text.replace('"raw": 0.5', '"raw": 0.9'))
    store = AnswerStore(tmp_path / "answers.jsonl")
    assert store.damaged == 1 and set(store.answers) == {"r"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"report": "other"}', "\x00"])
def test_reports_that_are_none(tmp_path, content):
    (tmp_path / "report.json").write_text(content)
    refused(lambda: read(tmp_path), "report.json")


@pytest.mark.parametrize("arguments", [
    ["--forget", "aep"], [], ["--forget", "ape", "--forget-list", "x"], ["--forget", "ape", "--set", "recipe.lr"], ["--forget", "ape", "--guide", "m.csv"],
    ["--forget", "ape", "--classes", "none.txt"], ["--forget", "ape", "--method", "retrain"], ["--forget", "ape", "--arch", "resnet81"],
])  # fmt: skip
def test_the_command_says_it_in_one_line_and_exits_with_2(tmp_path, monkeypatch, capsys, arguments):
    root = folder(tmp_path)
    save_file(linear().state_dict(), tmp_path / "model.safetensors")
    base = ["--model", str(tmp_path / "model.safetensors"), "--data", str(root), "--out", str(tmp_path / "out")]
    base += [] if "--arch" in arguments else ["--arch", "resnet18"]
    monkeypatch.setattr(sys, "argv", ["megu", "unlearn", *base, *arguments])
    with pytest.raises(SystemExit) as end:
        command.main()
    said = capsys.readouterr().err
    assert (
        end.value.code == 2 and said.startswith("megu: ") and said.count("\n") == 1 and not (tmp_path / "out").exists()
    )
