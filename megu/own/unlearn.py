r"""Your own classifier and your own images: one call from a request to a new model and its report."""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from megu import methods
from megu.core import models
from megu.core.device import Stopwatch, generator, seeded
from megu.core.loading import has_features, weights_digest
from megu.core.splits import forgotten_classes
from megu.core.train import DivergedError, predict
from megu.measure.disentanglement import disentanglement, forgotten_concepts
from megu.measure.outputs import collect_outputs, load_outputs, save_outputs
from megu.methods.task import Task
from megu.own import report
from megu.own.findings import Models
from megu.own.guide_choice import transition_of
from megu.own.request import Request, check, collect_notices
from megu.runs.store import CODE, RunDirectory
from megu.settings.errors import SettingsError, StageError
from megu.settings.files import alone

MEASURED = 5000  # retain images that accuracies are taken on, at most
SCORED, MOST_CLASSES = 1000, 200  # images of a part, and classes, for the disentanglement score, which grows with both


@dataclass(frozen=True)
class Unlearned:
    r"""What `unlearn` returns.

    Attributes:
        model: the new classifier, in eval mode; the one that was given is untouched.
        history: mean loss of each epoch, by the training's name.
        seconds: by stage.
        report: the deletion report as a dictionary, see ``megu/own/assets/report.schema.json``.
        folder: where everything was written, or None.
    """

    model: nn.Module = field(repr=False)
    history: dict
    seconds: dict
    report: dict = field(repr=False)
    folder: Path | None = field(default=None, repr=False)

    def save(self, folder):
        r"""Write model.safetensors, report.html and report.json into a folder."""
        folder = report.write(self.report, folder)
        models.save(self.model, folder / "model.safetensors", {"report": self.report["asked"]["index_sha256"]})


def unlearn(model, data, forget, *, out=None, **options) -> Unlearned:
    r"""Make a copy of a classifier forget, and say what was done and what can still be seen.

    Args:
        model, data, forget, options: as of `megu.own.request.Request`: test, classes, subclasses, guide, method, seed,
            reference, normalise, size, retain_images, trained_on, settings.
        out: folder for answers, model and report; what is finished there is kept, and an interrupted call goes on.
    Raises: SettingsError before any work where something does not fit; DivergedError with ``last_good`` where the
        training runs away.
    """
    return carry_out(check(Request(model, data, forget, **options)), out)


def carry_out(checked, out=None) -> Unlearned:
    r"""The work of `unlearn` on a `megu.own.request.CheckedRequest`: guide, method, measurement, report."""
    folder = None if out is None else Path(out)
    with alone(folder) if folder else nullcontext(), collect_notices(checked.notices):
        before = weights_digest(checked.given)
        store = RunDirectory(folder, dependencies(checked, before), [checked.settings.seed]) if folder else InMemory()
        matrix, guide = transition(checked, store)
        new, training = unlearned(checked, store, matrix)
        found = collect(checked, store, new)
        if weights_digest(checked.given) != before:
            raise StageError(
                "the model that was given has changed while its copy was at work: give one that no other thread trains"
            )
        done = report.provenance(checked, before, new, guide, training)
        scores = disentanglement_scores(checked, found, new)
        facts = report.compose(checked, done, found, matrix, scores)
        if folder:
            report.write(facts, folder)
            store.note("report", done["model"]["sha256_after"])
    return Unlearned(new, done["history"], done["seconds"], facts, folder)


class InMemory:
    r"""A store of what is made once, as `megu.runs.store.RunDirectory`, of which nothing is kept."""

    path = None

    def __init__(self):
        self.manifest = {"artefacts": {}, "notes": {}}

    def once(self, name, make, save, load):
        """What ``make()`` gives."""
        content, self.manifest["artefacts"][name] = make()
        return content

    def facts(self, name):
        """What was recorded when ``name`` was made."""
        return self.manifest["artefacts"][name]

    def note(self, key, value):
        """Nothing is noted."""

    same = note


def dependencies(checked, before):
    r"""What the results depend on: a folder of another request is refused."""
    guide, settings = {}, checked.settings
    if methods.method(checked.request.method).guided:
        guide = {**settings.guide.model_dump(mode="json"), "source": checked.guide.source}
        if checked.guide.matrix is not None:
            guide["matrix"] = checked.guide.matrix.tolist()
    return {
        "settings": settings.model_dump(
            mode="json", include={"seed", "device", "threads", "autocast", "retain_images"}
        ),
        "guide": guide,
        "parameters": {checked.request.method: checked.parameters.model_dump(mode="json")},
        "data": checked.images.digest(),
        "normalise": [value.tolist() for value in (checked.images.mean, checked.images.std)],
        "model": before,
        "reference": checked.reference and weights_digest(checked.reference),
        "forget": checked.forget.digest,
        "code": CODE,
    }


