"""Models and places that users have and nobody thinks of: none is wrong in silence, none ends in a traceback."""

import copy
import io
import random
import re

import numpy as np
import pytest
import torch
from conftest import ROOT
from own_model import NAMES, forget
from pixels import as_dataset, check, reader, write
from refusals import refused
from safetensors.torch import load_file, save_file
from torch import nn

from megu.cli import main
from megu.core.keymap import say_hooks
from megu.core.loading import weights_digest
from megu.core.resume import digest
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


def test_buffers_that_may_hold_images_are_said(model, parts, caplog):
    class Bank(Counter):
        def __init__(self, inner, bank):
            super().__init__(inner)
            self.register_buffer("bank", bank)

    of_images = {"features": (40, 8), "of each class": (10, 4, 8), "images": (20, 1, 28, 28)}
    others = {"scale": (3,), "positions": (1, 49, 8), "blur": (16, 1, 3, 3), "moments": (1, 1, 1, 1)}
    banks = {name: torch.rand(shape) for name, shape in (of_images | others).items()} | {"mask": torch.eye(9)}
    for name, bank in banks.items():
        caplog.clear()
        forget(Bank(copy.deepcopy(model), bank), parts, dry_run=True, **BRIEF)
        said = "neither method nor retrain changes the buffers bank: if they were made of images" in caplog.text
        assert said == (name in of_images), name


def test_nothing_is_overwritten_when_it_is_saved_later(done, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"the user's")
    with refused("holds model.safetensors, .*name another folder, so that nothing is overwritten"):
        done.save(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"the user's"
    done.save(tmp_path / "new")


def test_threads_are_the_callers_again(model, parts):
    before = torch.get_num_threads()
    forget(model, parts, method="finetune", settings={"recipe.epochs": 1, "threads": before + 1})
    assert torch.get_num_threads() == before


def test_a_terminal_may_lack_the_letters_of_a_class(tmp_path, monkeypatch):
    root, screen = write(tmp_path / "photos", ("a", "b", "猫")), io.TextIOWrapper(io.BytesIO(), "latin-1")
    save_file(reader(range(3)).state_dict(), tmp_path / "model.safetensors")
    net = "def net(n): return nn.Sequential(nn.Flatten(), nn.Linear(192, n))"
    (tmp_path / "net.py").write_text(f"from torch import nn\n{net}")
    words = f"megu unlearn --arch {tmp_path}/net.py:net --model {tmp_path}/model.safetensors --data {root} --forget 猫"
    monkeypatch.setattr("sys.argv", f"{words} --normalise unit --guide model --dry-run".split())
    monkeypatch.setattr("sys.stdout", screen)
    with pytest.raises(SystemExit) as end:
        main.main()
    screen.flush()
    assert not end.value.code and b"forget   class: \\u732b, 6 of 18 training images" in screen.buffer.getvalue()


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


class Constant(nn.Module):
    """Holds a tensor that no file has, or one that it has; and activations of the last call."""

    def __init__(self, kept):
        super().__init__()
        self.inner, turned = reader(range(4)), torch.eye(4)
        self.register_buffer("turned", turned) if kept else setattr(self, "turned", turned)

    def forward(self, x):
        self.last = self.inner(x)
        return self.last @ self.turned


@pytest.mark.parametrize("kept", [True, False])
def test_tensors_that_no_file_has_are_said(kept, caplog):
    check(Constant(kept), as_dataset(), "1")
    assert ("model: no file holds turned, which are neither weights nor buffers" in caplog.text) != kept
    assert "last" not in caplog.text


class KeepsHead(nn.Sequential):
    """Loads all but its head, as code for fine-tuning does."""

    def load_state_dict(self, state, *more, **how):
        return super().load_state_dict(state | {name: x for name, x in self.state_dict().items() if name[0] == "8"})


def test_a_model_that_does_not_load_all_it_gives_is_refused(model, parts):
    with refused("model.load_state_dict passes over 2 of its weights .8.weight, 8.bias.*let it load all that state"):
        forget(KeepsHead(*copy.deepcopy(model)), parts, dry_run=True)


class KeptHead(nn.Module):
    """In eval mode its head is a copy, made at the first answer; ``anew``: and when modes change."""

    def __init__(self, inner, anew):
        super().__init__()
        self.inner, self.anew, self.kept = inner, anew, {}

    def forward(self, x):
        features, head = self.inner[:-1](x), self.inner[-1]
        if self.training:
            return head(features)
        kept = self.kept.setdefault("head", (head.weight.detach().numpy().copy(), head.bias.detach().numpy().copy()))
        return nn.functional.linear(features, *map(torch.from_numpy, kept))

    def train(self, mode=True):
        if self.anew:
            self.kept.clear()
        return super().train(mode)


def test_a_model_that_answers_by_what_it_kept_is_refused(model, parts):
    with refused("model answers in eval mode by something that it keeps of its weights as they were: let it be made"):
        forget(KeptHead(copy.deepcopy(model), anew=False), parts, dry_run=True)
    forget(KeptHead(copy.deepcopy(model), anew=True), parts, dry_run=True)


class Shaken(nn.Sequential):
    """In training mode a weight makes its answers larger or smaller at random, as blocks do that are left out."""

    def __init__(self, *parts):
        super().__init__(*parts)
        self.gate = nn.Parameter(torch.tensor(1e-3))

    def forward(self, x):
        for part in self:
            x = part(x)
        return x * (1 + 15 * self.gate * torch.randn(()).sign()) if self.training else x


def test_a_model_that_is_random_in_training_mode_keeps_nothing(model, parts):
    forget(Shaken(*copy.deepcopy(model)), parts, dry_run=True)


class Groups(nn.Sequential):
    """Gives its weights as an optimiser takes them."""

    def parameters(self, recurse=True):
        return [{"params": [*super().parameters(recurse)], "lr": 0.1}]


class HeadAlone(nn.Sequential):
    """Gives its head alone."""

    def parameters(self, recurse=True):
        return self[-1].parameters()


def test_weights_that_are_not_given_one_by_one_are_refused(model, parts):
    for kind in (Groups, HeadAlone):
        with refused("model.parameters.. is unlike torch's: let it give all weights"):
            forget(kind(*copy.deepcopy(model)), parts, dry_run=True)


def test_switches_are_true_or_false_and_idle_settings_are_said(model, parts):
    with refused("dry_run is 'false': give True or False"):
        forget(model, parts, dry_run="false")
    with refused("classes is False: give their names"):
        forget(model, parts, classes=False)
    idle = {"recipe.epochs": 1, "training.epochs": 2, "guide.exemplars": 3}
    notices = forget(model, parts, method="finetune", settings=idle).report["done"]["notices"]
    assert "guide.* is of a guide, and finetune asks none: it is not used" in notices
    assert [line[:5] for line in notices if line.endswith("it is not used")] == ["guide", "train"]


def test_global_generators_are_where_they_were(model, parts):
    def draws():
        return torch.rand(2).tolist(), np.random.rand(), random.random()

    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    wanted = draws()
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    forget(model, parts, **BRIEF)
    assert draws() == wanted
