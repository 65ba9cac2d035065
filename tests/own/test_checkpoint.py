"""Checkpoints: made of a run's model, written, read, sent; refused in one line where anything is not what it says."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hub import FakeApi
from huggingface_hub import hub_mixin
from refusals import refused
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from megu.cli.export import export
from megu.cli.main import app
from megu.core import models
from megu.core import weights as pretrained
from megu.core.loading import weights_digest
from megu.core.train import predict
from megu.own import checkpoint
from megu.own.checkpoint import About, Checkpoint
from megu.runs.experiment import Experiment
from megu.settings.config import Forget
from megu.settings.errors import SettingsError

ARCHS = (("resnet-small", (3, 32, 32)), ("resnet18", (1, 28, 28)), ("vit-tiny", (3, 32, 32)), ("vit-b16", (3, 32, 32)))
FILES = ["README.md", "config.json", "model.safetensors"]


def made(arch="resnet-small", shape=(3, 32, 32), **more):
    net = models.build(arch, 4, shape, 0, weights="random").eval()
    images = {part: {"images": n, "content": "f" * 32} for part, n in (("train", 50), ("test", 10))}
    usual = dict(
        arch=arch, stem=checkpoint.STEMS[arch], classes=("a", "b", "c", "d"), shape=shape, mean=[0.4] * shape[0],
        std=[0.25] * shape[0], method="megu", seed=3, forget=Forget(classes=("b",)), split="0123456789ab",
        data="cifar10", images=images, weights=weights_digest(net), code="c0de", megu="0",
    )  # fmt: skip
    return Checkpoint(net, About(**{**usual, **more}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "saved"
    made().save_pretrained(path)
    return path


def written(path, **changes):
    """A checkpoint whose config was changed; None takes a key away."""
    file = path / "config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


@pytest.mark.parametrize(("arch", "shape"), ARCHS)
def test_what_is_saved_is_what_is_read(arch, shape, tmp_path, monkeypatch):
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}  # no hub
    monkeypatch.setattr(pretrained, "CONFIG", {**pretrained.CONFIG, **small})
    one = made(arch, shape)
    one.save_pretrained(tmp_path / "folder")
    two = Checkpoint.from_pretrained(tmp_path / "folder")
    assert sorted(p.name for p in (tmp_path / "folder").iterdir()) == FILES
    assert two.about == one.about and not two.training and weights_digest(two.net) == weights_digest(one.net)
    pixels = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    with torch.no_grad():
        logits = two(pixels)
        assert torch.equal(logits, one(pixels)) and torch.allclose(two(pixels.float() / 255), logits)
        assert torch.allclose(two.net((pixels / 255 - 0.4) / 0.25), logits, atol=1e-5)
        assert not torch.allclose(two.net(pixels / 255), logits, atol=1e-5)


def test_a_models_weights_are_those_of_its_config(folder):
    two = Checkpoint.from_pretrained(folder)
    with torch.no_grad():
        two.net.head.bias += 1
    with refused("the weights have changed .by their hash.: make a new checkpoint of the model"):
        two.save_pretrained(folder.parent / "other")


def other_bias(path):
    state = load_file(path / "model.safetensors")
    state["head.bias"][0] += 1e-3
    save_file(state, path / "model.safetensors")


def only_a_pickle(path):
    (path / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1)}, path / "pytorch_model.bin")


NO_CONFIG = "config.json in 'copy' is no config of a checkpoint .*"
TINY = {"arch": "vit-tiny", "stem": checkpoint.STEMS["vit-tiny"]}
SEALED = "classes, shape, mean, std or weights in config.json in 'copy' do not fit its sha256"


@pytest.mark.parametrize(("spoil", "expected"), [
    (other_bias, "model.safetensors in 'copy' holds other weights than config.json names"),
    (lambda p: torch.save({"a": torch.zeros(1)}, p / "model.safetensors"),
     "is not a safetensors file, .* a pickle can run code"),
    (only_a_pickle, "'model.safetensors' does not exist"),
    (lambda p: (p / "model.safetensors").write_bytes((p / "model.safetensors").read_bytes()[:-9]),
     "'model.safetensors' is damaged"),
    (lambda p: save_file({"a": torch.zeros(1)}, p / "model.safetensors"),
     r"does not fit the architecture.*missing.*1 are unknown, e\.g\. a"),
    (lambda p: (p / "config.json").unlink(), "'copy' has no config.json, nor did .* so it is no checkpoint of megu"),
    ("{", NO_CONFIG + "no JSON object"), ("[" * 10_000, NO_CONFIG + "no JSON object"), ("[]", NO_CONFIG),
    ({"arch": "resnet-smal"}, "arch 'resnet-smal' does not exist; did you mean 'resnet-small'"),
    ({"arch": "resnet18"}, "does not fit the architecture resnet18 .*missing"),
    ({"net": "x"}, "net: Extra inputs are not permitted"),
    ({"forget": {"all": 1}}, "forget.all: Extra inputs are not permitted"),
    ({"mean": None}, "mean: Field required"), ({"mean": [0.1]}, "one of each channel .3."),
    ({"std": [0.0] * 3}, "std.0: Input should be greater than 0"),
    ({"std": [torch.nan] * 3}, "std.0: Input should be a finite number"),
    ({"mean": [0.4, 0.4, -0.1]}, "mean.2: Input should be greater than or equal to 0"),
    ({"mean": [0.4, 0.4, 0.5]}, SEALED), ({"classes": ["a", "b", "d", "c"]}, SEALED), ({"shape": [3, 32, 31]}, SEALED),
    ({"sha256": None}, SEALED),
    ({"classes": ["a", "b", "b", "c"]}, "two classes are called 'b': rename one"),
    ({"classes": ["a"]}, "classes: Tuple should have at least 2 items"),
    ({"stem": "other"}, "stem is 'other', but that of resnet-small is 'convolution 3 x 3"),
    ({"shape": [3, 10**7, 10**7]}, "shape.1: Input should be less than or equal to 1024"),
    ({**TINY, "shape": [3, 2, 2]}, "square and of at least 4 px"),
    ({**TINY, "shape": [3, 32, 28]}, "square and of at least 4 px"),
])  # fmt: skip
def test_what_is_not_what_it_says_is_refused(folder, tmp_path, spoil, expected):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    Checkpoint.from_pretrained(copy)
    if callable(spoil):
        spoil(copy)
    elif isinstance(spoil, str):
        (copy / "config.json").write_text(spoil)
    else:
        written(copy, **spoil)
    with refused(expected):
        Checkpoint.from_pretrained(copy)


@pytest.mark.parametrize("source", ["nobody/nothing", "no such folder", "a/b/c"])
def test_a_hub_that_cannot_be_reached(source):
    with refused(f"checkpoint '{source}' is no folder, and the hub does not give it .*check name and network"):
        Checkpoint.from_pretrained(source)


def test_a_checkpoint_of_the_hub(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(checkpoint, "snapshot_download", lambda *args, **more: asked.append((args, more)) or folder)
    Checkpoint.from_pretrained("someone/forgetful", revision="abc")
    more = {"revision": "abc", "token": None, "allow_patterns": ["config.json", "model.safetensors"]}
    assert asked == [(("someone/forgetful",), more)]


def test_what_is_sent_to_a_hub(monkeypatch):
    monkeypatch.setattr(hub_mixin, "HfApi", FakeApi)
    monkeypatch.setattr(FakeApi, "sent", [])
    assert made().push_to_hub("someone/forgetful", token="hf_secret", private=True) == "there"
    (token, repo, more), files = FakeApi.sent
    assert (token, repo, more["private"]) == ("hf_secret", "someone/forgetful", True)
    assert sorted(files) == FILES and not any(b"hf_secret" in content for content in files.values())


@pytest.mark.parametrize(("more", "expected"), [
    ({}, "made to forget the class b by the method *MeGU*."),
    ({"forget": Forget(scenario="subclass", classes=("a", "b"))}, "made to forget the sub-class a, b by"),
    ({"forget": Forget(scenario="random", count=83)}, "made to forget 83 single training images by"),
    ({"forget": None, "method": "original"}, "as it was before anything was forgotten."),
    ({}, "Nothing was measured in the run that made it."),
    ({"measured": {"tow": (0.91234, 1.0, "share", "strict")}}, "| tow | strict | share | 0.912 | 1.0 |"),
    ({"measured": {"tow": (None, None, "share", "strict")}}, "| tow | strict | share | n/a | not measured |"),
])  # fmt: skip
def test_the_card_says_what_the_model_is(more, expected):
    card = made(**more).generate_model_card()
    assert (card.data.library_name, card.data.pipeline_tag) == ("megu", "image-classification")
    card = str(card)
    assert expected in card and "SHA-256 of the weights" in card and "{{" not in card
    assert ("Nothing was measured" in card) == ("measured" not in more)


@pytest.fixture(scope="module")
def run(tiny_overrides, tmp_path_factory):
    """A run with two measured models."""
    overrides = {**tiny_overrides, "seeds": 1, "training.epochs": 1}
    lab = Experiment(run_dir=tmp_path_factory.mktemp("runs") / "one", overrides=overrides)
    for name in ("finetune", "retrain"):
        lab.rows(name, 0)
    return lab


def test_a_runs_model_is_exported_without_its_data(run, tmp_path):
    said = exported(run, tmp_path / "out")
    assert said.exit_code == 0 and "written  model.safetensors, config.json, README.md" in said.output
    found = Checkpoint.from_pretrained(tmp_path / "out")
    index = run.split.test_retain
    logits = [predict(model, run.images, index) for model in (run.unlearned("finetune", 0), run.original(0))]
    with torch.no_grad():
        assert torch.allclose(found(run.images.x[index]), logits[0], atol=1e-5)
        assert not torch.allclose(found(run.images.x[index]), logits[1], atol=1e-3)
    about, rows = found.about, run.rows("finetune", 0).set_index("metric")["value"]
    assert about.classes == run.images.classes and about.split == run.split.digest()
    assert about.forget == run.settings.forget and set(about.measured) == set(rows.index)
    assert about.images["train"]["content"] == run.run.manifest["notes"]["images"]["train"]["content"]
    assert about.measured["acc_retain_test"][0] == pytest.approx(rows["acc_retain_test"])
    assert about.measured["tow"][1] == 1.0  # the retrained model's own
    written = [file.read_text(errors="ignore") for file in (tmp_path / "out").iterdir()]
    assert str(run.run.path.parent) not in "".join(written)
    original = export(run.run.path, "original", 0).about
    assert original.forget is None and not original.measured


def exported(run, *more):
    return CliRunner().invoke(app, ["export", str(run.run.path), "finetune", "0", "--out", *map(str, more)])


def test_what_cannot_be_exported(run, tmp_path):
    with refused("is no run directory of this version"):
        export(tmp_path, "megu", 0)
    with refused("the model 'fintune-0' does not exist; did you mean 'finetune-0'"):
        export(run.run.path, "fintune", 0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert "'full' is not empty: name a new folder" in str(exported(run, tmp_path / "full").exception)
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("file", ["models/finetune-0.safetensors", "rows/finetune-0-0.csv", "rows/retrain-0-0.csv"])
def test_what_a_run_did_not_write_is_not_exported(run, tmp_path, file):
    other = Path(shutil.copytree(run.run.path, tmp_path / "other"))
    assert export(other, "finetune", 0).about == export(run.run.path, "finetune", 0).about
    with open(other / file, "a") as there:
        there.write(" ")
    with refused(f"{file} in 'other' is not the file that was written there"):
        export(other, "finetune", 0)


class ConnectError(Exception):
    """No OSError, as that of the client that reaches the hub."""


class Unreachable(FakeApi):
    def create_repo(self, *_, **__):
        raise ConnectError("[Errno 111] Connection refused\nmore")


def test_what_cannot_be_sent_is_one_line_and_written_all_the_same(run, tmp_path, monkeypatch):
    for api, why in ((None, ""), (Unreachable, "ConnectError: [Errno 111] Connection refused")):
        out = tmp_path / why[:7]
        if api:
            monkeypatch.setattr(hub_mixin, "HfApi", api)
        said = exported(run, out / "out", "--push", "someone/forgetful").exception
        assert isinstance(said, SettingsError) and f"'someone/forgetful' was not sent ({why}" in str(said)
        assert "\n" not in str(said) and Checkpoint.from_pretrained(out / "out")
