"""Classifiers: one interface, one features seam, weights without pickles."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize
from training import same
from transformers import ViTConfig, ViTForImageClassification

from megu.core import models
from megu.core.device import generator, seeded
from megu.core.train import predict

GREY = (1, 28, 28)


@pytest.mark.parametrize("arch", ["resnet-small", "resnet18", "vit-tiny"])
@pytest.mark.parametrize("shape", [GREY, (3, 32, 32)])
def test_logits_features_and_files(arch, shape, tmp_path):
    model, x = models.build(arch, 7, shape, seed=0).eval(), torch.randn(3, *shape)
    logits, found = models.features(model, x)
    assert logits.shape == (3, 7) and torch.equal(logits, model(x))
    assert torch.allclose(models.head(model)(found), logits, atol=1e-5)
    blank = models.build(arch, 7, shape, seed=1).eval()
    assert not same(model, blank)
    models.save(model, tmp_path / "m.safetensors", {"arch": arch})
    assert same(model, models.load(tmp_path / "m.safetensors", blank))


def test_features_of_a_named_layer_and_of_a_model_that_is_not_ours():
    model = models.build("resnet-small", 5, GREY, seed=0).eval()
    assert models.features(model, torch.randn(2, *GREY), "stem")[1].shape == (2, 16)
    theirs = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    assert models.features(theirs, torch.randn(2, 1, 2, 2))[1].shape == (2, 8)
    with pytest.raises(ValueError, match="no linear layer"):
        models.head(nn.Flatten())
    theirs.forward = theirs[:2].forward
    with pytest.raises(ValueError, match="plays no part"):
        models.features(theirs, torch.randn(2, 1, 2, 2))


def test_weights_follow_the_seed():
    one, again, other = (models.build("resnet-small", 5, GREY, seed) for seed in (3, 3, 4))
    retrained = models.build("resnet-small", 5, GREY, seed=3, purpose="retrained")
    assert same(one, again)
    for model in (other, retrained):
        assert not torch.equal(one.head.weight, model.head.weight)
        assert not torch.equal(one.stem[0].weight, model.stem[0].weight)


def test_vit_resizes_each_batch_and_the_images_stay_as_they_are(mini):
    """The pool does not grow with the network's input, and the logits are those of images resized beforehand."""
    images = replace(mini, x=mini.x[:70].repeat(1, 3, 1, 1), mean=mini.mean.repeat(3), std=mini.std.repeat(3))
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = ViTConfig(**size, image_size=224, patch_size=32, num_labels=5)
    with seeded(generator(0, "vit")):
        model, seen = models.ViT(ViTForImageClassification(config)).eval(), []
    model.net.register_forward_pre_hook(lambda _, __, given: seen.append(given["pixel_values"].shape), with_kwargs=True)
    before, index = images.x.untyped_storage().nbytes(), torch.arange(70)
    found = predict(model, images, index, batch=32)
    assert seen == [(32, 3, 224, 224), (32, 3, 224, 224), (6, 3, 224, 224)]
    assert images.x.dtype == torch.uint8 and images.x.untyped_storage().nbytes() == before == 70 * 3 * 28 * 28
    whole = resize(images.batch(index), [224, 224], InterpolationMode.BILINEAR, antialias=True)
    assert whole.untyped_storage().nbytes() == 256 * before  # 64 times the pixels, 4 bytes each
    with torch.no_grad():
        assert (model(whole) - found).abs().max() < 1e-5
        assert (model(whole.flip(3)) - found).abs().max() > 1e-3
