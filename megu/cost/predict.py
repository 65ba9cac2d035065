r"""What a run costs: a line through the seconds that were measured, and hours on a GPU from counted operations."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from scipy.optimize import nnls

from megu.core.splits import Split, make_split
from megu.cost.count import Passes, passes_of
from megu.cost.dummy import balanced, stand_in
from megu.cost.flops import forward_flops
from megu.cost.gpu import CARD, hours
from megu.datasets.identity import counts
from megu.methods import METHODS, method_settings
from megu.settings.cells import CELLS
from megu.settings.class_names import CIFAR10, CIFAR100
from megu.settings.errors import SettingsError
from megu.settings.profiles import resolve
from megu.settings.values import closest

TOKENS = {"image": 576, "images": 3, "text": 120}  # of a question with two worked examples: assumed, as of a LLaVA-1.5
LABELS = {"cifar10": len(CIFAR10), "cifar20": len(CIFAR100), "cifar100": sum(map(len, CIFAR100.values()))}  # K


@dataclass(frozen=True)
class Line:
    """seconds = ``overhead`` + ``each`` * passes + ``entry`` * entries."""

    overhead: float
    each: float
    entry: float = 0.0

    def seconds(self, passes, entries=0.0):
        """Of so many passes, and entries that are sorted."""
        return self.overhead + self.each * np.asarray(passes, float) + self.entry * np.asarray(entries, float)


def fit(passes, seconds, entries=0.0):
    r"""The `Line` through measured points, no part negative.

    $\min \sum_i \left((a + b\,n_i + c\,e_i - t_i) / t_i\right)^2$, $a, b, c \ge 0$: relative errors, so that small
    points count.

    Args:
        passes: n, ``(m,)``, images times epochs or what else the seconds grow with.  seconds: t, ``(m,)`` > 0.
        entries: e, ``(m,)``, a second thing that they grow with, zero where there is none.
    """
    seconds = np.asarray(seconds, float)
    terms = np.stack(np.broadcast_arrays(1.0, np.asarray(passes, float), np.asarray(entries, float)), 1)
    scale = np.maximum(terms.max(0), 1)
    found, _ = nnls(terms / scale / seconds[:, None], np.ones(len(seconds)))
    return Line(*map(float, found / scale))


def lines(table):
    """Stage -> the `Line` through all its points, of each stage that was measured more than once."""
    return {
        stage: fit(part["passes"], part["seconds"], part["entries"])
        for stage, part in table.groupby("stage", sort=False)
        if len(part) > 1
    }


def held_out(table):
    r"""How well each number of passes of a stage is predicted by the other numbers, the largest and the smallest too.

    Args:
        table: DataFrame with stage, passes (images times epochs or steps), entries, seconds, from
            `megu.cost.measure.measure`.
    Returns: DataFrame of the points, each as it was predicted while all with its passes were left out: stage, passes,
        seconds, predicted, error (relative).
    Raises: SettingsError where no stage has four numbers of passes.
    """
    out = []
    for stage, part in table.groupby("stage", sort=False):
        for passes in sorted(part["passes"].unique()) if part["passes"].nunique() >= 4 else ():
            left = part["passes"] == passes
            known, asked = part[~left], part[left]
            found = fit(known["passes"], known["seconds"], known["entries"]).seconds(asked["passes"], asked["entries"])
            out.append(asked.assign(stage=stage, predicted=found, error=found / asked["seconds"] - 1))
    if not out:
        raise SettingsError(
            "no stage was measured at four numbers of passes, so none can be left out: measure with `python -m megu"
            " cost --out FOLDER`"
        )
    return pd.concat(out, ignore_index=True)[["stage", "passes", "seconds", "predicted", "error"]]


def fitted(table):
    r"""The table of `megu.cost.measure.measure` with a column ``fitted``: seconds on the `Line` of each stage; of one
    measured once, its own."""
    of = lines(table)
    return pd.concat(
        part.assign(fitted=of[stage].seconds(part["passes"], part["entries"]) if stage in of else part["seconds"])
        for stage, part in table.groupby("stage", sort=False)
    )


ADDED = ("models", "pflop", "hours_low", "hours_high")  # what adds up over rows


def _row(stage, data, arch, models, passes, forward, gpu, scenario="", half=True):
    fewest, most = hours(passes, forward, arch, gpu, half)
    return {
        "stage": stage, "data": data, "arch": arch, "scenario": scenario, "models": models,
        "trained": passes.trained, "noised": passes.noised, "seen": passes.seen, "gflop": forward / 1e9,
        "pflop": models * passes.flops(forward) / 1e15, "hours_low": models * fewest, "hours_high": models * most,
    }  # fmt: skip


@lru_cache
def _request(data, scenario, count):
    # Which classes go plays no part: their names alone tell the cells of one size apart.
    cell = next(c for c in CELLS["paper"] if (c.data, c.scenario, len(c.forget)) == (data, scenario, count))
    settings = resolve("paper", 0, cell.overrides())
    images = stand_in(settings, side=2)
    return images, make_split(images, settings)


@lru_cache
def _passes(cell, name, profile):
    settings = resolve(profile, 0, cell.overrides())
    request = _request(cell.data, cell.scenario, len(cell.forget))
    return passes_of(name, method_settings(name, settings), settings, *request)


def grid_cost(profile="paper", seeds=3, gpu=CARD):
    r"""The arithmetic of a profile's grid: every cell of `megu.settings.cells.CELLS`, originals shared.

    Args:
        profile: with CIFAR data.  seeds: of pre-training.  gpu: `Gpu`.
    Returns: DataFrame, one row per stage, data, network and scenario (of pre-training and evaluation all): models;
        trained, noised, seen, passes of images of each one of them, counted; gflop, f of a forward pass; pflop,
        models (3 trained + 2 noised + seen) f; hours_low, hours_high, of all models, at the high and the low speed.
    Raises: SettingsError for another profile, or one with networks whose speed is not known.
    """
    if profile not in CELLS:
        raise SettingsError(closest(profile, CELLS, "profile"))
    if strange := sorted({cell.arch for cell in CELLS[profile] if cell.arch not in gpu.trained}):
        raise SettingsError(
            f"profile {profile!r} has networks of which no speed on a GPU is assumed or measured"
            f" ({', '.join(strange)}): use paper"
        )
    rows, known, request = [], set(), {}
    for cell in CELLS[profile]:
        settings = resolve(profile, 0, cell.overrides())
        (train, test), classes = counts(cell.data), LABELS[cell.data]
        forward, names = forward_flops(cell.arch, classes, (3, 32, 32)), cell.methods[1:]
        # Cells of one size take the same passes: the first of them is counted.
        same = request.setdefault((cell.data, cell.arch, cell.scenario, len(cell.forget)), cell)
        if (cell.data, cell.arch) not in known:
            used = len(_request(cell.data, cell.scenario, len(cell.forget))[1].train)
            passes = Passes(used * settings.training.epochs)
            rows.append(_row("pre-training", cell.data, cell.arch, seeds, passes, forward, gpu))
        for name in names:
            half = not name.startswith("ssd")
            passes = _passes(same, name, profile)
            rows.append(_row(name, cell.data, cell.arch, seeds, passes, forward, gpu, cell.scenario, half))
        # Once each: the original, every method's model, and the untrained network that some metrics compare with.
        looks = seeds * (len(names) + 2)
        rows.append(_row("evaluation", cell.data, cell.arch, looks, Passes(seen=train + test), forward, gpu))
        known.add((cell.data, cell.arch))
    table = pd.DataFrame(rows)
    # Cells are one row only where every one of their models takes the same passes: a row multiplies out.
    same = [column for column in table if column not in ADDED]
    return table.groupby(same, sort=False)[list(ADDED)].sum().reset_index()[list(table)]


IMAGENET = {"train": 1_281_167, "test": 50_000, "classes": 1000, "forget": 1300}
EPOCHS = {"resnet50": (90, 3), "vit-b16": (8, 5)}  # of pre-training, assumed, and of MeGU, as in the paper's networks


def imagenet_cost(retain=(10_000, 100_000), gpu=CARD):
    r"""The same for one class of ImageNet-1k, ResNet-50 and ViT-B/16 at 224 px, one seed, with a column ``retain``."""
    n, rows = IMAGENET, []
    for arch, (epochs, megu_epochs) in EPOCHS.items():
        forward = forward_flops(arch, n["classes"], (3, 224, 224))

        def add(stage, passes, kept, models=1, arch=arch, forward=forward):
            rows.append({**_row(stage, "imagenet", arch, models, passes, forward, gpu), "retain": kept})

        rest = n["train"] - n["forget"]
        add("pre-training", Passes(n["train"] * epochs), rest)
        add("retrain", Passes(rest * epochs), rest)
        for sample in retain:
            add("megu", _imagenet_megu(sample, megu_epochs), sample)
        # As in the grid: the original, the untrained network, and the models of a request, retrained and MeGU's.
        add("evaluation", Passes(seen=n["train"] + n["test"]), rest, models=4)
    return pd.DataFrame(rows)


@lru_cache
def _imagenet_megu(sample, epochs):
    n, changes = IMAGENET, {"retain_images": sample, "methods.megu.recipe.epochs": epochs}
    settings = resolve("paper", 0, changes)
    names = tuple(map(str, range(n["classes"])))
    images = balanced("imagenet", (n["forget"] * n["classes"], 1), names)  # 1300 images of each class
    here = torch.arange(images.num_train)
    none, gone = here[:0], images.y[here] == 0
    split = Split(here[gone], here[~gone], none, none, none, none)
    return passes_of("megu", method_settings("megu", settings), settings, images, split)


def guide_cost(asking, exemplars=8):
    r"""What asking the guide takes: every exemplar with every label.

    Args:
        asking: guide -> `Line` of its seconds, passes being images and entries questions: an image is looked at once
            for all K labels.
        exemplars: n of each class.
    Returns: DataFrame: data, classes, images ($n K$), questions ($n K^2$), tokens (1e6, of a question with two worked
        examples, assumed), and hours of each guide.
    """
    rows, tokens = [], TOKENS["image"] * TOKENS["images"] + TOKENS["text"]
    for data, classes in {**LABELS, "imagenet": IMAGENET["classes"]}.items():
        images, questions = exemplars * classes, exemplars * classes**2
        row = {"data": data, "classes": classes, "images": images, "questions": questions}
        spent = {f"{guide}, hours": float(line.seconds(images, questions)) / 3600 for guide, line in asking.items()}
        rows.append({**row, "million tokens": questions * tokens / 1e6, **spent})
    return pd.DataFrame(rows)


def references(table):
    """Rows of `grid_cost` that are not unlearning: what every method is compared with, and the evaluation."""
    return table["stage"].map(lambda name: name in ("pre-training", "evaluation") or METHODS[name].reference)
