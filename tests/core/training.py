"""How the tests of this room train."""

import torch

from megu.core import models
from megu.core.device import Compute, generator
from megu.core.train import fit
from megu.settings.config import Recipe

FLOAT32 = Compute(torch.device("cpu"), False)


def train(tiny, model, count=None, compute=FLOAT32, gen=None, make=None, y=None, how=None, **recipe):
    """(model, history) of `fit` of an arch or a network on so many training images; ``make`` replaces the batches."""
    images, index = tiny.images, tiny.split.train[:count]
    y, gen = images.y[index] if y is None else y, gen or generator(0, "order")
    model = models.build(model, 10, images.shape, 0) if isinstance(model, str) else model
    recipe = Recipe(**{"epochs": 1, "batch": 32, "lr": 0.05, "schedule": "constant", **recipe})
    make = make or (lambda i: (images.batch(index[i], recipe.augment, gen), y[i]))
    return model, fit(model, make, len(index), recipe, gen, compute, **(how or {}))


def far(one, other):
    """The largest difference of a weight."""
    return max((a - b).abs().max().item() for a, b in zip(one.parameters(), other.parameters(), strict=True))


def same(one, other):
    """Whether tensors of the same names have the same bits."""
    one, other = one.state_dict(), other.state_dict()
    return list(one) == list(other) and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


# Settings that make a method short.
BRIEFLY = {
    **dict.fromkeys(("unsir", "unsir-ssd"), {"noises": 4, "copies": 2, "noise": {"steps": 2}}),
    **dict.fromkeys(("megu", "megu-random-labels"), {"noise": {"steps": 2}}),
    "retrain-head": {"recipe": {"epochs": 1}}, "ssd": {"images": 20}, "projection": {"images": 20},
}  # fmt: skip
