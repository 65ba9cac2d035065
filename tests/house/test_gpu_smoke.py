"""The check of a GPU, on tiny shapes: every part measures something, and what is wrong ends with exit code 1."""

import json
import runpy
import sys

import pytest
import torch
from conftest import ROOT

from megu import noise_pair as noise
from megu.core import models
from megu.runs import experiment

SCRIPT = ROOT / "env" / "gpu_smoke.py"
ARCHS = ("resnet-small", "vit-tiny")


@pytest.fixture
def smoke(monkeypatch, tmp_path):
    """A function that runs the script on the CPU, with what it raises; it gives what was written."""
    monkeypatch.syspath_prepend(SCRIPT.parent)

    def run(raises=SystemExit, words=("--cpu", "--out", str(tmp_path))):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
        with pytest.raises(raises) as caught:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return caught.value, json.loads((tmp_path / "gpu_smoke.json").read_text()) if words else None

    return run


@pytest.mark.slow
def test_every_part_is_measured_and_a_device_that_does_not_repeat_itself_is_found(smoke, monkeypatch, capsys):
    right, calls = noise.optimise_noise, []

    def wrong(*arguments, **more):
        calls.append(1)  # the noise of a run is right, that of the check another one each time
        return right(*arguments, **more) + 1e-7 * len(calls)

    monkeypatch.setattr(noise, "optimise_noise", wrong)
    end, found = smoke()
    assert end.code == 1 and found["device"] == "CPU" and found["torch"] == torch.__version__
    lines = found["lines"]
    assert {line["part"] for line in lines} == {"training", "memory", "evaluation", "repeated", "unlearning"}
    bad = [line["what"] for line in lines if line["wrong"]]
    assert bad == [f"{arch}: deterministic, same bits twice" for arch in ARCHS]
    assert "not as expected: resnet-small: deterministic" in capsys.readouterr().out
    speeds = [line["value"] for line in lines if line["unit"].startswith("images/s")]
    assert len(speeds) == 8 and all(speed > 0 for speed in speeds)
    assert {line["what"]: line["value"] for line in lines}["perturbing labels of one original, equal"] == 100


@pytest.mark.slow
def test_a_variant_or_a_part_that_fails_is_a_line_and_the_others_are_measured(smoke, monkeypatch):
    def fails(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    build = models.build

    class NoBfloat16(torch.nn.Module):
        """A network that a compiler, or a device, cannot run in bfloat16."""

        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return fails() if torch.is_autocast_enabled("cpu") else self.net(x)

    monkeypatch.setattr(experiment, "Experiment", fails)
    monkeypatch.setattr(models, "build", lambda *a, **k: NoBfloat16(build(*a, **k)))
    end, found = smoke()
    failed = {(line["part"], line["what"]): line for line in found["lines"] if line["value"] == "failed"}
    each = {(part, f"{arch}{what}") for arch in ARCHS for part, what in (("training", ": bfloat16"), ("repeated", ""))}
    assert end.code == 1 and set(failed) == each | {("unlearning", "MeGU")}
    assert failed["training", "vit-tiny: bfloat16"]["expected"] == "no OutOfMemoryError (CUDA out of memory.)"
    assert all(line["wrong"] for line in failed.values())
    measured = {line["what"] for line in found["lines"] if line["value"] != "failed"}
    assert {f"{arch}: {what}" for arch in ARCHS for what in ("float32", "TF32")} <= measured


def test_the_file_is_written_where_it_is_interrupted(smoke, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(noise, "optimise_noise", interrupted)
    assert smoke(KeyboardInterrupt)[1]["lines"]


@pytest.mark.parametrize(
    ("capability", "far", "ok"),
    [((7, 5), 0.0, True), ((7, 5), 0.01, False), ((8, 0), 0.01, True), ((8, 0), 0.0, False), ((8, 0), 0.1, False)],
)
def test_tf32_is_expected_where_there_is_any(monkeypatch, capability, far, ok):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    smoke = runpy.run_path(str(SCRIPT))
    part, logits, index = smoke["evaluation"], torch.tensor([[0.0, 2.0]]), smoke["torch"].arange
    said = iter([logits, logits + far * logits.std()])
    fakes = {"computing": lambda *_, **__: None, "rate": lambda *_: 1.0, "new": lambda *_: torch.nn.Identity()}
    part.__globals__.update(fakes, predict=lambda *_: next(said))
    monkeypatch.setattr(torch, "arange", lambda n, device: index(n))
    report = smoke["Report"]("evaluation")
    part(report, None, "resnet18", smoke["TINY"], torch.device("cuda"))
    assert report.lines[-1]["ok"] is ok


def test_without_a_gpu_it_says_so(smoke, capsys):
    assert smoke(words=())[0].code == 2
    said = capsys.readouterr()
    assert said.err.startswith("gpu-smoke needs a GPU") and said.err.count("\n") == 1 and not said.out
