"""Models and places that users have and nobody thinks of: none is wrong in silence, none ends in a traceback."""

import copy
import re

import pytest
import torch
from conftest import ROOT
from own_model import NAMES, forget
from safetensors.torch import load_file
from torch import nn

from megu.cli import main
from megu.core.loading import weights_digest
from megu.core.resume import digest
from megu.own.request import say_hooks
from megu.settings.config import Settings
from megu.settings.errors import SettingsError
from megu.settings.files import hash_bytes
from megu.settings.values import build

BRIEF = {"method": "finetune", "settings": {"recipe.epochs": 1}}


class Counter(nn.Module):
    """Counts the images that it was asked about, in eval mode as well; has a state that is no tensor."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += len(x)
        return self.inner(x)

    def get_extra_state(self):
        """No tensor."""
        return {"unit": "images"}

    def set_extra_state(self, state):
        """As it was."""
        assert state == {"unit": "images"}


def test_what_is_measured_does_not_change_what_was_written(model, parts, tmp_path):
    found = forget(Counter(copy.deepcopy(model)), parts, out=tmp_path / "out", **BRIEF)
    assert weights_digest(found.model) == found.report["done"]["model"]["sha256_after"]
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")["seen"], found.model.seen)


def test_hooks_on_gradients_are_said_not_to_be_kept(model, caplog):
    say_hooks(model)
    assert not caplog.text
    odd = copy.deepcopy(model)
    odd[0].weight.register_hook(torch.zeros_like)
    say_hooks(odd)
    assert "1 weights have hooks on their gradients (0.weight)" in caplog.text


def test_weights_that_were_pruned_and_are_trained_are_said(model, parts):
    pruned = copy.deepcopy(model)
    pruned[3].weight.data[:, ::2] = 0
    said, control = (forget(one, parts, **BRIEF).report["done"]["notices"] for one in (pruned, model))
    assert any(re.fullmatch(r"44 % of the weights of the layers were 0, now 1?\d % are", line) for line in said)
    assert not any("were 0" in line for line in control)


def test_extra_state_and_file_names_that_are_no_utf8_have_hashes():
    assert digest("a", {"scale": 2.0}) != digest("a", {"scale": 3.0})
    assert hash_bytes("x\udcff.png") != hash_bytes("x\udcfe.png")


def test_a_wrong_variable_of_the_machine_is_one_line(monkeypatch):
    monkeypatch.setenv("MEGU_ORIGINAL", "/nonexistent")
    with pytest.raises(SettingsError, match=r"original.*does not exist"):
        build(Settings, {})


def test_a_path_that_is_too_long_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["megu", "unlearn", "--out", "a" * 3000, "--data", str(ROOT), "--forget", NAMES[0]])
    with pytest.raises(SystemExit) as stop:
        main.main()
    assert stop.value.code == 2 and "megu: File name too long" in capsys.readouterr().err
