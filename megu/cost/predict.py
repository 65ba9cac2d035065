r"""What a run costs: a line through measured seconds, and hours on a GPU from counted operations."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from scipy.optimize import nnls

from megu.core.splits import Split, make_split
from megu.cost.dummy import balanced, stand_in
from megu.cost.flops import forward_flops
from megu.cost.gpu import CARD, hours
from megu.datasets.identity import SHAPE
from megu.measure.count import Passes, passes_of
from megu.methods import METHODS, method_settings
from megu.settings.cells import CELLS
from megu.settings.errors import SettingsError
from megu.settings.profiles import resolve
from megu.settings.values import closest

LABELS = {"cifar10": 10, "cifar20": 20, "cifar100": 100, "imagenet": 1000}  # K
TOKENS = 3 * 576 + 120  # of a question with two worked examples: assumed, as of a LLaVA-1.5


@dataclass(frozen=True)
class Line:
    """seconds = ``overhead`` + ``each`` * passes + ``entry`` * entries."""

    overhead: float
    each: float
    entry: float

    def seconds(self, passes, entries=0.0):
        """Of so many passes and entries."""
        return self.overhead + self.each * np.asarray(passes) + self.entry * np.asarray(entries)


def fit(passes, seconds, entries=0.0):
    r"""The `Line` $\min \sum_i \left((a + b\,n_i + c\,e_i - t_i) / t_i\right)^2$, $a, b, c \ge 0$, through seconds
    t > 0 of n passes and e entries, ``(m,)`` each."""
    terms = np.stack(np.broadcast_arrays(1.0, passes, entries), 1)
    scale = np.maximum(terms.max(0), 1)
    found, _ = nnls(terms / scale / np.asarray(seconds, float)[:, None], np.ones(len(terms)))
    return Line(*map(float, found / scale))


def _line(points):
    return fit(points["passes"], points["seconds"], points["entries"])


def lines(table):
    """Stage -> the `Line` through its points, of each stage that was measured more than once."""
    return {stage: _line(part) for stage, part in table.groupby("stage", sort=False) if len(part) > 1}


def held_out(table):
    r"""Points of a table of `megu.cost.measure.measure`, with seconds ``predicted`` by the line through those of their
    stage with other passes, and the relative ``error``.

    Raises: SettingsError where no stage has four numbers of passes.
    """
    out = []
    for _, part in table.groupby("stage", sort=False):
        for passes, asked in part.groupby("passes") if part["passes"].nunique() >= 4 else ():
            found = _line(part[part["passes"] != passes]).seconds(asked["passes"], asked["entries"])
            out.append(asked.assign(predicted=found, error=found / asked["seconds"] - 1))
    if not out:
        raise SettingsError("no stage was measured at four numbers of passes: use `megu cost measure --out FOLDER`")
    return pd.concat(out, ignore_index=True)[["stage", "passes", "seconds", "predicted", "error"]]


def fitted(table):
    r"""The table with a column ``fitted``: seconds on the `Line` of each stage, or else its own."""
    of = lines(table)
    return pd.concat(
        part.assign(fitted=of[stage].seconds(part["passes"], part["entries"]) if stage in of else part["seconds"])
        for stage, part in table.groupby("stage", sort=False)
    )


ADDED = ("models", "pflop", "hours_low", "hours_high")  # what adds up over rows


def _row(stage, data, arch, models, passes, forward, gpu, scenario=""):
    fewest, most = hours(passes, forward, arch, gpu, half=not stage.startswith("ssd"))
    return {
        "stage": stage, "data": data, "arch": arch, "scenario": scenario, "models": models,
        "trained": passes.trained, "noised": passes.noised, "seen": passes.seen, "gflop": forward / 1e9,
        "pflop": models * passes.flops(forward) / 1e15, "hours_low": models * fewest, "hours_high": models * most,
    }  # fmt: skip


@lru_cache
def _request(cell, profile):
    settings = resolve(profile, 0, cell.overrides())
    images = stand_in(settings)
    return settings, images, make_split(images, settings)


@lru_cache
def _passes(cell, name, profile):
    settings, *request = _request(cell, profile)
    return passes_of(name, method_settings(name, settings), settings, *request)


def grid_cost(profile="paper", seeds=3, gpu=CARD):
    r"""The arithmetic of every cell of `megu.settings.cells.CELLS`, originals shared.

    Args:
        profile: with CIFAR data.  seeds: of pre-training.
    Returns: of each stage, data, network and scenario (of pre-training and evaluation all): models; trained, noised,
        seen, passes of each; gflop, f of a forward pass; of all models: pflop, hours_low, hours_high.
    Raises: SettingsError for another profile, or one with networks whose speed is not known.
    """
    if profile not in CELLS:
        raise SettingsError(closest(profile, CELLS, "profile"))
    if strange := sorted({cell.arch for cell in CELLS[profile]} - gpu.trained.keys()):
        names = ", ".join(strange)
        raise SettingsError(f"profile {profile!r}: no speed on a GPU is assumed or measured ({names}): use paper")
    rows, known, firsts = [], set(), {}
    for cell in CELLS[profile]:
        # Cells of one size take the same passes: the first of them is counted.
        first = firsts.setdefault((cell.data, cell.arch, cell.scenario, len(cell.forget)), cell)
        settings, images, split = _request(first, profile)
        about, names = (cell.data, cell.arch), cell.methods[1:]
        how = (forward_flops(cell.arch, images.num_classes, SHAPE), gpu)
        if about not in known:
            known.add(about)
            passes = Passes(len(split.train) * settings.training.epochs)
            rows.append(_row("pre-training", *about, seeds, passes, *how))
        for name in names:
            rows.append(_row(name, *about, seeds, _passes(first, name, profile), *how, cell.scenario))
        # The original and every method's model; what some metrics ask an untrained network is of forget images alone.
        rows.append(_row("evaluation", *about, seeds * (len(names) + 1), Passes(seen=len(images.y)), *how))
    table = pd.DataFrame(rows)
    # One row where all models take the same passes, so that it multiplies out.
    same = [column for column in table if column not in ADDED]
    return table.groupby(same, sort=False)[list(ADDED)].sum().reset_index()[list(table)]


IMAGENET = {"train": 1_281_167, "test": 50_000, "forget": 1300}
EPOCHS = {"resnet50": (90, 3), "vit-b16": (8, 5)}  # of pre-training, assumed, and of MeGU


def imagenet_cost(gpu=CARD):
    r"""As `grid_cost`, of one class of ImageNet-1k at 224 px, one seed, with a column ``retain``."""
    rows, every = [], IMAGENET["train"]
    rest, seen = every - IMAGENET["forget"], Passes(seen=every + IMAGENET["test"])
    for arch, (epochs, megu_epochs) in EPOCHS.items():
        stages = [("pre-training", Passes(every * epochs), rest, 1), ("retrain", Passes(rest * epochs), rest, 1)]
        stages += [("megu", _imagenet_megu(kept, megu_epochs), kept, 1) for kept in (10_000, 100_000)]
        stages.append(("evaluation", seen, rest, 3))  # original, retrained, MeGU's
        forward = forward_flops(arch, LABELS["imagenet"], (3, 224, 224))
        for stage, passes, kept, models in stages:
            rows.append(_row(stage, "imagenet", arch, models, passes, forward, gpu) | {"retain": kept})
    return pd.DataFrame(rows)


@lru_cache
def _imagenet_megu(sample, epochs):
    settings = resolve("paper", 0, {"retain_images": sample, "methods.megu.recipe.epochs": epochs})
    names = tuple(map(str, range(LABELS["imagenet"])))
    images = balanced("imagenet", (IMAGENET["forget"] * len(names), 1), names)
    here = torch.arange(images.num_train)
    gone = images.y[here] == 0
    split = Split(here[gone], here[~gone], *4 * [here[:0]])
    return passes_of("megu", method_settings("megu", settings), settings, images, split)


def guide_cost(asking, exemplars=8):
    r"""Images ($n K$), questions ($n K^2$), tokens (1e6, assumed) and hours of asking about n exemplars of each class;
    ``asking``: guide -> `Line` of its seconds in images and questions."""
    table = pd.DataFrame({"data": LABELS.keys(), "classes": LABELS.values()})
    images, questions = (exemplars * table["classes"] ** power for power in (1, 2))
    spent = {f"{guide}, hours": line.seconds(images, questions) / 3600 for guide, line in asking.items()}
    return table.assign(images=images, questions=questions, **{"million tokens": questions * TOKENS / 1e6, **spent})


def references(table):
    """Which rows of `grid_cost` are not unlearning but references or the evaluation."""
    return table["stage"].map(lambda name: name in ("pre-training", "evaluation") or METHODS[name].reference)
