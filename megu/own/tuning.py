"""Settings for a model that nobody tuned for: scaled to the request, searched and checked on images held out of its own
training data."""

import importlib
import logging
from copy import copy
from dataclasses import replace
from functools import partial
from math import inf, nan, sqrt
from operator import attrgetter
from statistics import median

import pandas as pd
import torch
from torch.nn import functional as F

from megu.core.device import Stopwatch, generator, seeded
from megu.core.loading import has_features
from megu.core.splits import forgotten_classes
from megu.core.train import DivergedError, predict
from megu.measure.distances import accuracy, probe, tug_of_war
from megu.measure.outputs import collect_features
from megu.methods import METHODS
from megu.methods.task import Task
from megu.settings.config import Recipe
from megu.settings.errors import SettingsError
from megu.settings.files import hash_json
from megu.settings.values import build, nest

PARTS = {
    "forget": "forgotten training images",
    "fine_tuned": "retained images to fine-tune on",
    "held_out": "retained training images held out of it",
}
NEAR = 5.0  # points from the goal that are near enough
_SHARE, _MOST = 0.1, 500  # of every class are held out; images of each part
_EPOCHS = (1, 10)
_STEPS, _LEAST = 12, 8  # steps of an epoch, images of a batch, at least
_STEP, _FEW = 0.03, 32  # see `scaled`; images of a batch there
_SEEDS = 100_000  # what is added to the request's for trials


class Trial:
    r"""A request as a method receives it, and how far a new model is from what a retrained one would do.

    A tenth of the retained training images of every class, at most 500 in all, is held out of the method.  Goals, in
    percent, are the retrained reference's accuracies where one was given.  Else: on retained images the original's,
    which a retrained model was trained on as well; on forget images 0 where whole classes go, and for other requests
    that of a linear head refitted without them on the original's features.  These features know the forget images, so
    it is an upper bound; without a linear head there is no goal for them.

    score $= \prod_i (1 - |a_i - g_i|)$ over `PARTS`, see `megu.measure.distances.tug_of_war`.  No test image enters.
    Source: refitted head: exact unlearning of the last layer, Goel et al. 2022, arXiv 2201.06640.

    Args: matrix: of a guided method.  seed: added to the request's.
    """

    def __init__(self, checked, matrix, seed=0):
        images, settings, split = checked.images, checked.settings, checked.split
        held = _held_out(images, split.retain, settings.seed)
        split = replace(split, retain=split.retain[~torch.isin(split.retain, held)])
        gone = forgotten_classes(images, split, settings)
        given = checked.original, images, split, gone, matrix, settings.retain_images, None, settings.training
        self.checked, self.seed = checked, settings.seed + seed
        self._task = Task(*given, self.seed, checked.compute)
        retain = self._task.retain_sample()
        forget = self._task.sample(split.forget, _MOST, "checked")
        self.index = {"forget": forget, "fine_tuned": retain[:_MOST], "held_out": held}
        self.before = self._accuracies(checked.original)
        if checked.reference is not None:
            self.goals = self._accuracies(checked.reference)
        else:
            self.goals = {**self.before, "forget": 0.0 if gone else self._refitted(retain, forget)}

    def unlearn(self, parameters):
        """(New model in eval mode, its `Task`).  Raises: DivergedError where it runs away or gives no numbers."""
        method, task = self.checked.method, replace(self._task, clock=Stopwatch(), history={})
        with seeded(generator(self.seed, "unlearn", "layers")):  # dropout draws from the global one
            new = method.unlearn(task, parameters).eval()
        if not predict(new, task.images, task.split.forget[:1]).isfinite().all():
            raise DivergedError(f"{method.title}: the new model's logits are no numbers; nothing was kept")
        return new, task

    def _accuracies(self, model):
        images = self.checked.images
        return {part: accuracy(predict(model, images, index), images.y[index]) for part, index in self.index.items()}

    def _refitted(self, retain, forget):
        model, images = self.checked.original, self.checked.images
        if not has_features(model, images):
            return nan
        seen, asked = (collect_features(model, images, index).float() for index in (retain[:5000], forget))
        return probe(seen, images.y[retain[:5000]], asked, images.y[forget], images.num_classes)

    def look(self, model) -> dict:
        """Facts on a new model: of each part, images, accuracy before and after, goal in percent; the score."""
        after = self._accuracies(model)
        shares = ([of[part] / 100 for part in PARTS] for of in (after, self.goals))
        percent = pd.DataFrame({"before": self.before, "after": after, "goal": self.goals}).round(4)
        rows = percent.astype(object).where(percent.notna(), None).to_dict("index")
        parts = {part: {"images": len(index), **rows[part]} for part, index in self.index.items()}
        return {"parts": parts, "score": round(tug_of_war(*shares), 6)}


