"""The check of a GPU, on tiny shapes: every part measures something, and what is wrong ends with exit code 1."""

import json
import runpy
import sys

import pytest
import torch
from conftest import ROOT

SCRIPT = ROOT / "tests" / "bench" / "gpu_smoke.py"


def run(monkeypatch, *arguments):
    """Exit code of the script."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    monkeypatch.syspath_prepend(SCRIPT.parent)
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return caught.value.code


def test_every_part_is_measured_and_a_device_that_does_not_repeat_itself_is_found(monkeypatch, tmp_path, capsys):
    from megu import noise  # noqa: PLC0415

    right = noise.optimise_noise
    calls = []

    def wrong(*arguments, **more):
        calls.append(1)  # the noise of a run is right, that of the check another one each time
        return right(*arguments, **more) + 1e-7 * len(calls)

    monkeypatch.setattr(noise, "optimise_noise", wrong)
    assert run(monkeypatch, "--cpu", "--out", tmp_path / "found.json") == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["device"] == "CPU" and found["torch"] == torch.__version__
    parts = {part: [line for line in found["lines"] if line["part"] == part] for part in ("training", "memory", "evaluation", "repeated", "unlearning")}
    assert all(parts.values()) and sum(map(len, parts.values())) == len(found["lines"])
    bad = [line["what"] for line in found["lines"] if line["wrong"]]
    assert bad == [f"{arch}: deterministic, same bits twice" for arch in ("resnet-small", "vit-tiny")]
    assert "not as expected: resnet-small: deterministic" in capsys.readouterr().out
    speeds = [line["value"] for line in parts["training"] + parts["evaluation"] if line["unit"].startswith("images/s")]
    assert len(speeds) == 8 and all(speed > 0 for speed in speeds)
    assert {line["what"]: line["value"] for line in parts["unlearning"]}["perturbing labels of one original, equal"] == 100


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    assert run(monkeypatch) == 2
    said = capsys.readouterr()
    assert said.err.startswith("gpu-smoke needs a GPU") and said.err.count("\n") == 1 and not said.out
