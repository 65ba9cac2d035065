"""The network that trains in few epochs: its stem is of its own images, its seams are those of the others."""

import dataclasses

import pytest
import torch
from refusals import refused
from training import BRIEFLY, same

from megu.core import models, networks
from megu.methods import METHODS, method_settings
from megu.settings.config import Augment, Recipe
from megu.settings.profiles import resolve

RECIPE = Recipe(
    epochs=3, batch=32, lr=0.05, momentum=0.85, norm_bias_lr=8.0, label_smoothing=0.2, lookahead=5,
    schedule="triangular", augment=Augment(padding="reflection", flip="alternate"),
)  # fmt: skip


@pytest.fixture
def small(monkeypatch, tasks):
    """A task with a narrow network of this form."""
    monkeypatch.setitem(networks.AIRBENCH, "airbench", (3, (8, 16, 16)))
    usual = tasks["class", "resnet-small"]
    model = models.build("airbench", 10, usual.images.shape, 0).eval()
    return dataclasses.replace(usual, original=model, arch="airbench", training=RECIPE, draws=[], history={})


def moments(model, x):
    out = torch.nn.functional.conv2d(x, model.stem.weight).movedim(1, 3).flatten(0, 2).double()
    return out.T @ out / len(out)


def test_the_stem_whitens_patches(small):
    model, x = models.copy_of(small.original), small.images.batch(small.split.retain)
    before = moments(model, x)
    model.prepare(x)
    found, half = moments(model, x), len(before) // 2
    assert found.shape == (8, 8) and (found[:half, :half] - torch.eye(half)).abs().max() < 0.1
    assert torch.allclose(found[:half, half:], -found[:half, :half])
    assert (before[:half, :half] - torch.eye(half)).abs().max() > 0.2, "the control"


@pytest.mark.parametrize("arch", networks.AIRBENCH)
def test_parts_weights_and_start(arch):
    model, x = models.build(arch, 7, (3, 32, 32), 0), torch.randn(2, 3, 32, 32)
    count, widths = networks.AIRBENCH[arch]
    assert models.blocks(model, x) == ["layers.0", "layers.1", "layers.2"]
    logits, found = models.features(model.eval(), x)
    assert found.shape == (2, widths[-1]) and torch.allclose(models.head(model)(found), logits)
    assert "stem.weight" in dict(model.named_buffers()) and all(p.requires_grad for p in model.parameters())
    convs = [m for m in model.layers.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convs) == 3 * count and all(m.momentum == 0.4 for m in model.modules() if hasattr(m, "running_var"))
    y = torch.rand(1, widths[0], 9, 9)
    assert torch.allclose(convs[1](y), y), "a convolution starts as the identity"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3.0)
    new = models.reset(model, 0, "retrained")
    assert not any((p == 3).all() for p in new.parameters()) and torch.allclose(
        [m for m in new.layers.modules() if isinstance(m, torch.nn.Conv2d)][1](y), y
    )


def test_images_that_are_too_small_are_refused():
    models.build("airbench", 2, (1, 9, 9), 0)(torch.randn(2, 1, 9, 9))
    with refused("arch airbench takes images of at least 9 px, not 8: use vit-tiny"):
        models.build("airbench", 2, (1, 9, 8), 0)


def test_it_learns_and_a_training_sees_its_own_images_alone(small):
    images, split = small.images, small.split
    x = images.x.clone()
    x[split.forget] = 255 - x[split.forget]
    other, made = dataclasses.replace(small, images=dataclasses.replace(images, x=x)), []
    for task in (small, other):
        made.append(METHODS["retrain"].unlearn(task, None))
        made.append(task.train_new(models.copy_of(small.original), split.train, "original"))
        history = task.history["original"]
        assert history[-1] < history[0]
    assert same(made[0], made[2]) and not made[1].stem.weight.equal(made[3].stem.weight)
    assert not made[0].stem.weight.equal(made[1].stem.weight)


@pytest.mark.parametrize("name", [name for name, entry in METHODS.items() if "class" in entry.scenarios])
def test_every_method_works_on_it(small, name):
    settings = method_settings(name, resolve(overrides={"methods": {name: BRIEFLY.get(name, {})}}))
    before = models.copy_of(small.original)
    if name == "head-only":
        with refused("head-only: the last layer is not linear with a bias"):
            METHODS[name].fits(small.original, small.images)
        return
    model = METHODS[name].unlearn(small, settings)
    assert same(small.original, before) and not model.training and all(p.requires_grad for p in model.parameters())
    assert same(model, before) == (name == "original") and all(v.isfinite().all() for v in model.state_dict().values())
