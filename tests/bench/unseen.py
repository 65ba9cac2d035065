"""Own models on images that no choice here was made on: `make unseen DATA=cifar100.npz`.

A folder of photos (CIFAR-100 at 64 px, super- and sub-classes), two models as users have them, four kinds of request.
`megu.unlearn` with ``tune`` stands beside a model retrained by the user's own recipe without the forgotten images.
Everything was fixed before the first result.  What is finished is not made again; the table is written after every row.
"""

import argparse
import json
import shutil
import sys
import time
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import megu
from megu.datasets.user_images import NORMALISE
from megu.guide.composed import lite0 as pretrained
from megu.methods import METHODS
from megu.own import report
from megu.runs.store import CODE
from megu.settings.class_names import CIFAR100
from megu.settings.errors import SettingsError
from megu.settings.extras import versions
from megu.settings.files import atomic, write_json

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "paper_figures"))
from shared.unseen import row_of
from shared.which_method import recommended

# The first five superclasses that no cell of the grid forgets, the first two classes of each.
NAMES = {name: CIFAR100[name][:2] for name in list(CIFAR100)[:4] + ["household electrical devices"]}
SIZE, TRAINED, TESTED, SINGLE = 64, 40, 60, 50  # pixels; images of each sub-class; single images that are forgotten
HOW = {"tune": 3, "duplicates": "keep"}  # of `megu.unlearn`
RECIPES = {"lite0": {"epochs": 6, "lr": 1e-3}, "vit": {"epochs": 30, "lr": 1e-3}}
KINDS = {"class": "class", "two classes": "class", "sub-class": "subclass", "images": "random"}


def lite0(num_classes):
    """EfficientNet-Lite0 with ImageNet weights; its last block, last convolution and a new head are trained."""
    model = deepcopy(pretrained())
    model._fc = nn.Linear(model._fc.in_features, num_classes)
    for part in (model._conv_stem, model._bn0, *model._blocks[:-1]):
        part.requires_grad_(False)
    return model


def vit(num_classes):
    """A small vision transformer, 0.9 million weights."""
    size = {"embed_dim": 128, "depth": 4, "num_heads": 4}
    return timm.create_model("vit_tiny_patch16_224", img_size=SIZE, num_classes=num_classes, **size)


def first_fit(model, ranking):
    """The first of some methods that takes a network of this kind."""
    for name in ranking:
        with suppress(SettingsError):
            METHODS[name].fits(globals()[model](len(NAMES)), None)
            return name


def write_photos(archive, folder):
    """``train`` and ``test`` with ``superclass/class/*.png``: the first images of each class in the file's order."""
    if folder.exists():
        return
    part_of = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part_of, ignore_errors=True)
    with np.load(archive) as data:
        known = [str(name).replace("_", " ") for name in data["class_names"]]
        for part, count in (("train", TRAINED), ("test", TESTED)):
            x, y = data[f"x_{part}"], data[f"y_{part}"]
            for coarse, fine in ((coarse, fine) for coarse, names in NAMES.items() for fine in names):
                place = part_of / part / coarse / fine
                place.mkdir(parents=True)
                if len(chosen := np.flatnonzero(y == known.index(fine))[:count]) < count:
                    what = f"{archive.name} has {len(chosen)} images of {fine!r} in {part}, {count} are needed"
                    raise SettingsError(f"{what}: give the whole CIFAR-100")
                for i in chosen:
                    Image.fromarray(x[i]).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(place / f"{i:05d}.png")
    part_of.rename(folder)


def requests(seed, images):
    """Kind -> what is forgotten, as `megu.unlearn` takes it."""
    names, draw = list(NAMES), np.random.default_rng(seed)
    return {
        "class": [names[seed]],
        "two classes": names[seed + 1 : seed + 3],
        "sub-class": [f"{names[seed]}/{NAMES[names[seed]][0]}"],
        "images": sorted(draw.choice(images, SINGLE, replace=False).tolist()),
    }


def gone(data, forget):
    """Positions in an ImageFolder that a request means."""
    if isinstance(forget[0], int):
        return set(forget)
    return {i for i, (path, _) in enumerate(data.samples) if any(f"/{name}/" in path for name in forget)}


def trained(name, data, kept, seed, path):
    """A user's model, trained on the images ``kept``, or read where it is there: Adam, one cycle, flips, batches of
    32."""
    torch.manual_seed(seed)
    model, recipe = globals()[name](len(data.classes)), RECIPES[name]
    if path.exists():
        model.load_state_dict(load_file(path))
        return model.eval()
    x, y = (torch.stack(part) for part in zip(*((data[i][0], torch.tensor(data[i][1])) for i in kept), strict=True))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    opt, steps = torch.optim.AdamW(weights, weight_decay=0.05), len(x) // 32 * recipe["epochs"]
    cycle = torch.optim.lr_scheduler.OneCycleLR(opt, recipe["lr"], max(steps, 2))
    model.train()
    for part in model.modules():  # what is frozen keeps its batch statistics
        if not any(weight.requires_grad for weight in part.parameters()):
            part.eval()
    for _ in range(recipe["epochs"]):
        for index in torch.randperm(len(x))[: len(x) // 32 * 32].split(32):
            flip = torch.rand(len(index), 1, 1, 1) < 0.5
            loss = F.cross_entropy(model(torch.where(flip, x[index].flip(3), x[index])), y[index])
            opt.zero_grad()
            loss.backward()
            opt.step()
            cycle.step()
    with atomic(path) as part:
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, part)
    return model.eval()


