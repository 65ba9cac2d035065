"""A model that is not ours, and how it is asked to forget."""

import copy
import json
from importlib.resources import files

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import megu
from megu.settings.class_names import FASHION

NAMES = tuple(FASHION)
SCHEMA = json.loads((files("megu.own") / "assets" / "report.schema.json").read_text())
QUICK = {"recipe.batch": 32, "recipe.lr": 0.2, "noise.steps": 10}


def network(num_classes=10):
    """Not one of ours: dropout, group norm, no batch statistics."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, 2), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 32, 5, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.1), nn.Linear(128, num_classes),
    )  # fmt: skip


def files_of(model, parts, root):
    """The same images as a folder by class, the model's file and the names of its classes beside it: ``root``."""
    for part, data in zip(("train", "test"), parts, strict=True):
        for i, (x, k) in enumerate(data):
            folder = root / "photos" / part / NAMES[k]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray((x[0] * 255).round().byte().numpy()).save(folder / f"{i:03d}.png")
    save_file(model.state_dict(), root / "model.safetensors")
    (root / "names.txt").write_text("\n".join(NAMES))
    return root


def alike(model):
    """A reference that answers as ``model`` does, with other weights: each class's score is one higher."""
    other = copy.deepcopy(model)
    other[-1].bias.data += 1
    return other


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def forget(model, parts, what="trouser", **more):
    usual = {"test": parts[1], "classes": NAMES, "guide": "model", "settings": QUICK}
    return megu.unlearn(model, parts[0], what, **{**usual, **more})


def column(result, name):
    return {row["metric"]: row[name] for row in result.report["metrics"]}
