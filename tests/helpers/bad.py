"""Wrong requests: how they are asked, and what a refusal must look like."""

from collections import Counter

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

import megu
from megu.settings.errors import SettingsError

SEEN = Counter()
NAMES = ("ape", "bee", "cat")


class Stream(IterableDataset):
    """Has a length, and no positions."""

    def __iter__(self):
        return iter(TensorDataset(*images()))

    def __len__(self):
        return 30


def refused(call, *parts):
    """One line, which names what is wrong; then a remedy."""
    with pytest.raises(SettingsError) as caught:
        call()
    message = str(caught.value)
    SEEN["cases"] += 1
    assert "\n" not in message and 20 < len(message) < 700, message
    assert ":" in message or ";" in message, f"no remedy: {message}"
    for part in parts:
        assert str(part) in message, f"{part!r} is not named: {message}"
    return message


def linear(weight=None):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(3, 16) * 20 if weight is None else weight)
        model[1].bias.zero_()
    return model


def images(n=30):
    """Images whose brightest pixel is their class, which `linear` reads."""
    y = torch.arange(n) % 3
    x = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.3
    x[torch.arange(n), 0, 0, y] = 1.0
    return x, y


def ask(forget="ape", data=None, model=None, **more):
    data, how = TensorDataset(*images()) if data is None else data, {"classes": NAMES, "guide": "model", **more}
    return megu.unlearn(linear() if model is None else model, data, forget, **how)


def folder(tmp_path, mode="RGB", size=(8, 8)):
    for k, name in enumerate(NAMES):
        (place := tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
        for i in range(2):
            Image.new(mode, size, 0 if mode != "RGB" else (k * 90,) * 3).save(place / f"{i}.png")
    return tmp_path / "photos"
