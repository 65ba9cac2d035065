"""A thousand wrong requests and files: each refused before long work, in one line with value and remedy."""

import json
import struct
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from bad import NAMES, SEEN, Stream, ask, folder, images, linear, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import nn
from torch.utils.data import TensorDataset as Pairs

from megu.cli import main as command
from megu.core.architectures import read_model
from megu.datasets import npz, sources
from megu.datasets.folder import read_image
from megu.own import unlearn as unlearning
from megu.own.guide_choice import choose_guide
from megu.settings.profiles import resolve

many = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
words = st.text(max_size=60).filter(lambda text: text.strip() not in NAMES)
X, Y = images()


def in_lines(values):
    return "\n".join(map(str, values)).encode()


@pytest.fixture(autouse=True)
def no_long_work(monkeypatch):
    monkeypatch.setattr(unlearning, "carry_out", lambda *_: pytest.fail("long work began"))


@pytest.fixture(autouse=True, scope="module")
def enough():
    yield
    assert SEEN["cases"] >= 1000, SEEN


def test_the_request_itself_would_be_good():
    with pytest.raises(pytest.fail.Exception, match="long work began"):
        ask()


@many
@given(words)
def test_names_that_are_no_class(name):
    refused(lambda: ask(name))


no_number = st.integers(max_value=-1) | st.floats() | st.booleans() | st.none()
no_position = no_number | st.integers(min_value=30) | st.just("ape")


@many
@given(st.lists(no_position, min_size=1, max_size=5))
def test_positions_that_are_none(positions):
    if set(map(str, positions)) == {"ape"}:
        positions.append(1)
    refused(lambda: ask(positions))


@many
@given(st.binary(min_size=1, max_size=80) | st.lists(words | st.integers(min_value=30), min_size=1).map(in_lines))
def test_files_of_positions(tmp_path, content):
    lines = content.decode("utf-8", "ignore").split()
    if any(line.isdigit() and int(line) < 30 for line in lines if len(line) < 19):
        content = b"\xff\xfe" + content  # some are good by chance
    path = tmp_path / "ids.txt"
    path.write_bytes(content)
    refused(lambda: ask(path), "ids.txt" if b"\xff" in content else "")


no_label = st.floats().filter(lambda v: v not in (0, 1, 2)) | st.integers(max_value=-1) | st.integers(min_value=3)


@many
@given(no_label | st.text() | st.none() | st.booleans())
def test_labels_out_of_range(label):
    refused(lambda: ask(data=[*zip(X, Y, strict=True), (X[0], label)]), "image 30")


@many
@given(st.lists(st.floats(min_value=-2, max_value=3, width=32), min_size=9, max_size=9))
def test_matrices_whose_columns_do_not_sum_to_1(values):
    matrix = np.array(values).reshape(3, 3)
    if np.allclose(matrix.sum(0), 1, atol=1e-4) and (matrix >= 0).all():
        matrix[0, 0] += 1
    refused(lambda: choose_guide(matrix, NAMES), "guide")


no_setting, value = st.text("abcdefghij._", min_size=1, max_size=20), st.none() | st.integers() | st.text(max_size=9)


@many
@given(st.dictionaries(no_setting, value, min_size=1, max_size=3))
def test_settings_that_do_not_exist(values):
    refused(lambda: ask(settings=values))


HEADER = json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
LEADS = b"", struct.pack("<Q", len(HEADER)) + HEADER[:-1] + b" ", struct.pack("<Q", 2**40) + b"{"


@many
@given(st.binary(max_size=200), st.sampled_from(LEADS))
def test_checkpoints_of_noise(tmp_path, content, lead):
    path = tmp_path / "model.safetensors"
    path.write_bytes(lead + content)
    refused(lambda: read_model(path, "resnet18", 3, (32, 32)), "model.safetensors")


@many
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\x00"]),
)
def test_images_of_noise(tmp_path, content, head):
    path = tmp_path / "broken.png"
    path.write_bytes(head + content)
    refused(lambda: read_image(path), f"{tmp_path.name}/broken.png")


def nan_at(tensor):
    tensor = tensor.clone()
    tensor.view(-1)[0] = torch.nan
    return tensor


