"""Classifiers: one interface, weights without pickles; channels last in memory, float32 in noise, and a loss that is a
mean over images and not over batches."""

from dataclasses import fields, replace

import pytest
import torch
from refusals import refused
from torch import nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize
from training import FLOAT32, same
from transformers import ViTConfig, ViTForImageClassification

from megu import methods
from megu.core import models
from megu.core.device import Compute, generator, seeded
from megu.core.splits import Split
from megu.core.train import fit, predict
from megu.datasets.images import pool
from megu.measure.outputs import collect_outputs
from megu.methods import megu as method
from megu.noise_pair import optimise_noise
from megu.settings.config import Noise, Recipe

GREY = (1, 28, 28)
SIX, BRIEF = torch.arange(6), Recipe(epochs=1, batch=3, lr=0.01)


@pytest.mark.parametrize("arch", ["resnet-small", "resnet18", "vit-tiny"])
@pytest.mark.parametrize("shape", [GREY, (3, 32, 32)])
def test_logits_features_files_and_seeds(arch, shape, tmp_path):
    model, x = models.build(arch, 7, shape, seed=0).eval(), torch.randn(3, *shape)
    logits, found = models.features(model, x)
    assert logits.shape == (3, 7) and torch.equal(logits, model(x))
    assert torch.allclose(models.head(model)(found), logits, atol=1e-5)
    assert same(model, models.build(arch, 7, shape, seed=0))
    retrained, other = models.build(arch, 7, shape, 0, "retrained"), models.build(arch, 7, shape, seed=1)
    for blank in (retrained, other):
        drawn = zip(model.parameters(), blank.parameters(), strict=True)
        assert not any(torch.equal(a, b) for a, b in drawn if a.ndim > 1), "every seed and purpose has its own"
    models.save(model, tmp_path / "m.safetensors", {"arch": arch})
    assert same(model, models.load(tmp_path / "m.safetensors", other))


def test_features_of_a_named_layer_and_of_a_model_that_is_not_ours():
    model = models.build("resnet-small", 5, GREY, seed=0).eval()
    assert models.features(model, torch.randn(2, *GREY), "stem")[1].shape == (2, 16)
    theirs = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    assert models.features(theirs, torch.randn(2, 1, 2, 2))[1].shape == (2, 8)
    with pytest.raises(ValueError, match="no linear layer"):
        models.head(nn.Flatten())
    theirs.forward = theirs[:2].forward
    assert models.features(theirs, torch.randn(2, 1, 2, 2))[1].shape == (2, 4), "of the head that is called"
    conv = nn.Sequential(nn.Conv2d(1, 6, 1), nn.Conv2d(6, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert models.features(conv, torch.randn(2, 1, 2, 2))[1].shape == (2, 6)
    with refused("Flatten calls no linear or convolutional layer, so its features are not known: choose a guide"):
        models.features(nn.Flatten(), torch.randn(2, 1, 2, 2))


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


class Probe(nn.Module):
    """A linear classifier of two classes that notes the layout of its images and the precision of its products."""

    def __init__(self, notes=None):
        super().__init__()
        self.linear, self.notes = nn.Linear(48, 2), set() if notes is None else notes

    def forward(self, x):
        out = self.linear(x.flatten(1))
        self.notes.add((x.is_contiguous(memory_format=torch.channels_last), x.is_contiguous(), out.dtype))
        return out

    def __deepcopy__(self, memo):
        other = Probe(self.notes)
        other.load_state_dict(self.state_dict())
        return other


@pytest.fixture(scope="module")
def images():
    x = torch.randint(256, (6, 4, 4, 3), generator=generator(0), dtype=torch.uint8).numpy()
    return pool("coloured", *[(x, torch.tensor([0, 1] * 3).numpy())] * 2, ("a", "b"))


def trained(net, images, compute=FLOAT32):
    x, y = images.batch(SIX), images.y[:6]
    fit(net, lambda index: (x[index], y[index]), 6, BRIEF, generator(0), compute)


def noised(net, images, *around):
    optimise_noise(net, torch.tensor([0, 1]), (3, 4, 4), 1, Noise(steps=2), generator(0), *around)


def noised_around(net, images):
    noised(net, images, images.batch(SIX[:2]))


def predicted(net, images):
    predict(net, images, SIX, batch=3)


def observed(net, images):
    split = Split(*[SIX, *[SIX[:0]] * (len(fields(Split)) - 1)])
    collect_outputs(net, images, split, look=lambda model, x: (model(x), x.flatten(1)))


def trained_in_bfloat16(net, images):
    trained(net, images, Compute(torch.device("cpu"), True))


@pytest.mark.parametrize("use", [trained, noised, noised_around, predicted, observed, trained_in_bfloat16])
def test_images_come_channels_last_and_in_float32(images, use):
    """The control, training in bfloat16, is seen as such."""
    whole = images.batch(SIX)
    assert not whole.is_contiguous(memory_format=torch.channels_last), "so that somebody has to see to it"
    net = Probe()
    use(net, images)
    assert net.notes == {(True, False, torch.bfloat16 if use is trained_in_bfloat16 else torch.float32)}


def test_autocast_is_for_training_and_changes_no_noise(tasks, monkeypatch):
    class EnoughError(Exception):
        pass

    def enough(*_, **__):
        raise EnoughError

    made, real, task = [], method.make_noise, tasks["class", "resnet-small"]
    monkeypatch.setattr(method, "make_noise", lambda *given: made.append(real(*given)) or made[-1])
    monkeypatch.setattr("megu.methods.task.fit", enough)
    parameters = method.MeguSettings(noise=Noise(steps=5))
    for autocast in (False, True):
        with pytest.raises(EnoughError):
            methods.method("megu").unlearn(replace(task, compute=replace(task.compute, autocast=autocast)), parameters)
    (a, b) = made
    assert torch.equal(a.pos, b.pos) and torch.equal(a.neg, b.neg)
    with torch.autocast("cpu", torch.bfloat16):  # negative control: the same noise in bfloat16
        other = real(task, parameters, method.choose_labels(task, parameters))
    assert not torch.equal(a.pos, other.pos)


def test_the_loss_of_an_epoch_is_the_mean_over_images_also_where_batches_differ():
    values, sizes = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), []  # no three of them have the mean of the other two

    def mean(logits, wanted):
        sizes.append(len(wanted))
        return wanted.mean() + 0 * logits.sum()

    def batch(index):
        return torch.zeros(len(index), 1, 1, 1), values[index]

    recipe = Recipe(epochs=2, batch=2, lr=0.01)
    history = fit(nn.Linear(1, 2), batch, 5, recipe, generator(0), FLOAT32, loss=mean)
    assert sizes == [3, 2] * 2 and history == pytest.approx([6.2, 6.2])
