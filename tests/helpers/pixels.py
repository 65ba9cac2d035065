"""Photos whose brightest red pixel is their class, and a classifier that reads it."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

from megu.own.request import CheckedRequest, Request


def photos(num_classes, n, seed=0):
    """``(num_classes n, 8, 8, 3)`` uint8 and classes, sorted; no two are the same."""
    y = np.arange(num_classes).repeat(n)
    x = np.random.default_rng(seed).integers(0, 120, (len(y), 8, 8, 3), np.uint8)
    x[np.arange(len(y)), y // 8, y % 8, 0] = 255
    return x, y


def as_dataset(num_classes=4, n=6, seed=0):
    """The photos as uint8 tensors ``(3, 8, 8)``."""
    x, y = photos(num_classes, n, seed)
    return TensorDataset(torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y))


def write(root, folders, n=6, seed=0, suffix=".png"):
    """The photos of each class below its folder, which may lie deep; a folder that is None is left out."""
    root = Path(root)
    for i, (x, k) in enumerate(zip(*photos(len(folders), n, seed), strict=True)):
        if folders[k] is not None:
            (root / folders[k]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(x).save(root / folders[k] / f"{i:04d}{suffix}")
    return root


def reader(order, blind=()):
    """Output j is large for class ``order[j]``; ``blind`` ones for none."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, len(order)))
    with torch.no_grad():
        model[1].weight.zero_(), model[1].bias.zero_()
        for j, k in enumerate(order):
            model[1].weight[j, k] = 20.0
            model[1].bias[j] = -1000.0 * (j in blind)
    return model


def check(model, data, forget, **more):
    """A `CheckedRequest`; nothing is trained."""
    given = {"model": model, "data": data, "forget": forget, "normalise": "unit", "guide": "model"}
    return CheckedRequest(Request.of({**given, **more}))
