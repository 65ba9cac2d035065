"""An original that was trained elsewhere, in place of one trained here."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from refusals import refused
from safetensors.torch import load_file, save_file

from megu.core import keymap, models
from megu.core.loading import weights_digest
from megu.core.train import predict
from megu.runs import pretrain
from megu.runs.experiment import Experiment
from megu.runs.models import Models
from megu.settings.errors import SettingsError, StageError
from megu.settings.profiles import resolve


@pytest.fixture(scope="module")
def file(tiny, tmp_path_factory):
    """The trained original of another run, with the names of the code that much of the field shares."""
    blocks, state = models.RESNETS[tiny.settings.arch][0], tiny.original(1).state_dict()
    path = tmp_path_factory.mktemp("elsewhere") / "theirs.safetensors"
    save_file({keymap.theirs(name, blocks): tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def test_every_seed_starts_from_the_given_original(tiny, tiny_overrides, file, tmp_path):
    given = {**tiny_overrides, "compare": ["finetune"]}
    lab = Experiment(run_dir=tmp_path / "one" / "run", overrides=given | {"original.path": str(file)})
    ours, theirs = ([weights_digest(run.original(seed)) for seed in (0, 1)] for run in (lab, tiny))
    assert ours == [theirs[1], theirs[1]] and theirs[0] != theirs[1]
    new, forget = lab.unlearned("finetune", 0), lab.split.forget
    assert not predict(new, lab.images, forget).equal(predict(lab.original(0), lab.images, forget))
    manifest, digest = json.dumps([lab.run.manifest, lab.shared.manifest]), lab.settings.original.sha256
    assert manifest.count(digest) == 2 and len(digest) == 64 and "theirs" not in manifest

    usual = Experiment(run_dir=tmp_path / "one" / "usual", overrides=tiny_overrides)
    assert usual.shared.path != lab.shared.path and "original" not in usual.shared.about
    usual.run.note("opened", True)
    with pytest.raises(StageError, match="settings.original.sha256 was '"):
        Experiment(run_dir=tmp_path / "one" / "run", overrides=given)


def test_the_variable_names_it_too(file, monkeypatch):
    with monkeypatch.context() as once:
        once.setenv("MEGU_ORIGINAL", str(file))
        assert resolve().original == resolve(overrides={"original.path": str(file)}).original
    assert resolve().original.sha256 is None and resolve().original.path is None


def other_classes(state):
    return {**state, **{name: state[name][:5].clone() for name in ("fc.weight", "fc.bias")}}


def untrained(state):
    drawn = {name for name, tensor in state.items() if tensor.is_floating_point() and "running" not in name}
    return {name: torch.randn_like(tensor) if name in drawn else tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (other_classes, r"is no resnet-small with 10 classes \(fc.weight is \(5, 128\), not \(10, 128\)"),
        (
            untrained,
            r"the model names \d+ % of \d+ training images right .*check the order of its classes, .* as a run shows"
            " them .*unlearn --normalise",
        ),
    ],
)
def test_an_original_that_does_not_fit_is_refused(tiny_overrides, file, tmp_path, change, expected):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(change(load_file(file)), tmp_path / "changed.safetensors")
    given = {**tiny_overrides, "original.path": str(tmp_path / "changed.safetensors")}
    lab = Experiment(run_dir=tmp_path / "runs" / "one", overrides=given)
    with pytest.raises(SettingsError, match=expected):
        lab.original(0)
    assert not list((tmp_path / "runs").rglob("*.safetensors"))


def test_processes_that_train_together_read_it_too(tiny_overrides, file, monkeypatch, tmp_path):
    """In the second process, which keeps nothing."""
    second = SimpleNamespace(told=lambda: "make", rank=1, size=2, first=nullcontext)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(pretrain, "REFERENCES", ("original",))
    monkeypatch.setattr(pretrain, "Team", lambda cpu: second)
    monkeypatch.setattr(Models, "_fit", lambda *_: pytest.fail("trained"))
    assert pretrain.pretrain(overrides={**tiny_overrides, "original.path": str(file)}) is None
    with pytest.raises(pytest.fail.Exception, match="trained"):
        pretrain.pretrain(overrides=tiny_overrides)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"original.path": "none.safetensors"},
            "setting 'original' is .*'none.safetensors' does not exist: set original.path to a .safetensors",
        ),
        ({"original": "theirs.safetensors"}, "setting 'original' is 'theirs.safetensors': .*set original.path"),
        ({"original.file": "x"}, "the name 'file' does not exist; .*choose from: .*sha256"),
    ],
)
def test_settings_that_are_wrong(values, expected):
    with refused(expected):
        resolve(overrides=values)