InTuple = type("InTuple", (nn.Module,), {"forward": lambda self, x: (x.flatten(1)[:, :3],)})
NAN, HALVES = linear(nan_at(torch.eye(3, 16))), ["a", "b"] * 15
ALONE = {  # argument of `ask` -> (wrong value, what the message must name)
    "forget": [
        ([], "forget"), (None, "None"), (3, "3"), ("Ape", "did you mean 'ape'"), ("bea", "did you mean 'bee'"),
        ("../../etc/passwd", "../../etc/passwd"), ("а\u200bpe", "printed"),
        (list(NAMES), "all 3"), (["ape", 1], "ape"), ([1, 1], "1 twice"), (range(30), "30 training images"),
        (Path("none.txt"), "none.txt"),
    ],
    "classes": [
        (["ape"], "at least two"), (["ape", "ape", "cat"], "'ape' twice"), (["\u00e9", "e\u0301", "cat"], "twice"),
        (["ape", " ", "cat"], "empty"), (["ape", "b\x00e", "cat"], "printed"), (["ape", "b" * 500, "cat"], "200"),
        ([*NAMES, "dog"], "dog"), (NAMES[:2], "0 to 1"), (Path("none.txt"), "none.txt"), ("abc", "abc"),
    ],
    "data": [
        (Pairs(nan_at(X), Y), "image 0"), (Pairs(X / 0, Y), "NaN or infinite"), (Pairs(X.flatten(1), Y), "(16,)"),
        (Pairs(torch.rand(30, 1, 5, 5), Y), "(1, 5, 5)"), (Pairs((X * 9).long(), Y), "int64"),
        (Pairs(X[:0], Y[:0]), "empty"), (Pairs(X[Y < 2], Y[Y < 2]), "'cat'"), (Pairs(X), "pairs"),
        ("no/such/folder", "folder"), (3, "int"), ([*zip(X, Y, strict=True), (X[0, :, :3], 0)], "image 30"),
        ([("a", 0)] * 3, "image 0"), (iter([1]), "DataLoader"), ([(X[0], 0, 1)], "tuple of 3"),
        ((X, Y), "TensorDataset"), ([(X[0], torch.eye(3)[0])], "one-hot"), (Stream(), "a list has both"),
        ([(torch.rand(9, 4, 3), 0)], "channels last"), (type("Lazy", (), {"__getitem__": 0, "__len__": 0})(), "Lazy"),
    ],
    "model": [
        (NAN, "weight"), (linear(torch.full((3, 16), 3e38)), "logits"), (linear(torch.zeros(3, 16)), "normalise"),
        ("resnet", "str"), (nn.Flatten(), "no weights"), (InTuple(), "no weights"),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 5)), "(8, 5)"), (Path("model.safetensors"), "Dataset"),
        ("~/m.safetensors", "Dataset"), (nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "run lazy layers once"),
        (linear().to("meta"), "load its weights"), (nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), "of one z"),
    ],
    "reference": [(NAN, "reference"), (linear().append(nn.Linear(3, 5)), "reference"), (linear(), "model itself")],
    "test": [(Pairs(X[..., :3], Y), "one size"), (Pairs(nan_at(X), Y), "test"), ("nowhere", "nowhere")],
    "trained_on": [(10, "10"), ("many", "many")], "retain_images": [(0, "retain_images")], "retrain": [("no", "True")],
    "size": [(0, "size"), (10**9, "size"), ("big", "big"), (8, "size")], "seed": [(-1, "-1"), ("x", "x")],
    "normalise": [("imagnet", "imagnet"), (((0.5,), (0.0,)), "std"), (((1, 2, 3), "x"), "x"), ((123, 58), "123")],
    "method": [("mgeu", "did you mean 'megu'"), ("retrain", "is what unlearning is compared with")],
    "guide": [
        ("composd", "did you mean 'composed'"), ("oracle", "oracle"), (np.eye(4), "(4, 4)"), ("none.csv", "none.csv"),
        (object(), "object"), ([[1], [2, 3]], "list"), (np.full((3, 3), np.nan), "no numbers"),
        (np.array([[2, 0, 0], [-1, 1, 0], [0, 0, 1]]), "negative"), (np.eye(3) * 0.9, "sums to 0.9"),
        (pd.DataFrame(np.eye(3)), "called as the classes"),
    ],
    "settings": [
        ([1], "[1]"), ({"device": "tpu"}, "tpu"), ({"recipe.lr": -1}, "-1"), ({"recipe.epochs": 0}, "recipe.epochs"),
        ({"recipe.lrr": 1}, "recipe.lrr"), ({"labels.tau": 2}, "labels.tau"), ({"guide.source": "names"}, "by guide="),
        ({"guide": {"source": "names"}}, "by guide="), ({"normalise": "unit"}, "--normalise"), ({1: 2}, "1"),
        ({"epochs": 3}, "recipe.epochs"),
    ],
    "subclasses": [(["a"], "1 names for 30")],
}  # fmt: skip
WRONG = [({name: value}, named) for name, values in ALONE.items() for value, named in values] + [
    ({"data": 3, "classes": None}, "int"), ({"method": "projection", "forget": [1, 2]}, "single images"),
    ({"subclasses": HALVES, "forget": "c"}, "'c'"),
    ({"subclasses": HALVES, "forget": ["a", "ape"]}, "classes and sub-classes"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "named"), WRONG)
