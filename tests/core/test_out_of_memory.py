"""A step that does not fit into memory: in parts it is the same step; what cannot be helped is one line."""

import dataclasses

import pytest
import torch
from conftest import Narrow
from refusals import refused

from megu import methods
from megu.core import models
from megu.core.device import choose, generator
from megu.core.train import fit
from megu.settings.config import Augment, Recipe
from megu.settings.profiles import resolve
from megu.settings.values import build, nest

FLOAT32 = choose(resolve(overrides={"autocast": "off"}))


@pytest.mark.parametrize(("name", "more"), [("neggrad-plus", {}), ("l1-sparse", {"alpha": 0.005})])
def test_a_step_in_parts_is_the_step(tasks, name, more):
    """Where memory does not suffice for a batch: the same weights up to rounding; the control, a smaller batch, is far
    away."""
    task, ends = tasks["class", "vit-tiny"], {}
    for how, room, batch in (("whole", 1000, 32), ("parts", 5, 32), ("smaller batch", 1000, 8)):
        method = methods.METHODS[name]
        chosen = build(
            method.settings,
            nest({"recipe.epochs": 2, "recipe.batch": batch, "recipe.lr": 0.05, "recipe.optimiser": "sgd", **more}),
        )
        model = method.unlearn(dataclasses.replace(task, original=Narrow(task.original, room), compute=FLOAT32), chosen)
        ends[how] = torch.cat([w.detach().flatten() for w in model.parameters()])
    far = {how: (end - ends["whole"]).abs().max().item() for how, end in ends.items()}
    assert far["parts"] < 1e-4 < 10 * 1e-4 < far["smaller batch"], far


@pytest.mark.parametrize("fails", [0, 1, 3])
def test_a_batch_that_is_made_again_is_the_same_batch(tiny, fails):
    """Memory that does not suffice for the images, after they were augmented: the next attempt draws the same."""
    images, index = tiny.images, tiny.split.train[:64]
    recipe, left = Recipe(epochs=1, batch=32, lr=0.05, schedule="constant", augment=Augment()), [fails]
    gen, model = generator(0, "order"), models.build("vit-tiny", 10, images.shape, 0)

    def batch(i):
        x = images.batch(index[i], recipe.augment, gen)
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("no room")
        return x, images.y[index[i]]

    fit(model, batch, 64, recipe, gen, FLOAT32)
    usual, again = models.build("vit-tiny", 10, images.shape, 0), generator(0, "order")
    fit(
        usual, lambda i: (images.batch(index[i], recipe.augment, again), images.y[index[i]]), 64, recipe, again, FLOAT32
    )
    assert max((a - b).abs().max() for a, b in zip(model.parameters(), usual.parameters(), strict=True)) < 1e-5
    assert gen.get_state().equal(again.get_state()), "later draws are the same too"


def test_what_no_smaller_part_can_help_is_one_line(tiny, monkeypatch):
    images, index, recipe = tiny.images, tiny.split.train[:64], Recipe(epochs=1, batch=32, lr=0.05)

    def no_room(*_, **__):
        raise torch.OutOfMemoryError("no room")

    with refused("training: 32 images do not fit into the memory of 1 devices: use more, or a smaller batch"):
        fit(models.build("vit-tiny", 10, images.shape, 0), no_room, 64, recipe, generator(0), FLOAT32)
    monkeypatch.setattr(torch.optim.SGD, "step", no_room)
    with refused("training: what SGD keeps of each weight does not fit into the device's memory: use device cpu"):
        fit(
            models.build("vit-tiny", 10, images.shape, 0),
            lambda i: (images.batch(index[i]), images.y[index[i]]),
            64,
            recipe,
            generator(0),
            FLOAT32,
        )
