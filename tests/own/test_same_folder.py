"""What a folder was made with goes on in it, all else is refused, and nothing of the user's is replaced."""

import copy
import json
import random
from contextlib import nullcontext
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from own_model import NAMES, files_of, forget
from refusals import refused
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from megu.core.models import asked
from megu.core.resume import layers_digest
from megu.own import report, unlearn
from megu.settings.errors import SettingsError, StageError
from megu.settings.files import hash_file
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


@pytest.mark.parametrize(("fails", "words", "kind"), [
    (lambda x: len(x) > 8, "takes a few images, but not 9 at once", SettingsError),
    (lambda x: True, "^broken$", RuntimeError),  # it is not the number of images
    (lambda x: len(x) > 8 and torch.empty(2**60), "alloc", RuntimeError),  # nor what memory says
])  # fmt: skip
def test_only_the_number_of_images_is_blamed_for_what_it_does(fails, words, kind):
    class Broken(nn.Module):
        def forward(self, x):
            if fails(x):
                raise RuntimeError("broken")

    with pytest.raises(kind, match=words):
        asked(Broken(), torch.zeros(9, 1, 2, 2))


def test_a_forward_that_asks_for_gradients_in_training_is_taken(model, parts, tmp_path):
    class Penalised(Restless):
        def forward(self, x):
            x = x if x.requires_grad or not self.training else x.requires_grad_()
            logits = self.inner(x)
            penalty = torch.autograd.grad(logits.sum(), x, create_graph=True)[0].sum() if self.training else 0.0
            return logits + 0 * penalty

    for _ in range(2):
        forget(Penalised(copy.deepcopy(model)), parts, out=tmp_path / "out", **BRIEF)


def test_what_a_layer_prints_does_not_matter(model):
    (other := copy.deepcopy(model))[2].extra_repr = lambda: f"<at {id(other)}>"
    assert layers_digest(other) == layers_digest(model) != layers_digest(with_layer(model, 7, nn.Dropout(0.2)))


def test_the_same_images_as_classes_and_one_by_one_are_two_requests(model, parts, tmp_path):
    forget(model, parts, "trouser", out=tmp_path / "out", **BRIEF)
    gone = (parts[0].tensors[1] == NAMES.index("trouser")).nonzero()[:, 0].tolist()
    with refused("was made otherwise .forget.classes .*forget.scenario was", StageError):
        forget(model, parts, gone, out=tmp_path / "out", **BRIEF)


def test_a_result_holds_no_images(done):
    assert done._images == {}, "they came as a Dataset"
    assert len(ForkingPickler.dumps(done)) < 200_000


def test_a_reference_and_sums_of_other_tools_may_lie_beside_the_result(model, parts, tmp_path):
    forget(model, parts, out=tmp_path / "out", **BRIEF)
    (tmp_path / "out" / "reference.safetensors").write_bytes(b"given")
    sums = tmp_path / "out" / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("  ", " *"))
    assert forget(model, parts, out=tmp_path / "out", **BRIEF)
    sums.write_text(sums.read_text().replace("  ", " *"))
    (tmp_path / "out" / "report.html").write_text("mine")
    with refused("holds report.html, not as it was written there"):
        forget(model, parts, out=tmp_path / "out", **BRIEF)


def test_what_made_the_model_stays_in_the_report(model, parts, tmp_path, monkeypatch):
    first = forget(model, parts, out=tmp_path / "out", **BRIEF).report["done"]
    monkeypatch.setattr(report, "versions", lambda names: {"torch": "0.1"})
    again = forget(model, parts, out=tmp_path / "out", **BRIEF).report["done"]
    assert again["versions"] == first["versions"] != {"torch": "0.1"}
    assert forget(model, parts, **BRIEF).report["done"]["versions"] == {"torch": "0.1"}, "the control"


def test_a_model_that_is_made_anew_is_measured_anew(model, parts, tmp_path):
    forget(model, parts, out=tmp_path / "out", **BRIEF)
    work = tmp_path / "out" / "work"
    state = load_file(work / "model.safetensors")
    state["8.bias"] += torch.arange(10.0)
    with safe_open(work / "model.safetensors", "pt") as file:
        about = file.metadata()
    save_file(state, work / "model.safetensors", about)
    manifest = json.loads((work / "manifest.json").read_text())
    manifest["artefacts"]["model.safetensors"]["sha256"] = hash_file(work / "model.safetensors")
    (work / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "out" / "model.safetensors").unlink()
    found = forget(model, parts, out=tmp_path / "out", **BRIEF)
    x, y = parts[1].tensors
    right = (found.model(x).argmax(1) == y)[y != NAMES.index("trouser")].double().mean().item()
    rows = {(row["model"], row["part"]): row["percent"] for row in found.report["accuracy"]}
    assert rows["after", "test_retain"] == pytest.approx(100 * right, abs=1e-4)


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx", "report.html", "report.json"])
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


def test_an_onnx_file_is_among_the_sums(model, parts, tmp_path, monkeypatch):
    monkeypatch.setattr(unlearn, "write_onnx", lambda model, shape, path, k: path.write_bytes(b"made") and 0.0)
    out = tmp_path / "out"
    for _ in range(2):  # the second is the control: what was written there may be
        forget(model, parts, out=out, **BRIEF).write_onnx(out / "model.onnx")
        assert f"{hash_file(out / 'model.onnx')}  model.onnx" in (out / "SHA256SUMS").read_text()


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
