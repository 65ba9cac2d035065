"""One call from a request to a new model and its report."""

import logging
from contextlib import nullcontext
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from types import SimpleNamespace

from torch import nn

from megu.core import models
from megu.core.loading import weights_digest
from megu.core.train import DivergedError
from megu.own import report
from megu.own.findings import measure
from megu.own.guide_choice import transition
from megu.own.request import CheckedRequest, Request, collect_notices
from megu.own.tuning import PARTS, Trial, settled
from megu.runs.store import CODE, RunDirectory
from megu.settings.errors import StageError
from megu.settings.files import alone

NEAR = 5.0  # points from the goal of the check that are near enough


@dataclass(frozen=True)
class Unlearned:
    """What `unlearn` returns.

    Attributes:
        model: the new classifier, in eval mode.  report: see `megu.own.report.compose`.
        history: mean loss of each epoch, by the training's name.  seconds: by stage.
        folder: where everything was written, or None.
    """

    model: nn.Module = field(repr=False)
    history: dict
    seconds: dict
    report: dict = field(repr=False)
    folder: Path | None = field(repr=False)

    def save(self, folder):
        """Write model.safetensors, report.html and report.json into a folder."""
        folder = report.write(self.report, folder)
        models.save(self.model, folder / "model.safetensors", {"report": self.report["asked"]["index_sha256"]})


def unlearn(model, data, forget, *, out=None, **options) -> Unlearned:
    """Make a copy of a classifier forget, and report what can still be seen.

    Args:
        model, data, forget, options: see `megu.own.request.Request`.
        out: folder for answers, model and report, where an interrupted call goes on.
    Raises: SettingsError before any work; DivergedError with ``last_good`` where the training runs away.
    """
    return carry_out(CheckedRequest(Request(model, data, forget, **options)), out)


def carry_out(checked, out=None) -> Unlearned:
    """The work of `unlearn` on a `megu.own.request.CheckedRequest`."""
    folder = None if out is None else Path(out)
    with alone(folder) if folder else nullcontext(), collect_notices(checked.notices):
        store = RunDirectory(folder, _dependencies(checked), [checked.settings.seed]) if folder else _in_memory()
        matrix, guide = transition(checked, store)
        checked, search = settled(checked, store, matrix)
        new, training = _unlearned(checked, store, matrix)
        training["search"] = search
        checked.clock.seconds |= {"search": search["seconds"]} if search else {}
        warn(checked, training["check"])
        found, changes = measure(checked, store, new, matrix)
        if weights_digest(checked.given) != checked.weights:
            raise StageError("the model has changed while its copy was at work: do not train it meanwhile")
        facts = report.compose(checked, new, guide, training, found, changes)
        done = facts["done"]
        if folder:
            report.write(facts, folder)
            store.note("report", done["model"]["sha256_after"])
    return Unlearned(new, done["history"], done["seconds"], facts, folder)


def _in_memory():
    """What stands for a `megu.runs.store.RunDirectory` where nothing is kept."""
    facts = {}

    def once(name, make, save, load):
        content, facts[name] = make()
        return content

    nothing, notes = (lambda key, value: None), {"notes": {}}
    return SimpleNamespace(path=None, manifest=notes, once=once, facts=facts.get, note=nothing, same=nothing)


def _dependencies(checked):
    settings, images, guide = checked.settings.model_dump(mode="json"), checked.images, {}
    if checked.method.guided:
        guide = {**settings["guide"], "source": checked.guide}
        if checked.matrix is not None:
            guide["matrix"] = checked.matrix.tolist()
    return {
        "settings": {name: settings[name] for name in ("seed", "device", "threads", "autocast", "retain_images")},
        "guide": guide,
        "parameters": {checked.request.method: checked.parameters.model_dump(mode="json")},
        "tune": checked.request.tune,
        "data": images.digest(),
        "normalise": [images.mean.tolist(), images.std.tolist()],
        "model": checked.weights,
        "reference": checked.reference and weights_digest(checked.reference),
        "forget": checked.digest,
        "code": CODE,
    }


def _unlearned(checked, store, matrix):
    def make():
        trial = Trial(checked, matrix)
        new, task = trial.unlearn(checked.parameters)
        seconds = {part: round(value, 3) for part, value in task.clock.seconds.items()}
        return new, {"seconds": seconds, "history": task.history, "check": trial.look(new)}

    def save(model, path):
        models.save(model, path, {"method": checked.request.method, "forget": checked.digest})

    def load(path):
        return models.load(path, models.copy_of(checked.original))

    try:
        new = store.once("model.safetensors", make, save, load)
    except DivergedError as error:
        if store.path and error.last_good is not None:
            save(error.last_good, store.path / "last_good.safetensors")
            error.args = (f"{error}; the last good state is kept in last_good.safetensors",)
        raise
    for mine, theirs in zip(new.parameters(), checked.given.parameters(), strict=True):
        mine.requires_grad_(theirs.requires_grad)
    return new, store.facts("model.safetensors")


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