def transition(checked, store):
    r"""The guide's transition matrix and what the report says about it; None, None where the method asks none."""
    if not methods.method(checked.request.method).guided:
        return None, None
    clock = Stopwatch()
    with clock("guide"):
        matrix, about = transition_of(checked, store.path and store.path / "answers.jsonl")
    store.same("transition matrix", about["matrix_sha256"][:16])  # of another guide it would belong to another model
    # A repeated call finds the answers: origin and seconds are those of the first.
    first = store.manifest["notes"].get("guide", {"about": about, "seconds": clock.seconds})
    store.note("guide", first)
    checked.clock.seconds.update(first["seconds"])
    return matrix, {**about, "origin": first["about"]["origin"]}


def unlearned(checked, store, matrix):
    r"""The new model, made once, and facts of its training (seconds, history)."""
    method, settings, split = methods.method(checked.request.method), checked.settings, checked.forget.split

    def make():
        task = Task(
            checked.original, checked.images, split, forgotten_classes(checked.images, split, settings), matrix,
            settings.retain_images, None, settings.training, settings.seed, checked.compute,
        )  # fmt: skip
        # Dropout and the like draw from the global generator.
        with seeded(generator(settings.seed, "unlearn", "layers")):
            new = method.unlearn(task, checked.parameters)
        if not predict(new, checked.images, split.forget[:1]).isfinite().all():
            raise DivergedError(f"{method.title}: the new model's logits are no numbers; nothing was kept")
        seconds = {part: round(value, 3) for part, value in task.clock.seconds.items()}
        return new.eval(), {"seconds": seconds, "history": task.history}

    def save(model, path):
        models.save(model, path, {"method": checked.request.method, "forget": checked.forget.digest})

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


def collect(checked, store, new) -> Models:
    r"""Outputs of original, new and reference model, on the split that is measured."""
    images, split, features = checked.images, checked.forget.split, has_features(checked.original, checked.images)
    split = replace(split, retain=_sample(split.retain, MEASURED, checked.settings.seed, "measured"))
    outputs, seconds = {}, 0.0

    def look(model, x):
        return models.features(model, x) if features else (model(x), model(x))

    def load(path):
        return load_outputs(path, checked.compute.device)

    for name, model in {"before": checked.original, "after": new, "reference": checked.reference}.items():
        if model is not None:

            def make(model=model):
                clock = Stopwatch()
                with clock("evaluation"):
                    made = collect_outputs(model, images, split, 100, look)
                return made, {"seconds": round(clock.total, 3)}

            file = f"outputs-{name}.safetensors"
            outputs[name] = store.once(file, make, save_outputs, load)
            seconds += store.facts(file)["seconds"]
    checked.clock.seconds["evaluation"] = seconds
    try:
        blank = models.reset(checked.original, checked.settings.seed, "untrained")
        blank = collect_outputs(blank, images, split, 100, look).logits
    except SettingsError:
        blank = None
    return Models(outputs, split, blank, features)


def _sample(index, count, seed, purpose):
    """At most ``count`` of ``index`` at random, in their order."""
    chosen = torch.randperm(len(index), generator=generator(seed, purpose))[:count]
    return index[chosen.sort().values.to(index.device)]


def disentanglement_scores(checked, found, new):
    r"""The disentanglement score as list of dictionaries (model, view, measure, value, low, high), or None: not
    measured.

    Measured on at most `SCORED` images of a part, where whole (sub-)classes are forgotten and the model has features to
    look at.
    """
    images, split, seed = checked.images, found.split, checked.settings.seed
    if not (found.features and forgotten_concepts(images, checked.forget.split)):
        return None
    if len(images.fine_classes) > MOST_CLASSES:
        return None
    few = {part: _sample(getattr(split, part), SCORED, seed, "scored") for part in ("retain", "test_retain")}
    few = replace(split, **few)
    scores = disentanglement(checked.original, new, checked.reference, images, few, draws=100, seed=seed)
    return scores.astype(object).where(scores.notna(), None).round(4).to_dict("records")
