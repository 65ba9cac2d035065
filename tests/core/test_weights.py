"""ViT-B/16 from a file, a folder, the hub or drawn at random: which weights, that the head is new, and what a manifest
says.

A small configuration stands for the network, so that nothing is downloaded and a test takes a second.
"""

import numpy as np
import pytest
import torch
from refusals import refused
from safetensors.torch import load_file, save_file
from transformers import ViTConfig, ViTForImageClassification
from transformers import utils as hub

from megu.core import models
from megu.core import weights as pretrained
from megu.runs.experiment import Experiment
from megu.settings.files import hash_file
from megu.settings.profiles import resolve

SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 48,
    "patch_size": 16,
    "num_channels": 3,
}
SHAPE = (3, 32, 32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A published ViT with a head of 7 classes, as transformers saves it."""
    monkeypatch.setattr(pretrained, "CONFIG", SMALL)
    torch.manual_seed(1)
    ViTForImageClassification(ViTConfig(num_labels=7, **SMALL)).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def backbone(model):
    return {name: tensor for name, tensor in model.net.state_dict().items() if not name.startswith("classifier")}


def equal(a, b):
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_the_network_is_the_published_one_and_the_head_follows_the_seed(folder):
    published = ViTForImageClassification.from_pretrained(folder).state_dict()
    for k in (5, 7):
        one, same, other = (models.build("vit-b16", k, SHAPE, seed, weights=str(folder)) for seed in (0, 0, 1))
        for model in (one, other):
            assert all(torch.equal(tensor, published[name]) for name, tensor in backbone(model).items())
        assert equal(one.state_dict(), same.state_dict()) and not torch.equal(
            one.net.classifier.weight, other.net.classifier.weight
        )
        assert one.net.classifier.weight.shape == (k, 24) and 0.01 < one.net.classifier.weight.std() < 0.04
    assert not torch.equal(one.net.classifier.weight, published["classifier.weight"]), (
        "the head for as many classes is new as well"
    )
    assert one(torch.randn(2, *SHAPE)).shape == (2, 7)


def test_names_of_older_versions_are_understood(folder):
    """The hub's file says vit.encoder.layer.0.attention.attention.query, transformers 5 says
    vit.layers.0.attention.q_proj."""
    new = models.build("vit-b16", 5, SHAPE, 0, weights=str(folder / "model.safetensors"))
    saved = load_file(folder / "model.safetensors")
    assert "vit.encoder.layer.0.attention.attention.query.weight" in saved
    assert "vit.layers.0.attention.q_proj.weight" in new.net.state_dict()
    save_file(new.net.state_dict(), folder / "other.safetensors")
    assert equal(
        backbone(models.build("vit-b16", 5, SHAPE, 0, weights=str(folder / "other.safetensors"))), backbone(new)
    )


def test_the_hub_is_asked_for_the_same_file(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(hub, "cached_file", lambda *what: asked.append(what) or str(folder / "model.safetensors"))
    assert equal(
        models.build("vit-b16", 5, SHAPE, 0).state_dict(),
        models.build("vit-b16", 5, SHAPE, 0, weights=str(folder)).state_dict(),
    )
    assert asked == [("google/vit-base-patch16-224", "model.safetensors")]
    assert (
        pretrained.identity(None)
        == pretrained.identity(str(folder))
        == f"sha256 {hash_file(folder / 'model.safetensors')}"
    )


def test_random_weights_follow_the_seed(folder):
    one, same, other = (models.build("vit-b16", 5, SHAPE, seed, weights="random") for seed in (0, 0, 1))
    assert equal(one.state_dict(), same.state_dict()) and not equal(one.state_dict(), other.state_dict())
    assert pretrained.identity("random") == "random"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: {name: tensor for name, tensor in state.items() if "layernorm_before" not in name},
            r"lacks vit\.\S*layernorm_before\S* \(of 4 such",
        ),
        (lambda state: {**state, "surplus": torch.zeros(1)}, r"has surplus \(of 1 such"),
        (
            lambda state: {
                name: tensor[..., :-1].contiguous() if "position" in name else tensor for name, tensor in state.items()
            },
            "has in another shape .*position",
        ),
    ],
)
def test_a_file_of_another_network_is_refused(folder, change, message):
    save_file(change(load_file(folder / "model.safetensors")), folder / "wrong.safetensors")
    with refused(f"weights 'wrong.safetensors' are not of google/vit-base-patch16-224: the file {message}"):
        models.build("vit-b16", 5, SHAPE, 0, weights=str(folder / "wrong.safetensors"))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_trained_in_float32(folder, kind):
    state = load_file(folder / "model.safetensors")
    save_file({name: tensor.to(kind) for name, tensor in state.items()}, folder / "half.safetensors")
    model = models.build("vit-b16", 5, SHAPE, 0, weights=str(folder / "half.safetensors"))
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    name = "vit.embeddings.cls_token"
    assert model.net.state_dict()[name].equal(state[name].to(kind).float()) and not model.net.state_dict()[name].equal(
        state[name]
    )


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused(folder, value):
    state = load_file(folder / "model.safetensors")
    state["vit.layernorm.bias"][3] = value
    save_file(state, folder / "broken.safetensors")
    with refused(
        r"'broken.safetensors' holds values that are no numbers .*, e\.g\. in vit\.layernorm\.bias: copy or"
        r" download"
    ):
        models.build("vit-b16", 5, SHAPE, 0, weights=str(folder / "broken.safetensors"))


def test_what_cannot_be_read_is_refused_with_a_remedy(folder, tmp_path):
    (folder / "broken.safetensors").write_bytes(b"no weights")
    for weights, message in (
        (folder / "broken.safetensors", "'broken.safetensors' is (damaged|not a safetensors file)"),
        (tmp_path / "none", "'none' in .* is no .safetensors file"),
        (tmp_path, "'model.safetensors' in .* is no .safetensors file"),
        (folder / "config.json", "'config.json' in .* is no .safetensors file"),
        (None, "could not be downloaded: check the network, set weights to a local folder"),
    ):
        pretrained._from_hub.cache_clear()
        with refused(message):
            models.build("vit-b16", 5, SHAPE, 0, weights=weights and str(weights))
    with refused("takes images of 3 channels, these have 1: use arch vit-tiny"):
        models.build("vit-b16", 5, (1, 28, 28), 0, weights=str(folder))


def test_the_setting_is_absolute_and_stays_on_this_machine(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = resolve(overrides={"weights": "vit"})
    assert settings.weights == str(tmp_path / "vit") and "weights" not in settings.model_dump()
    assert resolve(overrides={"weights": "random"}).weights == "random" and resolve().weights is None
    monkeypatch.setenv("MEGU_WEIGHTS", "/home/me/vit")
    assert resolve().weights == "/home/me/vit"


def test_the_manifest_names_the_weights_and_runs_of_others_are_apart(folder, tmp_path):
    rng = np.random.default_rng(0)
    data = tmp_path / "colour.npz"
    np.savez(
        data,
        x_train=rng.integers(0, 256, (40, 32, 32, 3), np.uint8),
        y_train=np.arange(40) % 4,
        x_test=rng.integers(0, 256, (8, 32, 32, 3), np.uint8),
        y_test=np.arange(8) % 4,
        class_names=np.array(["shirt", "bag", "coat", "boot"]),
    )
    usual = {
        "data.name": "npz",
        "data.path": str(data),
        "arch": "vit-b16",
        "training.epochs": 1,
        "training.lr": 1e-3,
        "training.batch": 16,
        "retain_images": 8,
    }
    labs = {
        name: Experiment(run_dir=tmp_path / name, overrides={**usual, "weights": weights})
        for name, weights in (("file", str(folder)), ("drawn", "random"))
    }
    said = {name: lab.run.manifest["weights"] for name, lab in labs.items()}
    assert said == {"file": f"sha256 {hash_file(folder / 'model.safetensors')}", "drawn": "random"}
    assert labs["file"].shared.path != labs["drawn"].shared.path
    assert str(tmp_path) not in (labs["file"].run.path / "manifest.json").read_text()
    found = labs["file"].unlearned("retrain", 0), labs["drawn"].unlearned("retrain", 0)
    published = ViTForImageClassification.from_pretrained(folder).state_dict()
    name = "vit.embeddings.cls_token"
    near, far = ((model.net.state_dict()[name] - published[name]).norm() for model in found)
    assert near < 0.5 * far, "retraining starts from the published weights"
