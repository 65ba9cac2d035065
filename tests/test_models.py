"""Classifiers: one interface, one features seam, weights without pickles."""

import pytest
import torch

from megu import models
from megu.values import SettingsError

ARCHS = ("resnet-small", "resnet18", "vit-tiny")


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_logits_and_features(arch, shape):
    model = models.build(arch, 7, shape, seed=0).eval()
    x = torch.randn(3, *shape)
    logits, found = models.features(model, x)
    assert logits.shape == (3, 7) and torch.equal(logits, model(x))
    assert torch.allclose(models.head(model)(found), logits, atol=1e-5)


def test_features_of_a_named_layer_and_of_a_model_that_is_not_ours():
    model = models.build("resnet-small", 5, (1, 28, 28), seed=0).eval()
    assert models.features(model, torch.randn(2, 1, 28, 28), "stem")[1].shape == (2, 16)
    theirs = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    assert models.features(theirs, torch.randn(2, 1, 2, 2))[1].shape == (2, 8)
    with pytest.raises(ValueError, match="no linear layer"):
        models.head(torch.nn.Flatten())


def test_weights_follow_the_seed():
    same = [models.build("resnet-small", 5, (1, 28, 28), seed=3) for _ in range(2)]
    other = models.build("resnet-small", 5, (1, 28, 28), seed=4)
    retrained = models.build("resnet-small", 5, (1, 28, 28), seed=3, purpose="retrained")
    assert torch.equal(same[0].head.weight, same[1].head.weight)
    for model in (other, retrained):
        assert not torch.equal(same[0].head.weight, model.head.weight)
        assert not torch.equal(same[0].stem[0].weight, model.stem[0].weight)


@pytest.mark.parametrize("arch", ARCHS)
def test_save_and_load(arch, tmp_path):
    model, blank = (models.build(arch, 5, (1, 28, 28), seed=s).eval() for s in (0, 1))
    models.save(model, tmp_path / "m.safetensors", {"arch": arch})
    loaded = models.load(tmp_path / "m.safetensors", blank)
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(model(x), loaded(x))


def test_vit_resizes_on_its_own():
    model = models.build("vit-tiny", 5, (3, 32, 32), seed=0).eval()
    assert model(torch.randn(2, 3, 48, 48)).shape == (2, 5)


def test_imagenet_weights_without_network_are_refused_with_a_remedy():
    with pytest.raises(SettingsError, match="use arch vit-tiny"):
        models.build("vit-b16", 5, (3, 32, 32), seed=0)
