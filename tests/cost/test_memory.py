"""Which memory is measured: that of the run's device, and on a GPU that of one piece."""

import pytest
import torch

from megu.core import device
from megu.cost.memory import peak_memory
from megu.runs.experiment import Experiment

GPU = torch.device("cuda:1")


@pytest.fixture
def cuda(monkeypatch):
    """A machine with a GPU, of which nothing but the memory's counters is there: they rise by 7 MB whenever they are
    read."""
    asked, held = [], [0]

    def read(name, where):
        asked.append((name, where))
        held[0] += 7_000_000
        return held[0]

    def reset(where):
        asked.append(("reset", where))
        held[0] = 0

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    for name in ("memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda where, name=name: read(name, where))
    return asked


def test_a_peak_is_of_the_device_and_of_the_piece(cuda):
    device.fresh_peak(GPU)
    assert [device.peak_memory_mb(GPU), device.peak_memory_mb(GPU)] == [7, 14]
    device.fresh_peak(GPU)
    assert device.peak_memory_mb(GPU) == 7 and {where for _, where in cuda} == {GPU}


def test_of_a_run_on_the_cpu_it_is_that_of_the_process_where_there_is_a_gpu_too(cuda):
    cpu = torch.device("cpu")
    device.fresh_peak(cpu)
    assert device.peak_memory_mb(cpu) > 50 and not cuda  # torch alone takes more
    with peak_memory() as peak:
        kept = [torch.ones(10_000_000) for _ in range(6)]
    assert not cuda and len(kept) == 6 and peak.process > 120
    with peak_memory(GPU) as peak:
        pass
    assert peak.process == 7 and {where for _, where in cuda} == {GPU}


def test_every_piece_of_a_run_starts_to_count_anew(tiny_overrides, tmp_path, monkeypatch):
    """What a method needs is not what its original, made on the way, needed."""
    lab, told = (
        Experiment(run_dir=tmp_path / "run", overrides={**tiny_overrides, "training.epochs": 1, "autocast": "off"}),
        [],
    )
    monkeypatch.setattr(device, "fresh_peak", lambda where: told.append("fresh"))
    monkeypatch.setattr(device, "peak_memory_mb", lambda where: told.append(where.type) or len(told))
    lab.unlearned("finetune", 0)
    assert told == ["fresh", "cpu", "fresh", "cpu"]
    facts = lab.run.manifest["artefacts"]
    assert [facts[f"models/{name}-0.safetensors"]["peak_memory_mb"] for name in ("original", "finetune")] == [2, 4]
