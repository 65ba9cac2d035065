"""Models whose file would be another, references and checks that measure nothing, results that are not what was
measured: refused, or said."""

import copy
import re
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from own_model import SCHEMA, alike, files_of, forget, network
from pixels import as_dataset, check, photos, reader
from refusals import refused
from safetensors.torch import load_file
from test_checkpoint import made
from test_verdict import judged
from torch import nn
from torch.utils.data import TensorDataset

from megu.core import models
from megu.core.loading import weights_digest
from megu.own import guide_choice
from megu.own.report import recheck
from megu.runs.loggers import Logger

BRIEF = {"method": "finetune", "settings": {"recipe.epochs": 1}}


class Hides(nn.Module):
    """Names training images of a class wrong by their pixels, and knows others of the class as before."""

    def __init__(self, inner, x, k):
        super().__init__()
        self.inner = inner
        self.register_buffer("seen", x.flatten(1))
        self.register_buffer("away", 1000 * nn.functional.one_hot(torch.tensor(k), 30))

    def forward(self, x):
        seen = torch.cdist(x.flatten(1), self.seen).amin(1) < 0.1
        return self.inner(x) - seen[:, None] * self.away


@pytest.mark.parametrize("reference", [False, True])
def test_a_class_whose_unseen_images_are_still_named_right_is_not_forgotten(reference):
    data, test = as_dataset(30, 20), as_dataset(30, 20, seed=1)
    x = data.tensors[0][data.tensors[1] == 3] / 255
    given = {"reference": reader(range(30), blind=(3,))} if reference else {}
    checked = check(reader(range(30)), data, "3", test=test, **given)
    found = recheck(checked, Hides(reader(range(30)), x, 3))
    rows = {(one["model"], one["part"]): one["percent"] for one in found["accuracy"]}
    assert rows["after", "forget"] == 0 and rows["after", "test_forget"] == 100
    assert found["verdict"]["parts"]["forgetting"] == "partly" and found["verdict"]["word"] == "partly"
    said = "What was to be forgotten is still known: of '3' 20 of 20 test images of what is forgotten are named right"
    assert any(one.startswith(said) for one in found["verdict"]["findings"])
    gone = recheck(checked, reader(range(30), blind=(3, 29)))["verdict"]  # the control
    assert gone["parts"]["forgetting"] == "forgotten" and "still known" not in str(gone)


@pytest.mark.parametrize("reference", [False, True])
def test_a_small_class_is_not_hidden_by_a_large_one_that_was_forgotten_with_it(reference):
    x, y = photos(30, 400)
    kept = torch.from_numpy((y != 4) | (torch.arange(len(y)).numpy() % 400 < 8))
    data = TensorDataset(torch.from_numpy(x).permute(0, 3, 1, 2)[kept], torch.from_numpy(y)[kept])
    given = {"reference": reader(range(30), blind=(3, 4))} if reference else {}
    checked = check(reader(range(30)), data, ["3", "4"], **given)
    found = {blind: recheck(checked, reader(range(30), (*blind, 28)))["verdict"] for blind in ((3,), (3, 4))}
    assert found[3,]["parts"]["forgetting"] == "partly" and found[3, 4]["parts"]["forgetting"] == "forgotten"
    assert "of '4' 8 of 8 forgotten training images are named right" in str(found[3,]["findings"])


def test_every_word_fits_the_schema():
    pattern, kept = SCHEMA["properties"]["verdict"]["properties"]["word"]["pattern"], {"before": 0.71, "after": 0.675}
    for scenario in ("class", "random"):
        word = judged(360, 0, 0, scenario=scenario, kept={**kept, "reference": 0.71}, roll=300)["word"]
        assert "what is kept cannot be told" in word and re.search(pattern, word)
    assert not re.search(pattern, "forgotten, perhaps")


class Merged(nn.Module):
    """LoRA that is added to the weight in eval mode and taken from it in training mode, as loralib does."""

    def __init__(self, inner, low):
        super().__init__()
        self.inner, self.done = inner, False
        self.a = nn.Parameter(torch.randn(2, 128, generator=torch.manual_seed(0)))
        self.b = nn.Parameter(torch.full((10, 2), low))

    def forward(self, x):
        hidden = self.inner[:-1](x)
        return self.inner[-1](hidden) + (0 if self.done else hidden @ (self.b @ self.a).T)

    def train(self, mode=True):
        """Merges, or takes apart."""
        if self.done == mode:
            self.inner[-1].weight.data += (self.b @ self.a).detach() * (-1 if mode else 1)
            self.done = not mode
        return super().train(mode)


def test_weights_that_change_with_the_mode(model, parts, tmp_path):
    with refused("other weights in training than in eval mode .inner.8.weight: LoRA that is merged..: let both have"):
        forget(Merged(copy.deepcopy(model), 0.01), parts, **BRIEF)
    found = forget(Merged(copy.deepcopy(model), 0.0), parts, out=tmp_path / "out", **BRIEF)  # not to be told yet
    assert weights_digest(found.model) == found.report["done"]["model"]["sha256_after"]
    again = Merged(network(), 0.0).eval()
    again.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    x = parts[1].tensors[0][:9]
    assert torch.allclose(again(x), found.model(x), atol=1e-5)


@dataclass(slots=True)
class Slim:
    """What has no ``__dict__``."""

    scale: torch.Tensor


