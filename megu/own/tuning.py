"""Settings for a model that nobody tuned for: scaled to the request, searched and checked on training images."""

import importlib
import json
import logging
from copy import copy
from dataclasses import replace
from functools import cache, partial
from math import inf, isnan, nan
from operator import attrgetter

from torch.nn import functional as F

from megu.core import models, resume
from megu.core.device import Stopwatch, generator, seeded
from megu.core.models import accuracy
from megu.core.train import DivergedError, predict
from megu.measure.distances import tug_of_war
from megu.methods import METHODS
from megu.methods.goal import goal, known_classes
from megu.own.verdict import limit
from megu.settings.config import Recipe
from megu.settings.errors import SettingsError, StageError
from megu.settings.files import hash_json
from megu.settings.values import build, dotted, nest

PARTS = {
    "forget": "forgotten training images",
    "fine_tuned": "retained images to fine-tune on",
    "held_out": "retained training images held out of it",
}
MOST = 500  # images of each part
_EPOCHS = (1, 10)
STEPS, LEAST = 12, 8  # steps of an epoch, images of a batch, at least
_SHARES, _FEW, CALM = (1, 0.3, 0.1, 0.03), 64, 0.2  # see `settled`; images of a batch there; nats
SEEDS = 100_000  # what is added to the request's for trials


class Trial:
    r"""A request as a method receives it, and how far a new model is from what a retrained one would do.

    A `tenth` of the retained training images, at most 500, is held out of the method.  Goals, in percent, are
    the retrained reference's accuracies where one was given that is not in doubt, else on forget images
    `megu.methods.goal.goal`; on retained images the original's where they are higher, or none was given.

    score $= \prod_i (1 - |a_i - g_i|)$ over `PARTS`, see `megu.measure.distances.tug_of_war`.  No test image enters.

    Args: matrix: of a guided method.  seed: added to the request's.
    """

    def __init__(self, checked, matrix, seed=0):
        split, self.checked, self.seed = checked.split, checked, checked.settings.seed + seed
        held, _, retain = checked.held_out
        split = replace(split, retain=retain)
        self._task = checked.task(split, matrix, self.seed)
        retain = self._task.retain_sample()
        forget = self._task.sample(split.forget, MOST, "checked")
        self.index = {"forget": forget, "fine_tuned": retain[:MOST], "held_out": held}
        self.before = self._accuracies(checked.original)
        found = None if checked.reference is None else self._accuracies(checked.reference)
        if found is None or self._in_doubt(found["fine_tuned"]):
            self.goals = {**self.before, "forget": goal(self._task, forget)}
        else:  # both models were trained on what is retained, the reference perhaps too little
            self.goals = {part: max(found[part], self.before[part]) for part in PARTS} | {"forget": found["forget"]}

    def _in_doubt(self, kept):  # nor does the verdict take such a reference as a measure
        images, index = self.checked.images, self.index
        known = bool(self._task.forgotten and known_classes(self.checked.reference, images, index["forget"]))
        counts = images.y[index["fine_tuned"]].bincount()
        return known or kept < limit(self.before["fine_tuned"], (100 * counts.max() / counts.sum()).item(), "ruined")

    def unlearn(self, parameters):
        """(New model in eval mode, its `Task`), see `made_by`."""
        task = replace(self._task, clock=Stopwatch(), history={})
        return made_by(self.checked.method, task, parameters), task

    def _accuracies(self, model):
        y = self.checked.images.y
        return {part: accuracy(self._logits(model, part), y[index]) for part, index in self.index.items()}

    def _logits(self, model, part):
        known = part == "held_out" and model is self.checked.original
        return self.checked.held_out[1] if known else predict(model, self.checked.images, self.index[part])

    def calm(self, recipe, rate) -> bool:
        """Whether ten steps of a rate leave the loss on held-out images nearly as it was."""
        if not len(self.index["held_out"]):
            return True
        model, _ = ten_steps(self._task, partial(models.copy_of, self.checked.original), recipe, rate)
        return model is not None and self._loss(model) <= self._loss(self.checked.original) + CALM

    def _loss(self, model):
        return F.cross_entropy(self._logits(model, "held_out"), self.checked.images.y[self.index["held_out"]]).item()

    def look(self, model) -> dict:
        """Facts on a new model: of each part, images, accuracy before and after, goal in percent; the score."""
        after = self._accuracies(model)
        shares = ([of[part] / 100 for part in PARTS] for of in (after, self.goals))
        percent, parts = {"before": self.before, "after": after, "goal": self.goals}, {}
        for part, index in self.index.items():
            row = {name: None if isnan(of[part]) else round(of[part], 4) for name, of in percent.items()}
            parts[part] = {"images": len(index), **row}
        return {"parts": parts, "score": round(tug_of_war(*shares), 6)}


