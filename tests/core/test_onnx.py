"""A classifier as ONNX: the same logits, or no file."""

import sys

import pytest
import torch
from own_model import network
from refusals import refused
from torch import nn

from megu.core import onnx
from megu.settings.errors import MeguError

SHAPE = (1, 28, 28)


@pytest.fixture
def exporter(monkeypatch):
    """A stand-in for exporter and runtime: the file holds nothing, the session answers as ``made.answer`` does."""

    class Made:
        def __init__(self):
            self.answer = None

        def InferenceSession(self, path, providers):  # noqa: N802  (its name)
            self.found = path.exists()
            return self

        def run(self, names, feeds):
            return [self.answer(torch.from_numpy(feeds["images"])).detach().numpy()]

    made = Made()
    monkeypatch.setattr(onnx, "runtime", lambda: made)
    monkeypatch.setattr(onnx, "_export", lambda model, x, path: path.write_bytes(b"onnx"))
    return made


@pytest.mark.parametrize("off", [0.0, 5e-5, 1e-3, float("nan")])
def test_a_file_stays_only_where_its_logits_are_the_models(off, exporter, tmp_path):
    model, path = network().eval(), tmp_path / "model.onnx"
    exporter.answer = lambda x: model(x) + off
    if off < 1e-4:
        assert onnx.write_onnx(model, SHAPE, path) == pytest.approx(off, abs=1e-5) and exporter.found
    else:
        with refused("as ONNX gives logits that differ by"):
            onnx.write_onnx(model, SHAPE, path)
    assert [one.name for one in tmp_path.iterdir()] == ["model.onnx"] * (off < 1e-4)


class Several(nn.Module):
    """Gives what it saw beside the logits."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x):
        hidden = self.net[:-1](x)
        return {"hidden": hidden, "out": self.net[-1](hidden)}


def test_of_a_model_that_gives_more_than_logits_these_are_written(exporter, tmp_path):
    model = Several().eval()
    exporter.answer = lambda x: model(x)["out"]
    assert onnx.write_onnx(model, SHAPE, tmp_path / "model.onnx", 10) < 1e-5
    with refused("Several gives 2 outputs for 3 images"):
        onnx.write_onnx(model, SHAPE, tmp_path / "other.onnx")


def test_what_cannot_be_exported_is_said_in_one_line(exporter, tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("\nno such operator\nand more")

    monkeypatch.setattr(onnx, "_export", fails)
    with refused(r"Sequential cannot be written as ONNX \(RuntimeError: no such operator\)"):
        onnx.write_onnx(network().eval(), SHAPE, tmp_path / "model.onnx")


def test_without_the_extra_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with refused(r"onnxruntime is not installed: `pip install 'megu\[onnx\]'`", MeguError):
        onnx.write_onnx(network(), SHAPE, tmp_path / "model.onnx")


@pytest.mark.slow
def test_the_real_exporter_and_runtime(tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    model = nn.Sequential(network(), nn.Softmax(1)).eval()
    assert onnx.write_onnx(model, SHAPE, tmp_path / "model.onnx") <= 1e-4
    assert [one.name for one in tmp_path.iterdir()] == ["model.onnx"]