class Cell(NamedTuple):
    """One call of `megu.unlearn`; a user's model, trained anew without what goes, stands beside it."""

    seed: int
    request: str
    forget: list
    model: str
    method: str

    def folder(self, root):
        """Where its report lies, beside the retrained model."""
        return root / f"{self.model} {self.seed} {self.request}" / self.method


def cells(plan, images, seeds):
    """Every `Cell`, seed by seed, so that a table with fewer seeds has all requests."""
    for seed in range(seeds):
        for request, forget in requests(seed, images).items():
            for model in RECIPES:
                for method in dict.fromkeys(("megu", plan["recommended"][model][request])):
                    yield Cell(seed, request, forget, model, method)


def make(root, data, cell):
    """Train what is not there yet, and unlearn."""
    out = cell.folder(root)
    files = root / f"{cell.model} {cell.seed}" / "original.safetensors", out.parent / "retrained.safetensors"
    nets = [trained(cell.model, data, range(len(data)), cell.seed, files[0])]
    kept, began = sorted({*range(len(data))} - gone(data, cell.forget)), time.perf_counter()
    nets.append(trained(cell.model, data, kept, cell.seed + 100, files[1]))
    if not (note := out.parent / "retrained.json").exists():
        write_json(note, {"seconds": round(time.perf_counter() - began, 1)})
    given = {"model": nets[0], "reference": nets[1]}
    if cell.model == "vit":  # as files, the other as modules
        given = {"model": files[0], "reference": files[1], "arch": f"{Path(__file__).resolve()}:vit"}
    settings = {"guide.answers": str((root / "answers.jsonl").resolve())}
    how = {"method": cell.method, "seed": cell.seed, "settings": settings, **HOW}
    megu.unlearn(data=root / "photos", forget=cell.forget, out=out, **given, **how)


def is_there(root, cell):
    """Whether a cell is finished."""
    return (cell.folder(root) / "report.json").exists()


def read(root, cell):
    """(Report of a cell, seconds of the retraining)."""
    folder = cell.folder(root)
    return report.read(folder), json.loads((folder.parent / "retrained.json").read_text())["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="CIFAR-100 as .npz: x_train, y_train, x_test, y_test, class_names")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "unseen", help="of models and reports")
    parser.add_argument("--out", type=Path, default=ROOT / "paper_figures" / "data", help="of the table")
    run(parser.parse_args())


def run(asked):
    """Make every cell that is not there, and the table and its source of all that are, after each."""
    root = asked.folder
    root.mkdir(parents=True, exist_ok=True)
    write_photos(asked.data, root / "photos")
    if not (root / "plan.json").exists():
        best = recommended(ROOT / "paper_figures" / "data")
        named = {model: {request: first_fit(model, best[kind]) for request, kind in KINDS.items()} for model in RECIPES}
        write_json(root / "plan.json", {"recommended": named})
    plan = json.loads((root / "plan.json").read_text())
    data = ImageFolder(root / "photos" / "train", v2.Compose([
        v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(*NORMALISE["imagenet"]),
    ]))  # fmt: skip
    every = [*cells(plan, len(data), asked.seeds)]
    for cell in (None, *every):
        if cell and not is_there(root, cell):
            make(root, data, cell)
        elif cell:
            continue
        rows = [row_of(one._asdict(), *read(root, one)) for one in every if is_there(root, one)]
        if rows:
            with atomic(asked.out / "unseen.csv") as part:
                pd.DataFrame(rows).to_csv(part, index=False, float_format="%.6g")
            write_json(asked.out / "unseen_source.json", source(asked, plan, rows, len(data)))


def source(asked, plan, rows, images):
    """What the table was made of; seeds are those that have every cell."""
    done, whole = pd.DataFrame(rows).groupby("seed").size(), len([*cells(plan, images, 1)])
    return {
        "command": f"make unseen DATA={asked.data.name}", **plan, "recipes": RECIPES,
        "seeds": [int(seed) for seed in done[done == whole].index], "cells": f"{len(rows)} of {whole * asked.seeds}",
        "classes": {name: list(fine) for name, fine in NAMES.items()}, "pixels": SIZE, "train": images,
        "test": TESTED * sum(map(len, NAMES.values())), "tune": HOW["tune"], "code": CODE,
        "threads": torch.get_num_threads(), "device": "cpu, float32",
        "megu": megu.__version__, "versions": versions(("torch", "timm", "torchvision")),
    }  # fmt: skip


if __name__ == "__main__":
    main()
