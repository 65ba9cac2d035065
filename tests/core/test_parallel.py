"""Data-parallel training: two real processes make the models that one makes, an ordinary run finds them, controls do
not."""

import json
import os
import socket

import accelerate  # noqa: F401  (imported once, before the processes part)
import pytest
import torch
from conftest import SHORT
from killing import child, ended
from refusals import refused
from safetensors.torch import load_file
from torch import nn

from megu.core import models
from megu.core.device import Compute, generator
from megu.core.parallel import Team
from megu.core.train import fit
from megu.methods import task
from megu.runs import pretrain as ahead
from megu.runs.experiment import Experiment
from megu.runs.pretrain import pretrain
from megu.settings.config import Recipe
from megu.settings.profiles import resolve

# 40 batches of 5 images: slices of 3 and 2.
FIVE = {**SHORT, "arch": "vit-tiny", "autocast": "off", "threads": 1, "seeds": 1, "data.validation": 0.49}
FIVE |= {"training.epochs": 1, "training.batch": 5, "training.lr": 0.005}
SAME = 1e-6  # the largest difference of a weight that rounding may make; the controls differ by more than 1e-2


def noted(put):
    """A list of the mean loss of each epoch of every training from here on; ``put`` is setattr or monkeypatch's."""
    losses = []

    def fitted(*args, **more):
        losses.append(fit(*args, **more))
        return losses[-1]

    put(task, "fit", fitted)
    return losses


def side_by_side(path, overrides, patch=None):
    """`pretrain` in two processes, as ``torchrun`` starts them: what each said, and its losses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    notes = [path.parent / f"{path.name}-{rank}.json" for rank in range(2)]

    def process(rank):
        def work():
            torch.set_num_threads(1)
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
            place |= {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true"}
            os.environ.update({name: str(value) for name, value in place.items()})
            if patch:
                setattr(Team, *patch)
                ahead.REFERENCES = ("original",)
            said, losses = [], noted(setattr)
            lab = pretrain(run_dir=path, overrides=overrides, say=said.append)
            assert (lab is None) == bool(rank)
            notes[rank].write_text(json.dumps([said, losses]))

        return child(work)

    assert [ended(pid) for pid in [process(rank) for rank in range(2)]] == [0, 0]
    return zip(*[json.loads(note.read_text()) for note in notes], strict=True)


def far(path, other, name):
    """The largest difference of a weight of the models that two runs keep."""
    one, two = (load_file(run / "models" / f"{name}-0.safetensors") for run in (path, other))
    return max((one[key] - two[key]).abs().max().item() for key in one)


@pytest.fixture(scope="module")
def single(tiny_npz, tmp_path_factory):
    """(settings, the run of one process, its losses)."""
    overrides = {**FIVE, "data.name": "npz", "data.path": str(tiny_npz)}
    said, path = [], tmp_path_factory.mktemp("single") / "run"
    with pytest.MonkeyPatch.context() as patch:
        losses = noted(patch.setattr)
        pretrain(run_dir=path, overrides=overrides, say=said.append)
    assert said == ["original, seed 0: done", "retrain, seed 0: done"]
    return overrides, path, losses


@pytest.mark.slow
def test_two_processes_make_the_models_of_one_and_a_run_finds_them(single, tmp_path, monkeypatch):
    (overrides, alone, losses), both, path = single, ("original", "retrain"), tmp_path / "run"
    said, found = side_by_side(path, overrides)
    assert said == ([f"{name}, seed 0: made by 2 processes" for name in both], [])
    for of_rank in found:  # each process knows the loss of the whole batch
        assert of_rank == [pytest.approx(one, rel=1e-5) for one in losses] and len(of_rank) == 2
    assert all(far(path, alone, name) < SAME for name in both)

    monkeypatch.setattr("megu.methods.task.fit", lambda *_, **__: pytest.fail("trained again"))
    lab = Experiment(run_dir=path, overrides=overrides)
    lab.unlearned("original", 0), lab.unlearned("retrain", 0)
    for run, kept in ((lab.run, 2), (lab.shared, 1)):
        facts = [about for name, about in run.manifest["artefacts"].items() if name.startswith("models/")]
        assert [about["processes"] for about in facts] == [2] * kept
        assert all(about["seconds"]["total"] == pytest.approx(2 * about["wall_seconds"]) for about in facts)
    beside = Experiment(run_dir=tmp_path / "other", overrides={**overrides, "forget.classes": ["bag"]})
    beside.original(0)  # another request takes the same original
    said, _ = side_by_side(path, overrides)
    assert said == ([f"{name}, seed 0: was there" for name in both], [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("member", "wrong"),
    [("weight", lambda team, part, whole: 1.0), ("share", lambda team, batch: batch.tensor_split(team.size)[0])],
    ids=["every slice counts the same", "both take the same slice"],
)
def test_controls_are_far_from_one_process(single, tmp_path, member, wrong):
    overrides, alone, _ = single
    side_by_side(tmp_path / "run", overrides, (member, wrong))
    assert far(tmp_path / "run", alone, "original") > 1e-2


def test_one_gpu_cannot_be_named_for_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with refused("device is 'cuda:0', but each process has a GPU of its own"):
        pretrain(overrides={"device": "cuda:0"})


class Two(Team):
    """A process of two, without the other."""

    def __init__(self, cpu=False, rank=0):
        self.size, self.rank, self._cpu = 2, rank, cpu


def test_batch_statistics_are_those_of_the_whole_batch_or_training_is_refused(tiny):
    """On GPUs the layers are exchanged in a network that has the very tensors of the model, which stays as it is."""
    model, vit = (models.build(arch, 10, tiny.images.shape, 0) for arch in ("resnet-small", "vit-tiny"))
    names, net = list(model.state_dict()), Two().synchronised(model)
    for network, kind in ((model, nn.BatchNorm2d), (net, nn.SyncBatchNorm)):
        assert {type(module) for module in network.modules()} & {nn.BatchNorm2d, nn.SyncBatchNorm} == {kind}
    own, theirs = model.state_dict(), net.state_dict()
    assert list(own) == list(theirs) == names and all(own[name].data_ptr() == theirs[name].data_ptr() for name in names)
    assert all(a is b for a, b in zip(model.parameters(), net.parameters(), strict=True))
    assert Two(cpu=True).synchronised(vit) is vit and Team().synchronised(model) is model
    compute = Compute(torch.device("cpu"), False, team=Two(cpu=True))
    with refused("ResNet has batch normalisation, .* on GPUs only: train it in one process, or a ViT"):
        fit(model, None, 10, Recipe(batch=5), generator(0), compute)
    with refused("Airbench has batch normalisation without a scale, which processes cannot share: train it in one"):
        Two().synchronised(models.build("airbench", 10, tiny.images.shape, 0))
    with refused("a batch of 1 images cannot be shared by 2 processes"):
        fit(vit, None, 10, Recipe(batch=1), generator(0), compute)
    assert str(compute) == "cpu, float32" and "team" not in resolve().model_dump(), "no result depends on the team"


@pytest.mark.parametrize("whole", [2, 5, 33])
def test_slices_are_the_batch_and_their_weights_average_to_one(whole):
    batch, teams = torch.arange(whole), (Two(rank=0), Two(rank=1))
    parts = [team.share(batch) for team in teams]
    assert torch.equal(torch.cat(parts), batch) and abs(len(parts[0]) - len(parts[1])) <= 1
    weights = [team.weight(len(part), whole) for team, part in zip(teams, parts, strict=True)]
    assert sum(weights) / 2 == pytest.approx(1.0)
