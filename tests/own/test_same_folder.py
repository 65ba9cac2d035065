"""What a folder was made with goes on in it, all else is refused, and nothing of the user's is replaced."""

import copy
import random
from contextlib import nullcontext

import pytest
from own_model import files_of, forget
from refusals import refused
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from megu.settings.errors import StageError
from megu.settings.request_file import RequestFile
from megu.settings.request_file import write as write_request

BRIEF = {"method": "finetune", "settings": {"recipe.epochs": 1}}


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
    with refused(r"path '.*is not UTF-8: rename"):
        write_request(request, tmp_path / "request.toml")
    assert not (tmp_path / "request.toml").exists()
