"""An original that was trained elsewhere, in place of one trained here."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
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
    blocks = models.RESNETS[tiny.settings.arch][0]
    path = tmp_path_factory.mktemp("elsewhere") / "theirs.safetensors"
    save_file(
        {keymap.theirs(name, blocks): tensor.contiguous() for name, tensor in tiny.original(1).state_dict().items()},
        path,
    )
    return path


def test_every_seed_starts_from_the_given_original(tiny, tiny_overrides, file, tmp_path):
    lab = Experiment(
        run_dir=tmp_path / "one" / "run",
        overrides={**tiny_overrides, "original.path": str(file), "compare": ["finetune"]},
    )
    assert (
        weights_digest(lab.original(0))
        == weights_digest(lab.original(1))
        == weights_digest(tiny.original(1))
        != weights_digest(tiny.original(0))
    )
    new = lab.unlearned("finetune", 0)
    assert not predict(new, lab.images, lab.split.forget).equal(predict(lab.original(0), lab.images, lab.split.forget))
    manifest = json.dumps(lab.run.manifest) + json.dumps(lab.shared.manifest)
    assert (
        manifest.count(lab.settings.original.sha256) == 2
        and "theirs" not in manifest
        and len(lab.settings.original.sha256) == 64
    )

    usual = Experiment(run_dir=tmp_path / "one" / "usual", overrides=tiny_overrides)
    assert usual.shared.path != lab.shared.path and "original" not in usual.shared.about
    usual.run.note("opened", True)
    with pytest.raises(StageError, match="settings.original.sha256 was '"):
        Experiment(run_dir=tmp_path / "one" / "run", overrides={**tiny_overrides, "compare": ["finetune"]})


def test_the_variable_names_it_too(file, monkeypatch):
    with monkeypatch.context() as once:
        once.setenv("MEGU_ORIGINAL", str(file))
        assert resolve().original == resolve(overrides={"original.path": str(file)}).original
    assert resolve().original.sha256 is None and resolve().original.path is None


def other_classes(state):
    return {**state, "fc.weight": state["fc.weight"][:5].clone(), "fc.bias": state["fc.bias"][:5].clone()}


def untrained(state):
    return {
        name: torch.randn_like(tensor) if tensor.is_floating_point() and "running" not in name else tensor
        for name, tensor in state.items()
    }


@pytest.mark.parametrize(("change", "expected"), [
    (other_classes, r"changed.safetensors is no resnet-small with 10 classes \(fc.weight is \(5, 128\), not \(10, 128\)"),
    (untrained, r"the model names \d+ % of \d+ training images right .*check the order of its classes, .* as a run shows them .*unlearn --normalise"),
])  # fmt: skip
def test_an_original_that_does_not_fit_is_refused(tiny_overrides, file, tmp_path, change, expected):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(change(load_file(file)), tmp_path / "changed.safetensors")
    lab = Experiment(
        run_dir=tmp_path / "runs" / "one",
        overrides={**tiny_overrides, "original.path": str(tmp_path / "changed.safetensors")},
    )
    with pytest.raises(SettingsError, match=expected):
        lab.original(0)
    assert not list((tmp_path / "runs").rglob("*.safetensors"))


def test_processes_that_train_together_read_it_too(tiny_overrides, file, monkeypatch):
    """In the second process, which opens no run."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(pretrain, "REFERENCES", ("original",))
    monkeypatch.setattr(
        pretrain, "Team", lambda cpu: SimpleNamespace(told=lambda: "make", rank=1, size=2, first=nullcontext)
    )
    monkeypatch.setattr(Models, "_fit", lambda *_: pytest.fail("trained"))
    assert pretrain.pretrain(overrides={**tiny_overrides, "original.path": str(file)}) is None
    with pytest.raises(pytest.fail.Exception, match="trained"):
        pretrain.pretrain(overrides=tiny_overrides)


@pytest.mark.parametrize(("values", "expected"), [
    ({"original.path": "none.safetensors"}, "setting 'original' is .*'none.safetensors' does not exist: set original.path to a .safetensors"),
    ({"original": "theirs.safetensors"}, "setting 'original' is 'theirs.safetensors': .*set original.path"),
    ({"original.file": "x"}, "the name 'file' does not exist; .*choose from: .*sha256"),
])  # fmt: skip
def test_settings_that_are_wrong(values, expected):
    with pytest.raises(SettingsError, match=expected) as refused:
        resolve(overrides=values)
    assert "\n" not in str(refused.value)
