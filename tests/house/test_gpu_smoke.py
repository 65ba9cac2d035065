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


def run(monkeypatch, *arguments):
    """Exit code of the script."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    monkeypatch.syspath_prepend(SCRIPT.parent)
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return caught.value.code


@pytest.mark.slow
def test_every_part_is_measured_and_a_device_that_does_not_repeat_itself_is_found(monkeypatch, tmp_path, capsys):
    right = noise.optimise_noise
    calls = []

    def wrong(*arguments, **more):
        calls.append(1)  # the noise of a run is right, that of the check another one each time
        return right(*arguments, **more) + 1e-7 * len(calls)

    monkeypatch.setattr(noise, "optimise_noise", wrong)
    assert run(monkeypatch, "--cpu", "--out", tmp_path) == 1
    found = json.loads((tmp_path / "gpu_smoke.json").read_text())
    assert found["device"] == "CPU" and found["torch"] == torch.__version__
    parts = {
        part: [line for line in found["lines"] if line["part"] == part]
        for part in ("training", "memory", "evaluation", "repeated", "unlearning")
    }
    assert all(parts.values()) and sum(map(len, parts.values())) == len(found["lines"])
    bad = [line["what"] for line in found["lines"] if line["wrong"]]
    assert bad == [f"{arch}: deterministic, same bits twice" for arch in ("resnet-small", "vit-tiny")]
    assert "not as expected: resnet-small: deterministic" in capsys.readouterr().out
    speeds = [line["value"] for line in parts["training"] + parts["evaluation"] if line["unit"].startswith("images/s")]
    assert len(speeds) == 8 and all(speed > 0 for speed in speeds)
    assert {line["what"]: line["value"] for line in parts["unlearning"]}[
        "perturbing labels of one original, equal"
    ] == 100


@pytest.mark.slow
def test_a_variant_or_a_part_that_fails_is_a_line_and_the_others_are_measured(monkeypatch, tmp_path, capsys):
    def fails(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    build = models.build

    class NoBfloat16(torch.nn.Module):
        """A network that a compiler, or a device, cannot run in bfloat16."""

        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            if torch.is_autocast_enabled("cpu"):
                fails()
            return self.net(x)

    monkeypatch.setattr(experiment, "Experiment", fails)
    monkeypatch.setattr(models, "build", lambda *a, **k: NoBfloat16(build(*a, **k)))
    assert run(monkeypatch, "--cpu", "--out", tmp_path) == 1
    lines = json.loads((tmp_path / "gpu_smoke.json").read_text())["lines"]
    failed = {(line["part"], line["what"]): line for line in lines if line["value"] == "failed"}
    assert set(failed) == {
        (part, what)
        for arch in ("resnet-small", "vit-tiny")
        for part, what in (("training", f"{arch}: bfloat16"), ("repeated", arch))
    } | {("unlearning", "MeGU")}
    assert failed["training", "vit-tiny: bfloat16"]["expected"] == "no OutOfMemoryError (CUDA out of memory.)" and all(
        line["wrong"] for line in failed.values()
    )
    measured = {line["what"] for line in lines if line["value"] != "failed"}
    assert {f"{arch}: {what}" for arch in ("resnet-small", "vit-tiny") for what in ("float32", "TF32")} <= measured


def test_the_file_is_written_where_it_is_interrupted(monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(noise, "optimise_noise", interrupted)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--cpu", "--out", str(tmp_path)])
    monkeypatch.syspath_prepend(SCRIPT.parent)
    with pytest.raises(KeyboardInterrupt):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert json.loads((tmp_path / "gpu_smoke.json").read_text())["lines"]


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


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    assert run(monkeypatch) == 2
    said = capsys.readouterr()
    assert said.err.startswith("gpu-smoke needs a GPU") and said.err.count("\n") == 1 and not said.out