def test_hand_made(arguments, named, tmp_path):
    refused(lambda: ask(**{**arguments, "out": tmp_path / "out"}), named)
    assert not (tmp_path / "out").exists()


def test_hostile_checkpoints(tmp_path):
    planted, model = tmp_path / "planted", tmp_path / "model.safetensors"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (planted,))

    def refuse(content, *parts, arch="resnet18"):
        model.write_bytes(content)
        refused(lambda: read_model(model, arch, 3, (32, 32)), *parts)

    torch.save({"weight": Payload()}, tmp_path / "model.pt")
    refused(lambda: read_model(tmp_path / "model.pt", "resnet18", 3, (32, 32)), "pickle can run code", "model.pt")
    refused(lambda: read_model(tmp_path / "none.safetensors", "resnet18", 3, (32, 32)), "does not exist")
    refuse((tmp_path / "model.pt").read_bytes(), "pickle can run code")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("../../escaped", b"\0" * 10_000_000)
    refuse((tmp_path / "bomb.zip").read_bytes(), "not a safetensors file")
    good = save(linear().state_dict())
    refuse(good[:-10], "damaged")
    refuse(good, "no resnet18 with 3 classes", "missing")
    refuse(good, "'resnet18'", arch="resnet81")
    refuse(good, "os:no_such_thing", arch="os:no_such_thing")
    assert not planted.exists() and not (tmp_path.parent.parent / "escaped").exists()


def test_a_zip_bomb_is_measured_before_it_is_opened(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("../../x_train.npy", b"\0" * 30_000_000)
    monkeypatch.setattr(npz.psutil, "virtual_memory", lambda: SimpleNamespace(available=20_000_000))
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was opened"))
    refused(lambda: sources.load(resolve(overrides={"data.name": "npz", "data.path": str(path)})), "bomb.npz")
    refused(lambda: npz.fits_memory(30_000_000, "give a sample"), "0.0 GB of images", "give a sample")


@pytest.mark.parametrize("words", [
    "--forget aep", "", "--forget ape --forget-list x", "--forget ape --set recipe.lr", "--forget ape --guide m.csv",
    "--forget ape --classes none.txt", "--forget ape --method retrain", "--forget ape --arch resnet81",
])  # fmt: skip
def test_the_command_says_it_in_one_line_and_exits_with_2(tmp_path, monkeypatch, capsys, words):
    root, out = folder(tmp_path), tmp_path / "out"
    save_file(linear().state_dict(), tmp_path / "model.safetensors")
    base = f"megu unlearn --arch resnet18 --model {tmp_path}/model.safetensors --data {root} --out {out}"
    monkeypatch.setattr(sys, "argv", [*base.split(), *words.split()])
    with pytest.raises(SystemExit) as end:
        command.main()
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.startswith("megu: ") and said.count("\n") == 1 and not out.exists()