def _held_out(images, retain, seed):
    share, chosen = min(_SHARE, _MOST / len(retain)), []
    for k in range(images.num_classes):
        members = retain[images.y[retain] == k]
        order = torch.randperm(len(members), generator=generator(seed, "held out", str(k)))
        chosen.append(members[order[: int(share * len(members))].to(members.device)])
    return torch.cat(chosen).sort().values


def complaints(check: dict) -> list[str]:
    r"""Sentences on what `Trial.look` found farther from its goal than `NEAR` and two standard errors."""
    forget, fine_tuned, held = (check["parts"][part] for part in PARTS)
    left, goal = (f"{forget[name] or 0:.0f} %" for name in ("after", "goal"))
    said = {
        f"{left} of the {PARTS['forget']} are still named right, about {goal} would be expected": _away(forget) > 0,
        f"only {left} of the {PARTS['forget']} are named right, about {goal} would be expected": _away(forget) < 0,
        f"{-_away(held):.0f} points of accuracy are lost on {PARTS['held_out']}": _away(held) < 0,
        f"{_away(fine_tuned):.0f} points of accuracy are won on {PARTS['fine_tuned']}": _away(fine_tuned) > 0,
    }
    return [sentence for sentence, holds in said.items() if holds]


def _away(row):
    """Points from the goal, 0 where it is near or not known."""
    if row["goal"] is None or row["after"] is None:
        return 0.0
    share, difference = min(max(row["goal"] / 100, 0.02), 0.98), row["after"] - row["goal"]
    return difference if abs(difference) > NEAR + 200 * sqrt(share * (1 - share) / row["images"]) else 0.0


def warn(checked, check: dict):
    """Say in the log what is not near enough, and what to do."""
    if said := complaints(check):
        how = (
            "compare methods (megu compare)"
            if checked.request.tune
            else "search for other settings (tune=20, --tune 20)"
        )
        logging.getLogger("megu").warning("a check on training images: %s.  Remedy: %s", "; ".join(said), how)