def ten_steps(task, make, recipe, rate):
    """(A model after ten steps of a rate, or None where they run away; their mean loss)."""
    steps = {"epochs": 1, "schedule": "constant", "batch": _FEW, "lr": rate, "warmup_epochs": 0.0}
    task, index = replace(task, history={}), task.retain_sample()[: 10 * _FEW]
    try:
        with seeded(generator(task.seed, "rate")):
            model = make()
            task.train_on(model, index, task.images.y[index], recipe.model_copy(update=steps), label="rate")
    except DivergedError:
        return None, inf
    return model, task.history["rate"][0]


def made_by(method, task, parameters):
    """A method's new model in eval mode.  Raises: DivergedError where it runs away or gives no numbers."""
    with seeded(generator(task.seed, "unlearn", "layers")):  # dropout draws from the global one
        new = method.unlearn(task, parameters).train().eval()  # some trained it in eval mode
    if not predict(new, task.images, task.split.forget[:1]).isfinite().all():
        raise DivergedError(f"{method.title}: the new model's logits are no numbers; nothing was kept")
    return new


def scaled(checked):
    r"""The method's settings, with batches that give an epoch `STEPS` steps at least; what was given stays."""
    given, usual = dotted(checked.request.settings or {}), checked.parameters
    count = len(checked.split.forget) + min(checked.settings.retain_images, len(checked.split.retain))
    most = max(LEAST, count // STEPS)
    changes = {f"{name}.batch": min(recipe.batch, most) for name, recipe in usual if isinstance(recipe, Recipe)}
    return _changed(checked, {name: value for name, value in changes.items() if name not in given})


def _changed(checked, values):
    return build(type(checked.parameters), nest(values), f"methods.{checked.request.method}", over=checked.parameters)


def _calm_rates(checked, trial):
    """Learning rate of each recipe that ten steps of it showed to be too large -> a smaller one."""
    given, out = dotted(checked.request.settings or {}), {}
    for name, recipe in checked.parameters:
        if isinstance(recipe, Recipe) and f"{name}.lr" not in given:
            rate = lowered(recipe.lr, partial(trial().calm, recipe))
            out |= {f"{name}.lr": rate} if rate else {}
    return out


def lowered(rate, calm):
    """The first share of a rate that is calm, the last where none is, or None where the rate itself is."""
    rates = [float(f"{share * rate:.2g}") for share in _SHARES]
    chosen = next((one for one in rates if calm(one)), rates[-1])
    return chosen if chosen < rates[0] else None


def space_of(checked) -> dict[str, tuple]:
    r"""Settings to search and their bounds: those of the method's registration and the epochs, less what was given."""
    entry, parameters = checked.method, checked.parameters
    space = dict(entry.search or getattr(METHODS.get(entry.variant_of), "search", {}))
    if isinstance(getattr(parameters, "recipe", None), Recipe) and "epochs" not in type(parameters).model_fields:
        space["recipe.epochs"] = _EPOCHS
    silent = getattr(getattr(parameters, "noise", None), "kind", None) == "none"
    given = dotted(checked.request.settings or {})
    return {key: reach for key, reach in space.items() if not (key in given or (silent and key.startswith("noise.")))}


def check_tune(checked):
    """Raises: SettingsError, before any work, where a search is asked for and cannot be made."""
    if checked.request.tune:
        importlib.import_module("megu.runs.tune")  # says what to install
        if not space_of(checked):
            what = f"tune is {checked.request.tune}, but method {checked.request.method!r} has nothing left to search"
            raise SettingsError(f"{what}: leave tune out, or give fewer settings")


def settled(checked, store, matrix):
    r"""(The request with the settings that are used, what a search tried or None).

    A learning rate is lowered to 0.3, 0.1 or 0.03 of itself where ten steps of it on retained images raise the loss on
    those that are held out by more than `CALM` nats; the network that the rates were tuned on keeps them.  With
    ``tune``, a search follows, and its best trial is taken.

    Args: store, matrix: see `megu.own.guide_choice.transition`; what is tried is kept.
    """
    trial = cache(lambda: Trial(checked, matrix, SEEDS))  # not where all is known already
    rates = kept(store, "rates", lambda: _calm_rates(checked, trial))
    settled = copy(checked)
    settled.parameters = _changed(checked, rates)
    for name, rate in rates.items():
        what = "%s is lowered to %g: ten steps of a larger one raised the loss on held-out training images"
        logging.getLogger("megu").warning(what, name, rate)
    if not checked.request.tune:
        return settled, None
    import pandas as pd  # noqa: PLC0415  (half a second, before any refusal)

    from megu.runs.tune import search  # noqa: PLC0415  (optuna is optional)

    space, seed = space_of(checked), checked.settings.seed + SEEDS

    def attempt(values):
        def make():
            parameters = _changed(settled, values)
            shown = {key: attrgetter(key)(parameters) for key in space}
            return pd.DataFrame([shown | _attempt(trial(), parameters)]), {}

        save = partial(pd.DataFrame.to_csv, index=False)
        return store.once(f"tuning/{hash_json(values)}.csv", make, save, pd.read_csv)

    table = search(space, attempt, checked.request.tune, seed, "tuning", [{}])
    best = int(table["score"].idxmax())
    facts = {
        "trials": len(table), "chosen": best, "seed": seed, "seconds": round(table["seconds"].sum(), 3),
        "searched": {key: list(reach) for key, reach in space.items()},
        "table": table.astype(object).where(table.notna(), None).to_dict("records"),
    }  # fmt: skip
    settled.parameters = _changed(settled, {key: table[key].iloc[best].item() for key in space})
    return settled, facts


def kept(store, name, make) -> dict:
    """What ``make()`` gave first, in a `megu.runs.store.RunDirectory`."""

    def write(values, path):
        path.write_text(json.dumps(values))

    return store.once(f"tuning/{name}.json", lambda: (make(), {}), write, lambda path: json.loads(path.read_text()))


def check_answers(checked, store, called):
    """Raises: StageError where a `megu.runs.store.RunDirectory` was made with a model of the same weights that answers
    otherwise, in eval or in training mode: its forward(), its dropout or the modes of its parts were others."""
    now = resume.answers(checked.original, checked.images)
    if (before := store.manifest["notes"].get("answers")) is None:
        store.note("answers", now)
    elif mode := resume.differ(before, now, loosely=checked.compute.autocast):
        what = f"{called} was made with a model of these weights that answers otherwise in {mode} mode"
        raise StageError(f"{what} (another forward, dropout, or parts in eval mode?): choose another folder")


def _attempt(trial, parameters):
    clock = Stopwatch()
    with clock("trial"):
        try:
            found = trial.look(trial.unlearn(parameters)[0])
        except DivergedError:
            found = {"parts": {}, "score": 0.0}
    accuracies = {part: found["parts"].get(part, {}).get("after", nan) for part in PARTS}
    return {**accuracies, "score": found["score"], "seconds": round(clock.total, 3)}
