r"""What the tiny MLLM is trained on, and what is held out: images as visual tokens, and labels that are true or false
of them."""

import hashlib
import re

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from megu.core import splits
from megu.datasets.sources import load
from megu.guide import draw_exemplars
from megu.guide.composed import imagenet_labels, lite0
from megu.guide.tiny import visual_tokens
from megu.settings.class_names import CIFAR100
from megu.settings.files import atomic
from megu.settings.profiles import resolve

# One class of each superclass, drawn once (numpy's default_rng(0)); no training sees their names or images.
HELD_OUT = (
    "bear", "bed", "bee", "bowl", "clock", "kangaroo", "motorcycle", "mushroom", "palm tree", "plain",
    "possum", "rose", "shark", "shrew", "skyscraper", "snake", "spider", "tractor", "whale", "woman",
)  # fmt: skip
# Held out as well while the recipe was chosen (``--dev``), trained on afterwards.
DEV = (
    "apple", "aquarium fish", "baby", "bottle", "can", "chair", "cup", "dolphin", "keyboard", "lion",
    "lizard", "maple tree", "mountain", "pine tree", "plate", "poppy", "ray", "seal", "squirrel", "wardrobe",
)  # fmt: skip
DRAWS = (0, 100, 101, 102, 110, 111)  # of exemplars that guides are asked about, here or in tests: left out


def look(images, folder, name):
    """Visual tokens (half) and ImageNet logits (half) of ``(n, C, H, W)`` uint8 images, kept in ``folder``."""
    cache = folder / f"{name}-{hashlib.sha256(images.numpy().tobytes()).hexdigest()[:8]}.safetensors"
    if not cache.exists():
        parts = []
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            for part in tqdm(images.split(50), desc=f"looking: {cache.stem}"):
                tokens = visual_tokens(part)
                parts.append((tokens.half(), lite0()._fc(tokens[:, 0]).half()))
        with atomic(cache) as file:
            save_file({"tokens": torch.cat([t for t, _ in parts]), "logits": torch.cat([w for _, w in parts])}, file)
    found = load_file(cache)
    return found["tokens"], found["logits"]


def photos(data_path, folder):
    """CIFAR-100: (tokens, logits, class of each), training and test, and the class names."""
    images = load(resolve(overrides={"data.name": "cifar100", "data.path": data_path, "forget.scenario": "random"}))
    train, _, test = splits.masks(images, 0.1)
    test = test.nonzero().flatten()[:2000]  # twenty of each class
    return (*look(images.x[train], folder, "photos"), images.y[train]), (
        *look(images.x[test], folder, "photos-test"), images.y[test],
    ), images.classes  # fmt: skip


def drawings(folder):
    """The embedded set: 300 training images of each class that no guide is asked about."""
    images = load(resolve())
    allowed = splits.masks(images, 0.1)[0].nonzero().flatten()
    asked = torch.cat(
        [draw_exemplars(images, allowed, 21, seed) for seed in DRAWS]
    )  # 20, and one more that is a worked example
    allowed = allowed[~torch.isin(allowed, asked)]
    chosen = draw_exemplars(images, allowed, 300, seed=1)
    return *look(images.x[chosen], folder, "drawings"), images.y[chosen], images.classes


class Pool:
    """Images with what may be said of them."""

    def __init__(self, held_out, data_path, folder):
        (tokens, logits, y), self.test, self.names = photos(data_path, folder)
        seen = torch.tensor([name not in held_out for name in self.names])[y]
        grey, _, grey_y, grey_names = drawings(folder)
        said = imagenet_labels()
        self.words = [w for w in said if not any(re.search(rf"\b{name}s?\b", w, re.I) for name in held_out)]
        allowed = torch.tensor([w in set(self.words) for w in said])
        self.tokens = torch.cat([tokens[seen], grey])
        self.said = logits[seen][:, allowed].float().topk(5)  # five likeliest words of each photo
        coarse = {name: superclass for superclass, names in CIFAR100.items() for name in names}
        self.own = [(self.names[k], coarse[self.names[k]]) for k in y[seen]] + [
            (grey_names[k], grey_names[k]) for k in grey_y
        ]
        self.photos, self.labels = (
            int(seen.sum()),
            sorted({name for pair in self.own for name in pair} | set(self.words)),
        )
        self.near = {
            name: [n for n in names if n not in held_out and n != name] for names in CIFAR100.values() for name in names
        }
        self.near |= {name: [n for n in grey_names if n != name] for name in grey_names}

    def batch(self, rng, n):
        """Indices; one in eight is a drawing."""
        grey = rng.random(n) < 1 / 8
        return np.where(grey, rng.integers(self.photos, len(self.own), n), rng.integers(0, self.photos, n))

    def true(self, i, rng):
        """Something that image i shows: its class (more often than not), what the image network calls it, or its
        superclass."""
        kind = rng.random()
        if i < self.photos and kind < 0.4:
            p = self.said.values[i].softmax(0).numpy()
            return self.words[self.said.indices[i][rng.choice(5, p=p / p.sum())]]
        return self.own[i][1 if kind > 0.95 else 0]

    def false(self, i, rng):
        """A label that image i does not show; every other time a near one."""
        shown = {*self.own[i], *((self.words[k] for k in self.said.indices[i].tolist()) if i < self.photos else ())}
        while True:
            near = self.near[self.own[i][0]]
            label = (
                near[rng.integers(len(near))]
                if near and rng.random() < 0.4
                else self.own[rng.integers(len(self.own))][0]
            )
            label = self.labels[rng.integers(len(self.labels))] if rng.random() < 0.3 else label
            if label not in shown:
                return label