def scaled(checked):
    r"""The method's settings for this request: what was not given follows the images and the model.

    Batches are made smaller where an epoch would have fewer than `_STEPS` steps, but not below `_LEAST` images.  The
    rates of SGD are multiplied by $\min(1, \eta / \eta_0)$, at least 0.1, where $\eta = L / \lVert \nabla L
    \rVert^2$ is the step that would bring the loss L of retained training images to 0 along its gradient (median of
    three batches of 32), and $\eta_0$ is `_STEP`, half of what the network has that the rates were tuned on.
    Source: Polyak 1987, Introduction to Optimization, step size with a known optimum.
    """
    given, usual = set(checked.request.settings or {}), checked.parameters
    recipes = {name: recipe for name, recipe in usual if isinstance(recipe, Recipe)}
    if not recipes:
        return usual
    count, changes = len(checked.split.forget) + min(checked.settings.retain_images, len(checked.split.retain)), {}
    share = max(0.1, min(1.0, _natural_step(checked) / _STEP))
    for name, recipe in recipes.items():
        changes[f"{name}.batch"] = min(recipe.batch, max(_LEAST, count // _STEPS))
        if recipe.optimiser == "sgd":
            changes[f"{name}.lr"] = float(f"{share * recipe.lr:.2g}")
    changes = {name: value for name, value in changes.items() if name not in given}
    return build(type(usual), nest(changes), f"methods.{checked.request.method}", over=usual)


def _natural_step(checked):
    model, images, retain, steps = checked.original, checked.images, checked.split.retain, []
    order = torch.randperm(len(retain), generator=generator(0, "natural step"))[: 3 * _FEW]
    for part in retain[order.to(retain.device)].chunk(3):
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        loss = F.cross_entropy(model(images.batch(part)).float(), images.y[part])
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        square = sum(gradient.square().sum().item() for gradient in gradients if gradient is not None)
        steps.append(loss.item() / square if square else inf)
    return median(steps)


def space_of(checked) -> dict[str, tuple]:
    r"""Settings to search and their bounds: those of the method's registration and the epochs, less what was given."""
    entry, parameters = checked.method, checked.parameters
    space = dict(entry.search or getattr(METHODS.get(entry.variant_of), "search", {}))
    if isinstance(getattr(parameters, "recipe", None), Recipe) and "epochs" not in type(parameters).model_fields:
        space["recipe.epochs"] = _EPOCHS
    silent = getattr(getattr(parameters, "noise", None), "kind", None) == "none"
    given = set(checked.request.settings or {})
    unused = {key for key in space if key in given or (silent and key.startswith("noise."))}
    return {key: reach for key, reach in space.items() if key not in unused}


def check_tune(checked):
    """Raises: SettingsError, before any work, where a search is asked for and cannot be made."""
    if checked.request.tune:
        importlib.import_module("megu.runs.tune")  # says what to install
        if not space_of(checked):
            what = f"tune is {checked.request.tune}, but method {checked.request.method!r} has nothing left to search"
            raise SettingsError(f"{what}: leave tune out, or give fewer settings")


def tuned(checked, store, matrix):
    r"""(The request with the settings of its best trial, what was tried); the request as it is and None without a
    search.

    Args: store, matrix: see `megu.own.guide_choice.transition`; every trial is kept.
    """
    if not checked.request.tune:
        return checked, None
    from megu.runs.tune import search  # noqa: PLC0415  (optuna is optional)

    space, trial, usual = space_of(checked), Trial(checked, matrix, _SEEDS), checked.parameters

    def with_values(values):
        return build(type(usual), nest(values), f"methods.{checked.request.method}", over=usual)

    def attempt(values):
        def make():
            shown = {key: attrgetter(key)(with_values(values)) for key in space}
            return pd.DataFrame([shown | _attempt(trial, with_values(values))]), {}

        save = partial(pd.DataFrame.to_csv, index=False)
        return store.once(f"tuning/{hash_json(values)}.csv", make, save, pd.read_csv)

    table = search(space, attempt, checked.request.tune, trial.seed, "tuning", [{}])
    best = int(table["score"].idxmax())
    chosen = {key: table[key].iloc[best].item() for key in space}
    facts = {
        "trials": len(table), "chosen": best, "seed": trial.seed, "seconds": round(table["seconds"].sum(), 3),
        "searched": {key: list(reach) for key, reach in space.items()},
        "table": table.astype(object).where(table.notna(), None).to_dict("records"),
    }  # fmt: skip
    settled = copy(checked)
    settled.parameters = with_values(chosen)
    return settled, facts


def _attempt(trial, parameters):
    clock = Stopwatch()
    with clock("trial"):
        try:
            found = trial.look(trial.unlearn(parameters)[0])
        except DivergedError:
            found = {"parts": {}, "score": 0.0}
    accuracies = {part: found["parts"].get(part, {}).get("after", nan) for part in PARTS}
    return {**accuracies, "score": found["score"], "seconds": round(clock.total, 3)}