class Partial(nn.Module):
    """Its file has the head alone, as of those who keep a backbone elsewhere."""

    def __init__(self, inner, whole):
        super().__init__()
        self.inner, self.whole = inner, whole

    def forward(self, x):
        return self.inner(x)

    def state_dict(self, *args, **more):
        """Without the layers below."""
        found = super().state_dict(*args, **more)
        return found if self.whole else {name: x for name, x in found.items() if ".8." in name}


def test_a_model_whose_state_lacks_weights_is_refused(model, parts):
    with refused("model.state_dict.. lacks 6 of its weights .inner.0.weight, .*which no file would have"):
        forget(Partial(copy.deepcopy(model), False), parts, dry_run=True)
    forget(Partial(copy.deepcopy(model), True), parts, dry_run=True)


def test_a_module_without_modes_and_one_of_another_type_are_named(model, parts):
    class Half(nn.Sequential):
        def forward(self, x):
            return super().forward(x.half())

    class Frozen(nn.Sequential):
        def train(self, mode=True):
            raise NotImplementedError("Calling train() is not supported")

    class Mute(nn.Sequential):
        def eval(self):
            self.train(False)

    with refused("model.eval is unlike torch's .it does not return the model"):
        forget(Mute(*copy.deepcopy(model)), parts, dry_run=True)
    with refused("model.train is unlike torch's .Calling train.*of an exported program give the nn.Module"):
        forget(Frozen(*copy.deepcopy(model)), parts, dry_run=True)
    slim = copy.deepcopy(model)
    slim.config = Slim(torch.zeros(1))
    forget(slim, parts, dry_run=True)
    with refused("takes no images of shape .*forward takes the images alone, in float32"):
        forget(Half(*copy.deepcopy(model)), parts, dry_run=True)


def test_a_reference_that_was_not_retrained_or_for_other_images(model, parts, tmp_path):
    given = {"data": str(files_of(model, parts, tmp_path) / "photos"), "model": str(tmp_path / "model.safetensors")}
    given |= {"arch": "own_model:network", "normalise": "unit", "classes": str(tmp_path / "names.txt")}
    checked, file = check(**given, forget="trouser"), tmp_path / "other.safetensors"
    models.save(alike(model), file, {"method": "megu", "forget": checked.digest})
    with refused("reference 'other.safetensors' says that it was not retrained, but made by megu: give a model that"):
        check(**given, forget="trouser", reference=file)
    for digest, told in (("0" * 64, True), (checked.digest, False)):
        models.save(alike(model), file, {"method": "retrain", "forget": digest})
        said = str(check(**given, forget="trouser", reference=file).notices)
        assert ("says that other images than those that are to be forgotten now were left out of its" in said) == told


def test_what_a_check_would_not_do_is_refused(model, parts):
    data, test, one = as_dataset(30, 20), as_dataset(30, 20, seed=1), reader(range(30), blind=(3, 5))
    with refused("the model to check has the weights of the reference: give another"):
        recheck(check(reader(range(30)), data, "3", test=test, reference=one), copy.deepcopy(one))
    for more, words in (
        ({"tune": 3}, "tune is 3"), ({"settings": {"recipe.lr": 1.0}}, "setting 'recipe.lr' is of a method"),
        ({"settings": {"threads": 1}}, ""),
    ):  # fmt: skip
        checked = check(reader(range(30)), data, "3", test=test, **more)
        if words:
            with refused(f"{words}, and here nothing is trained: leave it out"):
                recheck(checked, one)
        else:
            recheck(checked, one)


def test_a_checkpoint_takes_numbers_of_any_type():
    one, levels = made(), torch.randint(0, 256, (3, 3, 32, 32))
    with torch.no_grad():
        wanted, white = one(levels.to(torch.uint8)), one(torch.ones(1, 3, 32, 32))
        assert torch.allclose(one(levels), wanted) and torch.allclose(one(levels.double() / 255), wanted, atol=1e-5)
        assert torch.equal(one(torch.ones(1, 3, 32, 32, dtype=torch.bool)), white)
        one.net.phase = nn.Parameter(torch.ones(1, dtype=torch.complex64))
        assert torch.allclose(one(levels), wanted)
        del one.net.phase
        assert one.half()(levels.half() / 255).dtype == torch.float16


def test_a_logger_of_ones_own_is_taken(model, parts):
    class Mine(Logger):
        said: ClassVar = {}

        def scalar(self, name, value, step):
            self.said[name] = value

    forget(model, parts, log=Mine(), **BRIEF)
    assert "accuracy/forget/after" in Mine.said and any(name.endswith("/loss") for name in Mine.said)
    with refused("log .'csv', 'wandb'. does not exist"):
        forget(model, parts, log=["csv", "wandb"], **BRIEF)


def test_frozen_weights_are_not_retrained_from_chance(model, parts):
    frozen = copy.deepcopy(model)
    frozen[0].requires_grad_(False)
    with refused("the model cannot be retrained here .416 of its weights are frozen, .*retrain it yourself, and give"):
        forget(frozen, parts, retrain=True, dry_run=True)


def test_guides_that_say_nothing(caplog):
    with refused("guide is a Tensor: give a name, or a 2 x 2 matrix"):
        guide_choice.choose_guide(torch.rand(2, 2, requires_grad=True), ("a", "b"))
    for matrix, told in ((torch.full((4, 4), 0.25), True), (torch.eye(4), False)):
        caplog.clear()
        forget_of = check(reader(range(4)), as_dataset(), "1", guide=matrix)
        guide_choice._chosen(forget_of, None)
        assert ("tells no classes apart" in caplog.text) == told
