"""Which memory is measured: that of the run's device, and on a GPU that of one piece."""

import pytest
import torch

from megu.core import device
from megu.cost.memory import Tensors, peak_memory
from megu.runs.experiment import Experiment

GPU, CPU = torch.device("cuda:1"), torch.device("cpu")


@pytest.fixture
def cuda(monkeypatch):
    """Devices of which a GPU's counters of memory were read or reset: they rise by 7 MB at each look, and nothing else
    of a GPU is there."""
    asked, held = [], [0]

    def look(where, rise=7_000_000):
        asked.append(where)
        held[0] = held[0] + rise if rise else 0
        return held[0]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda where: look(where, 0))
    for name in ("memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, look)
    return asked


def test_a_peak_is_of_the_device_and_of_the_piece(cuda):
    device.fresh_peak(GPU)
    assert [device.peak_memory_mb(GPU), device.peak_memory_mb(GPU)] == [7, 14]
    device.fresh_peak(GPU)
    assert device.peak_memory_mb(GPU) == 7
    with peak_memory(GPU) as peak:
        pass
    assert peak.process == 7 and set(cuda) == {GPU}


def test_of_a_run_on_the_cpu_it_is_that_of_the_process_where_there_is_a_gpu_too(cuda):
    device.fresh_peak(CPU)
    assert device.peak_memory_mb(CPU) > 50  # torch alone takes more
    with peak_memory() as peak:
        kept = [torch.ones(10_000_000) for _ in range(6)]  # so large that the C library never keeps them for later
    assert not cuda and len(kept) == 6 and peak.process > 120
    assert peak.tensors == pytest.approx(240, rel=0.01)


def test_memory_is_that_of_live_tensors():
    with peak_memory() as peak:
        for _ in range(3):  # one at a time
            block = torch.ones(1_000_000)
            block = block.view(1000, 1000).t()[0]  # a view holds no memory of its own
        del block
    assert peak.tensors == pytest.approx(8, rel=0.01)  # the next is made before the last one goes
    before = torch.ones(1_000_000)
    with Tensors() as tensors:
        torch.nn.ReLU()(before)
    assert tensors.most == 4_000_000, "what was there before is not counted"


def test_every_piece_of_a_run_starts_to_count_anew(tiny_overrides, tmp_path, monkeypatch):
    """What a method needs is not what its original, made on the way, needed."""
    changes, told = {**tiny_overrides, "training.epochs": 1, "autocast": "off"}, []
    monkeypatch.setattr(device, "fresh_peak", lambda where: told.append("fresh"))
    monkeypatch.setattr(device, "peak_memory_mb", lambda where: told.append(where.type) or len(told))
    lab = Experiment(run_dir=tmp_path / "run", overrides=changes)
    lab.unlearned("finetune", 0)
    assert told == ["fresh", "cpu", "fresh", "cpu"]
    facts = lab.run.manifest["artefacts"]
    assert [facts[f"models/{name}-0.safetensors"]["peak_memory_mb"] for name in ("original", "finetune")] == [2, 4]
