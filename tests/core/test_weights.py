"""ViT-B/16 from a file, a folder, the hub or drawn at random: which weights, that the head is new, and what a manifest
says.

A small configuration stands for the network, so that nothing is downloaded and a test takes a second.
"""

import json

import pytest
import torch
from own_model import same as alike
from refusals import refused
from safetensors.torch import load_file, save_file
from training import same
from transformers import ViTConfig, ViTForImageClassification
from transformers import utils as hub

from megu.core import models
from megu.core import weights as pretrained
from megu.runs.experiment import Experiment
from megu.settings.files import hash_file

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SMALL |= {"image_size": 48, "patch_size": 16, "num_channels": 3}
SHAPE = (3, 32, 32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A published ViT with a head of 7 classes, as transformers saves it."""
    monkeypatch.setattr(pretrained, "CONFIG", SMALL)
    torch.manual_seed(1)
    ViTForImageClassification(ViTConfig(num_labels=7, **SMALL)).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def built(weights, k=5, seed=0, shape=SHAPE):
    return models.build("vit-b16", k, shape, seed, weights=weights and str(weights))


def changed(folder, change):
    """A file beside the published one, with tensors that a function gives."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "changed.safetensors")
    return folder / "changed.safetensors"


def same_backbone(model, other):
    """Whether all but the head is the same, bit for bit."""
    one, other = (m.state_dict() for m in (model.net, other))
    return set(one) == set(other) and all(one[name].equal(other[name]) for name in one if "classifier" not in name)


def test_the_network_is_the_published_one_or_drawn_and_the_head_follows_the_seed(folder):
    published = ViTForImageClassification.from_pretrained(folder)
    for k in (5, 7):
        one, again, other = (built(folder, k, seed) for seed in (0, 0, 1))
        heads = [model.classifier.weight for model in (one.net, other.net, published)]
        assert same_backbone(one, published) and same_backbone(other, published)
        assert same(one, again) and not heads[0].equal(heads[1])
        assert heads[0].shape == (k, 24) and 0.01 < heads[0].std() < 0.04
    assert not heads[0].equal(heads[2]), "the head for as many classes is new as well"
    assert one(torch.randn(2, *SHAPE)).shape == (2, 7)
    one, again, other = (built("random", seed=seed) for seed in (0, 0, 1))
    assert same(one, again) and not same_backbone(one, other.net) and pretrained.identity("random") == "random"


def test_names_of_older_versions_are_understood(folder):
    """The hub's file says vit.encoder.layer.0.attention.attention.query, transformers 5 says
    vit.layers.0.attention.q_proj."""
    new = built(folder / "model.safetensors")
    assert "vit.encoder.layer.0.attention.attention.query.weight" in load_file(folder / "model.safetensors")
    assert "vit.layers.0.attention.q_proj.weight" in new.net.state_dict()
    assert same_backbone(built(changed(folder, lambda _: new.net.state_dict())), new.net)


def test_the_hub_is_asked_for_the_same_file(folder, monkeypatch):
    asked, file = [], folder / "model.safetensors"
    monkeypatch.setattr(hub, "cached_file", lambda *what: asked.append(what) or str(file))
    pretrained._from_hub.cache_clear()
    assert same(built(None), built(folder))
    assert pretrained.identity(None) == pretrained.identity(str(folder)) == f"sha256 {hash_file(file)}"
    assert asked == [("google/vit-base-patch16-224", "model.safetensors")]


def lacking(state):
    return {name: tensor for name, tensor in state.items() if "layernorm_before" not in name}


def cut(state):
    return {name: tensor[..., :-1].contiguous() if "position" in name else tensor for name, tensor in state.items()}


def no_number(value):
    def change(state):
        state["vit.layernorm.bias"][3] = value
        return state

    return change


OTHER = "are not of google/vit-base-patch16-224: the file"
BROKEN = r"holds values that are no numbers .*, e\.g\. in vit\.layernorm\.bias: copy or download"


@pytest.mark.parametrize(("change", "message"), [
    (lacking, rf"{OTHER} lacks vit\.\S*layernorm_before\S* \(of 4 such"),
    (lambda state: {**state, "surplus": torch.zeros(1)}, rf"{OTHER} has surplus \(of 1 such"),
    (cut, rf"{OTHER} has in another shape .*position"),
    (no_number(torch.nan), BROKEN),
    (no_number(torch.inf), BROKEN),
])  # fmt: skip
def test_a_file_of_another_network_or_without_numbers_is_refused(folder, change, message):
    with refused(f"weights 'changed.safetensors' {message}"):
        built(changed(folder, change))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_trained_in_float32(folder, kind):
    model = built(changed(folder, lambda state: {name: tensor.to(kind) for name, tensor in state.items()}))
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    name = "vit.embeddings.cls_token"
    found, whole = model.net.state_dict()[name], load_file(folder / "model.safetensors")[name]
    assert found.equal(whole.to(kind).float()) and not found.equal(whole)


def test_a_folder_and_an_index_stand_for_their_files(folder):
    whole = pretrained.read_tensors(folder)
    assert alike(pretrained.read_tensors(folder / "model.safetensors"), whole)
    names, parts = sorted(whole), {}
    for part in (0, 1):
        file = f"model-0000{part}-of-00002.safetensors"
        save_file({name: whole[name] for name in names[part::2]}, folder / file)
        parts |= dict.fromkeys(names[part::2], file)
    (folder / "model.safetensors").unlink()
    (index := folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    for path in (folder, index):
        assert alike(pretrained.read_tensors(path), whole)
    index.write_text("[]")
    with refused("is no index of safetensors"):
        pretrained.read_tensors(folder)
    index.unlink()
    with refused("model 'vit' is a folder without model.safetensors"):
        pretrained.read_tensors(folder, "model")


def test_what_cannot_be_read_is_refused_with_a_remedy(folder, tmp_path):
    (folder / "broken.safetensors").write_bytes(b"no weights")
    for weights, message in (
        (folder / "broken.safetensors", r"'broken.* is not a safetensors file.*save_file\(.*weights_only=True"),
        (tmp_path / "none", "'none' in .* is no .safetensors file"),
        (tmp_path, "'model.safetensors' in .* is no .safetensors file"),
        (folder / "config.json", "'config.json' in .* is no .safetensors file"),
        (None, "could not be downloaded: check the network, set weights to a local folder .* use arch vit-tiny"),
    ):
        pretrained._from_hub.cache_clear()
        with refused(message):
            built(weights)
    with refused("takes images of 3 channels, these have 1: use arch vit-tiny"):
        built(folder, shape=(1, 28, 28))


def test_the_manifest_names_the_weights_and_runs_of_others_are_apart(folder, changes, tmp_path):
    usual = {**changes, "data.name": "cifar10", "forget.classes": ["cat"], "arch": "vit-b16", "training.lr": 1e-3}
    file, drawn = (
        Experiment(run_dir=tmp_path / name, overrides={**usual, "weights": weights})
        for name, weights in (("file", str(folder)), ("drawn", "random"))
    )
    assert file.run.manifest["weights"] == f"sha256 {hash_file(folder / 'model.safetensors')}"
    assert drawn.run.manifest["weights"] == "random" and file.shared.path != drawn.shared.path
    name = "vit.embeddings.cls_token"
    published = load_file(folder / "model.safetensors")[name]
    near, far = ((lab.unlearned("retrain", 0).net.state_dict()[name] - published).norm() for lab in (file, drawn))
    assert str(tmp_path) not in (file.run.path / "manifest.json").read_text()
    assert near < 0.5 * far, "retraining starts from the published weights"
