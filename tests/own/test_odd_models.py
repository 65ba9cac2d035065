"""Models and places that users have and nobody thinks of: none is wrong in silence, none ends in a traceback."""

import copy
import io
import random
import re
from contextlib import nullcontext

import pytest
import torch
from conftest import ROOT
from own_model import NAMES, files_of, forget
from pixels import as_dataset, check, reader, write
from refusals import refused
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from megu.cli import main
from megu.core.loading import weights_digest
from megu.core.resume import digest
from megu.own.request import say_hooks
from megu.settings.config import Settings
from megu.settings.errors import SettingsError, StageError
from megu.settings.files import hash_bytes
from megu.settings.request_file import RequestFile
from megu.settings.request_file import write as write_request
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


def test_buffers_that_may_hold_images_are_said(model, parts):
    class Bank(Counter):
        def __init__(self, inner, bank):
            super().__init__(inner)
            self.register_buffer("bank", bank)

    said = {
        name: str(forget(Bank(copy.deepcopy(model), bank), parts, **BRIEF).report["done"]["notices"])
        for name, bank in {"bank": torch.rand(40, 8), "mask": torch.eye(9), "scale": torch.rand(3)}.items()
    }
    assert "no method changes the buffers bank: if they were made of images" in said["bank"]
    assert not any("no method changes" in said[name] for name in ("mask", "scale"))


class Sharper(nn.Module):
    """Answers by a factor that is no weight."""

    def __init__(self, inner, power):
        super().__init__()
        self.inner, self.power = inner, power

    def forward(self, x):
        logits = self.inner(x)
        return logits.sign() * logits.abs() ** self.power


def test_the_same_weights_with_another_forward_do_not_go_on(model, parts, tmp_path):
    for power, words in (
        (1.0, ""),
        (1.0, ""),
        (1.2, "of these weights that answers otherwise in eval mode .another forward"),
    ):
        with refused(words, StageError) if words else nullcontext():
            forget(Sharper(copy.deepcopy(model), power), parts, out=tmp_path / "out", **BRIEF)


def test_the_same_weights_of_which_others_are_frozen_do_not_go_on(model, parts, tmp_path):
    forget(model, parts, out=tmp_path / "out", **BRIEF)
    next((still := copy.deepcopy(model)).parameters()).requires_grad_(False)
    with refused("was made otherwise .layers is another", StageError):
        forget(still, parts, out=tmp_path / "out", **BRIEF)


class Restless(nn.Module):
    """Drops a share of its logits in training, by a number that no layer shows; its slope is no layer's, either."""

    def __init__(self, inner, share=0.2, slope=0.0):
        super().__init__()
        self.inner, self.share, self.slope = inner, share, slope

    def forward(self, x):
        return F.dropout(F.leaky_relu(self.inner(x), self.slope), self.share, self.training)


def with_layer(model, place, layer):
    (other := copy.deepcopy(model))[place] = layer
    return other


@pytest.mark.parametrize(("changed", "words"), [
    (lambda model: with_layer(model, 2, nn.LeakyReLU(0.001)), "made otherwise .layers is another"),
    (lambda model: with_layer(model, 7, nn.Dropout(0.6)), "made otherwise .layers is another"),
    (lambda model: Restless(model, 0.6), "answers otherwise in train mode"),
    (lambda model: Restless(model, slope=0.05), "answers otherwise in eval mode"), (Restless, ""),
])  # fmt: skip
def test_the_same_weights_in_another_network_do_not_go_on(changed, words, model, parts, tmp_path):
    first = model if "layers" in words else Restless(model)
    forget(copy.deepcopy(first), parts, out=tmp_path / "out", **BRIEF)
    with refused(words, StageError) if words else nullcontext():
        forget(changed(copy.deepcopy(model)), parts, out=tmp_path / "out", **BRIEF)


def test_other_parts_in_eval_mode_do_not_go_on(model, parts, tmp_path):
    forget(copy.deepcopy(model).train(), parts, out=tmp_path / "out", **BRIEF)
    forget(copy.deepcopy(model).eval(), parts, out=tmp_path / "out", **BRIEF)  # the control: whole, it says nothing
    (calm := copy.deepcopy(model).train())[7].eval()
    with refused("answers otherwise in train mode", StageError):
        forget(calm, parts, out=tmp_path / "out", **BRIEF)


def test_what_draws_by_itself_in_training_goes_on(model, parts, tmp_path):
    class Random(Restless):
        def forward(self, x):
            return self.inner(x) * (random.random() if self.training else 1.0)

    for _ in range(2):
        forget(Random(copy.deepcopy(model)), parts, out=tmp_path / "out", **BRIEF)


@pytest.mark.parametrize("most", [9, 40, 127])
def test_a_forward_that_takes_so_many_images_at_once_is_refused_before_work(most, model, parts):
    class Narrow(Restless):
        def forward(self, x):
            assert len(x) <= most, "too many"
            return self.inner(x)

    with refused(r"few images, but not \d+ at once .*too many.*: let forward take any number"):
        forget(Narrow(copy.deepcopy(model)), parts, dry_run=True, **BRIEF)


@pytest.mark.parametrize("name", ["model.safetensors", "report.html", "report.json"])
def test_what_the_user_put_in_place_of_a_result_is_not_overwritten(name, model, parts, tmp_path):
    def again():
        return forget(model, parts, out=tmp_path / "out", **BRIEF)

    again()
    again()  # the control: what was written there may be
    (file := tmp_path / "out" / name).write_text("{}")
    with refused(f"holds {name}, not as it was written there: move it away"):
        again()
    assert file.read_text() == "{}"
    file.unlink()
    again()


def test_a_call_that_was_stopped_before_its_sums_goes_on(model, parts, tmp_path):
    forget(model, parts, out=tmp_path / "out", **BRIEF)
    (tmp_path / "out" / "SHA256SUMS").unlink()
    (tmp_path / "out" / "report.html").write_text("half")
    forget(model, parts, out=tmp_path / "out", **BRIEF)
    assert "half" != (tmp_path / "out" / "report.html").read_text()


def test_nothing_is_saved_among_the_images(model, parts, tmp_path):
    root = files_of(model, parts, tmp_path)
    done = forget(model, (root / "photos", None), test=None, normalise="unit", **BRIEF)
    with refused("lies in 'photos', whose folders are classes"):
        done.save(root / "photos" / "train" / "new")
    done.save(root / "new")


def test_names_that_are_not_utf_8_are_refused_before_work(model, parts, tmp_path):
    odd = tmp_path / "p\udce9"
    with refused(r"out '.*p.' is not UTF-8: rename"):
        forget(model, parts, out=odd, **BRIEF)
    odd.mkdir()
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    (tmp_path / "m.safetensors").rename(odd / "m.safetensors")
    with refused(r"model .*is not UTF-8: rename"):
        forget(odd / "m.safetensors", (files_of(model, parts, tmp_path) / "photos", None), arch="resnet18", test=None)
    request = RequestFile(data=f"{odd}", forget="ape")
    with refused(r"data '.*is not UTF-8: rename"):
        write_request(request, tmp_path / "request.toml")
    assert not (tmp_path / "request.toml").exists()


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
    assert ("model: no file holds turned, tensors that are neither weights nor buffers" in caplog.text) != kept
    assert "last" not in caplog.text
