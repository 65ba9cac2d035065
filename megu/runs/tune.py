r"""Choice of hyper-parameters on validation images, with equally many trials for every method."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from tqdm import tqdm

from megu.core.models import accuracy
from megu.core.train import predict
from megu.methods import METHODS, method
from megu.runs.executors import executor
from megu.runs.experiment import Experiment
from megu.runs.runner import Job, run_all
from megu.settings.config import Settings
from megu.settings.errors import SettingsError
from megu.settings.extras import extra
from megu.settings.files import hash_json
from megu.settings.values import merge, nest

with extra("tune"):
    import optuna


# Settings, and those of guides, that a search does not depend on.
_OUTSIDE = set("seed seeds repeats shadows preset methods compare device threads autocast compile".split())
_OUTSIDE |= {"deterministic", "tf32"}
# Of the training recipe and its augmentation: came after the tracked search, which they do not change.
_LATER = {"cut": "equal", "norm_bias_lr": 1.0, "label_smoothing": 0.0, "lookahead": 0, "padding": "black"}
_FETCHED = set("shots batch dtype device_map reuse concurrency timeout retries repeats".split())


def recipe_digest(settings: Settings) -> str:
    r"""Of what a search was made with: data, training recipe, request, guide, retain images."""
    outside = _OUTSIDE if settings.original.path else {*_OUTSIDE, "original"}
    about = settings.model_dump(mode="json", exclude=outside)
    training = about["training"] = _earlier(about["training"])
    training["augment"] = training["augment"] and _earlier(training["augment"])
    about["guide"] = {k: v for k, v in about["guide"].items() if k not in _FETCHED and v not in ("", None)}
    return hash_json(about)


def _earlier(values):
    return {k: v for k, v in values.items() if k not in _LATER or v != _LATER[k]}


def tune(profile="quick", seed=100, seeds=3, trials=20, methods=None, overrides=None, run_dir=None, workers=1):
    r"""Search every method's `megu.methods.Method.search` on validation images, class-wise forgetting.

    score = accuracy on retained - accuracy on forgotten validation images, percent, mean over seeds.  Optuna's
    tree-structured Parzen estimator draws values on a logarithmic scale.

    Args:
        profile, overrides, run_dir: see `Experiment`, which keeps every trial.
        seed, seeds: first one, not of any reported table, and how many.
        trials: of each method; a range of one value is fixed.  methods: None for all that have a search.
        workers: see `executor`; each takes whole methods.
    Returns: method, trial, the values tried, val_retain, val_forget, score, recipe, chosen (best of its method).
    """
    run = Experiment(profile, seed, run_dir, merge(nest(overrides or {}), {"seeds": seeds}))
    if run.settings.forget.scenario != "class":
        raise SettingsError(f"forget.scenario is {run.settings.forget.scenario!r}: tune class-wise forgetting only")
    names = [name for name, entry in METHODS.items() if entry.search] if methods is None else methods
    if any(method(name).guided for name in names):
        run.transition()  # not asked by every process
    originals = [Job(f"original {seed}", run.original, (seed,)) for seed in run.seeds]
    needs = tuple(job.name for job in originals)
    searches = [Job(name, _search, (run, name, trials), needs) for name in names]
    run_all([*originals, *searches], executor(workers), "tuning")
    table = pd.concat([_search(run, name, trials) for name in names], ignore_index=True)
    table["recipe"] = recipe_digest(run.settings)
    table["chosen"] = table.index.isin(table.groupby("method")["score"].idxmax())
    return table


def _search(run, name, trials):
    def attempt(values):
        return run.run.table(f"tuning/{name} {hash_json(values)}.csv", partial(_attempt, run, name, values))

    return search(method(name).search, attempt, trials, run.settings.seed, name)


def search(
    space: dict[str, tuple[float, float]],
    attempt: Callable[[dict], pd.DataFrame],
    trials: int,
    seed: int,
    label: str,
    first: Sequence[dict] = (),
) -> pd.DataFrame:
    r"""One row for each trial, with a column ``trial``; a repeated search draws the same values.

    Args:
        space: setting -> (low, high), drawn on a logarithmic scale; whole numbers where both are integers.
        attempt: function of values by setting to one row with a ``score``, the larger the better.
        seed: of the draws.  label: of the progress bar.  first: values that are tried before any is drawn.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True)
    study, rows = optuna.create_study(direction="maximize", sampler=sampler), []
    for i in tqdm(range(trials), desc=label, unit="trial", leave=False):
        if i < len(first):
            rows.append(attempt(first[i]).assign(trial=i))
            continue
        trial, values = study.ask(), {}
        for key, (low, high) in space.items():
            if isinstance(low, int):
                values[key] = trial.suggest_int(key, low, high, log=True)
            else:
                values[key] = float(f"{trial.suggest_float(key, low, high, log=True):.2g}")
        row = attempt(values)
        study.tell(trial, row["score"].item())
        rows.append(row.assign(trial=i))
    return pd.concat(rows, ignore_index=True)


def _attempt(run, name, values):
    images, parts, scores = run.images, (run.split.val_retain, run.split.val_forget), []
    for seed in run.seeds:
        try:
            model = run.models.make(name, seed, changes=values)[0]
        except FloatingPointError:  # diverged: as if it knew and forgot nothing
            scores.append([0.0, 100.0])
            continue
        scores.append([accuracy(predict(model, images, part), images.y[part]) for part in parts])
    retain, forget = np.mean(scores, axis=0).round(4)
    score = {"val_retain": retain, "val_forget": forget, "score": round(retain - forget, 4)}
    return pd.DataFrame([{"method": name, "trial": 0, **values, **score}])
