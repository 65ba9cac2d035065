r"""Choice of hyper-parameters on validation images: the same learning rates for every method, noise weights for MeGU."""

import numpy as np
import pandas as pd
from sklearn.model_selection import ParameterGrid
from tqdm import tqdm

from megu.config import SettingsError, merge, nest
from megu.evaluate import accuracy
from megu.experiment import Experiment
from megu.store import digest
from megu.train import predict

LEARNING_RATES = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2]
NOISE_WEIGHTS = [0.3, 1.0, 3.0]
GRIDS = {  # method -> values tried; `noise.weight` sets both weights of the pair
    "finetune": {"recipe.lr": LEARNING_RATES},
    "random-labels": {"recipe.lr": LEARNING_RATES},
    "megu-no-noise": {"recipe.lr": LEARNING_RATES},
    "megu-random-labels": {"recipe.lr": LEARNING_RATES, "noise.weight": NOISE_WEIGHTS},
    "megu": {"recipe.lr": LEARNING_RATES, "noise.weight": NOISE_WEIGHTS},
}


def dotted(values):
    r"""``noise.weight`` written out as the two weights of the pair."""
    out = {name: value for name, value in values.items() if name != "noise.weight"}
    if "noise.weight" in values:
        out |= {"noise.weight_pos": values["noise.weight"], "noise.weight_neg": values["noise.weight"]}
    return out


def recipe_digest(settings):
    r"""Ties a search to what it was made with: data, training recipe, request, guide, retain images; not seeds or methods."""
    return digest(settings.model_dump(mode="json", exclude={"seed", "seeds", "methods", "compare", "device", "autocast"}))


def tune(profile="quick", seed=100, seeds=2, overrides=None, run_dir=None):
    r"""Try every value of `GRIDS` on validation images, class-wise forgetting.

    score = accuracy on retained validation images minus accuracy on forgotten ones, percent, mean over the seeds.  It needs
    no retrained model, as in practice there is none, and no test image.

    Args:
        profile, overrides: see `megu.profiles.resolve`.
        seed, seeds: first one and how many, of originals and unlearning; not those of any reported table.
        run_dir: directory or None; every trial is kept there, so an interrupted search goes on where it stopped.
    Returns: tidy DataFrame: method, the values tried, val_retain, val_forget, score, recipe (digest), chosen (the best of its method).
    """
    lab = Experiment(profile, seed, run_dir, merge(nest(overrides or {}), {"seeds": seeds}))
    if lab.settings.forget.scenario != "class":
        raise SettingsError(f"tune works on class-wise forgetting, where the goal is 0; forget.scenario is {lab.settings.forget.scenario!r}")
    trials = [(name, trial) for name, grid in GRIDS.items() for trial in ParameterGrid(grid)]
    rows = [
        lab.run.table(f"tuning/{name} {' '.join(map(str, trial.values()))}.csv", lambda name=name, trial=trial: _attempt(lab, name, trial))
        for name, trial in tqdm(trials, desc="tuning", unit="trial")
    ]
    table = pd.concat(rows, ignore_index=True)
    table["recipe"] = recipe_digest(lab.settings)
    table["chosen"] = table.index.isin(table.groupby("method")["score"].idxmax())
    return table


def _attempt(lab, name, trial):
    images, split, found = lab.images, lab.split, []
    for seed in lab.seeds:
        model = lab.attempt(name, seed, dotted(trial))
        found.append([accuracy(predict(model, images, part), images.y[part]) for part in (split.val_retain, split.val_forget)])
    retain, forget = np.mean(found, axis=0).round(4)
    return pd.DataFrame([{"method": name, **trial, "val_retain": retain, "val_forget": forget, "score": retain - forget}])
