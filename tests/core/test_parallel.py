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
FIVE = {
    "arch": "vit-tiny",
    "autocast": "off",
    "threads": 1,
    "seeds": 1,
    "training.epochs": 1,
    "training.batch": 5,
    "training.lr": 0.005,
    "data.validation": 0.49,
}
SAME = 1e-6  # the largest difference of a weight that rounding may make; the controls differ by more than 1e-2


def noted(put):
    """A list of the mean loss of each epoch of every training from here on; ``put`` is setattr or monkeypatch's."""
    losses = []

    def fitted(*args, **more):
        losses.append(fit(*args, **more))
        return losses[-1]

    put(task, "fit", fitted)
    return losses


def side_by_side(path, overrides, patch=None, size=2):
    """`pretrain` in so many processes, as ``torchrun`` starts them; exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def process(rank):
        def work():
            torch.set_num_threads(1)
            os.environ.update(
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE=str(size),
                LOCAL_WORLD_SIZE=str(size),
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port),
                ACCELERATE_USE_CPU="true",
            )
            if patch:
                setattr(Team, *patch)
                ahead.REFERENCES = ("original",)
            said, losses = [], noted(setattr)
            lab = pretrain(run_dir=path, overrides=overrides, say=said.append)
            assert (lab is None) == bool(rank)
            (path.parent / f"{path.name}-{rank}.json").write_text(json.dumps(said))
            (path.parent / f"{path.name}-{rank}-losses.json").write_text(json.dumps(losses))

        return child(work)

    return [ended(pid) for pid in [process(rank) for rank in range(size)]]


def weights(path, name):
    return torch.cat([tensor.flatten() for tensor in load_file(path / "models" / f"{name}-0.safetensors").values()])


def far(path, other, name):
    return (weights(path, name) - weights(other, name)).abs().max().item()


@pytest.fixture(scope="module")
def single(tiny_npz, tmp_path_factory):
    """(settings, the run of one process, its losses)."""
    overrides = {**SHORT, **FIVE, "data.name": "npz", "data.path": str(tiny_npz)}
    said, path = [], tmp_path_factory.mktemp("single") / "run"
    with pytest.MonkeyPatch.context() as patch:
        losses = noted(patch.setattr)
        pretrain(run_dir=path, overrides=overrides, say=said.append)
    assert said == ["original, seed 0: done", "retrain, seed 0: done"]
    return overrides, path, losses


@pytest.mark.slow
def test_two_processes_make_the_models_of_one_and_a_run_finds_them(single, tmp_path, monkeypatch):
    overrides, alone, losses = single
    assert side_by_side(tmp_path / "run", overrides) == [0, 0]
    for rank in range(2):
        found = json.loads((tmp_path / f"run-{rank}-losses.json").read_text())
        assert len(found) == 2 and found == [pytest.approx(one, rel=1e-5) for one in losses], (
            "each process knows the loss of the whole batch"
        )
    for name in ("original", "retrain"):
        assert far(tmp_path / "run", alone, name) < SAME, name
    assert json.loads((tmp_path / "run-0.json").read_text()) == [
        f"{name}, seed 0: made by 2 processes" for name in ("original", "retrain")
    ]
    assert json.loads((tmp_path / "run-1.json").read_text()) == []

    monkeypatch.setattr("megu.methods.task.fit", lambda *_, **__: pytest.fail("trained again"))
    lab = Experiment(run_dir=tmp_path / "run", overrides=overrides)
    lab.unlearned("original", 0), lab.unlearned("retrain", 0)
    for run, kept in ((lab.run, 2), (lab.shared, 1)):
        facts = [about for name, about in run.manifest["artefacts"].items() if name.startswith("models/")]
        assert [about["processes"] for about in facts] == [2] * kept
        assert all(about["seconds"]["total"] == pytest.approx(2 * about["wall_seconds"]) for about in facts)
    beside = Experiment(run_dir=tmp_path / "other", overrides={**overrides, "forget.classes": ["bag"]})
    beside.original(0)  # another request takes the same original
    assert side_by_side(tmp_path / "run", overrides) == [0, 0], "nothing is left to make"
    assert json.loads((tmp_path / "run-0.json").read_text()) == [
        f"{name}, seed 0: was there" for name in ("original", "retrain")
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("member", "wrong"),
    [("weight", lambda team, part, whole: 1.0), ("share", lambda team, batch: batch.tensor_split(team.size)[0])],
    ids=["every slice counts the same", "both take the same slice"],
)
def test_controls_are_far_from_one_process(single, tmp_path, member, wrong):
    overrides, alone, _ = single
    assert side_by_side(tmp_path / "run", overrides, (member, wrong)) == [0, 0]
    assert far(tmp_path / "run", alone, "original") > 1e-2


def test_one_gpu_cannot_be_named_for_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with refused("device is 'cuda:0', but each process has a GPU of its own"):
        pretrain(overrides={"device": "cuda:0"})


class Two(Team):
    """A team of two without processes."""

    size, rank, _cpu = 2, 0, False

    def __init__(self, cpu=False):
        self._cpu = cpu


def test_batch_statistics_are_those_of_the_whole_batch_or_training_is_refused(tiny):
    """On GPUs the layers are exchanged in a network that has the very tensors of the model, which stays as it is."""
    model = models.build("resnet-small", 10, tiny.images.shape, 0)
    names = list(model.state_dict())
    net = Two().synchronised(model)
    kinds = [
        {type(module) for module in network.modules()} & {nn.BatchNorm2d, nn.SyncBatchNorm} for network in (model, net)
    ]
    assert kinds == [{nn.BatchNorm2d}, {nn.SyncBatchNorm}]
    own, theirs = model.state_dict(), net.state_dict()
    assert list(own) == list(theirs) == names and all(own[name].data_ptr() == theirs[name].data_ptr() for name in names)
    assert all(a is b for a, b in zip(model.parameters(), net.parameters(), strict=True))
    vit = models.build("vit-tiny", 10, tiny.images.shape, 0)
    assert Two(cpu=True).synchronised(vit) is vit
    with refused("ResNet has batch normalisation, .* on GPUs only: train it in one process, or a ViT"):
        fit(model, None, 10, Recipe(batch=5), generator(0), Compute(torch.device("cpu"), False, team=Two(cpu=True)))
    with refused("a batch of 1 images cannot be shared by 2 processes"):
        fit(vit, None, 10, Recipe(batch=1), generator(0), Compute(torch.device("cpu"), False, team=Two(cpu=True)))


def test_slices_are_the_batch_and_their_weights_average_to_one():
    for whole in (2, 5, 33):
        batch, teams = torch.arange(whole), (Two(), Two())
        teams[1].rank = 1
        parts = [team.share(batch) for team in teams]
        assert torch.equal(torch.cat(parts), batch) and abs(len(parts[0]) - len(parts[1])) <= 1
        assert sum(team.weight(len(part), whole) for team, part in zip(teams, parts, strict=True)) / 2 == pytest.approx(
            1.0
        )


def test_the_team_is_not_part_of_what_a_result_depends_on():
    compute = Compute(torch.device("cpu"), False)
    assert str(Compute(torch.device("cpu"), False, team=Two())) == str(compute) == "cpu, float32"
    assert "team" not in resolve().model_dump()
