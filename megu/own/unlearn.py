"""One call from a request to a new model and its report."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from torch import nn

from megu.core import models
from megu.core.device import generator, seeded
from megu.core.loading import weights_digest
from megu.core.onnx import write_onnx
from megu.core.splits import forgotten_classes
from megu.core.train import DivergedError, predict
from megu.methods.task import Task
from megu.own import report
from megu.own.estimate import Plan, plan
from megu.own.findings import measure
from megu.own.guide_choice import transition
from megu.own.request import CheckedRequest, Request, collect_notices
from megu.runs.loggers import loggers
from megu.runs.store import CODE, RunDirectory
from megu.settings.errors import StageError
from megu.settings.files import alone
from megu.settings.progress import tell, watching
from megu.settings.request_file import overlay, request_of


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

    def write_onnx(self, path) -> float:
        """Write the classifier as ONNX; it takes what the given one takes, see `megu.core.onnx.write_onnx`."""
        return write_onnx(self.model, tuple(self.report["asked"]["data"]["shape"]), Path(path))


def unlearn(
    model=None, data=None, forget=None, *, config=None, out=None, dry_run=False, callbacks=(), log=None, **options
) -> "Unlearned | Plan":
    """Make a copy of a classifier forget, and report what can still be seen.

    Args:
        model, data, forget, options: see `megu.own.request.Request`.
        config: a TOML or YAML file of them, see `megu.settings.request_file`; what is given here wins.
        out: folder for answers, model and report, where an interrupted call goes on.
        dry_run: read and check everything, write nothing, and return the `megu.own.estimate.Plan`.
        callbacks: see `megu.settings.progress.Callback`.  log: see `megu.runs.loggers.loggers`.
    Raises: SettingsError before any work; DivergedError with ``last_good`` where the training runs away.
    """
    given = {"model": model, "data": data, "forget": forget, "out": out}
    given = options | {name: value for name, value in given.items() if value is not None}
    if config is not None:
        given = overlay(request_of({}, config).arguments(), given)
    out = given.pop("out", None)
    with watching([*callbacks, *([] if dry_run else loggers(log, out))]):
        checked = CheckedRequest(Request.of(given))
        return plan(checked, out) if dry_run else carry_out(checked, out)


def carry_out(checked, out=None) -> Unlearned:
    """The work of `unlearn` on a `megu.own.request.CheckedRequest`."""
    folder = None if out is None else Path(out)
    with alone(folder) if folder else nullcontext(), collect_notices(checked.notices):
        store = RunDirectory(folder, _dependencies(checked), [checked.settings.seed]) if folder else _in_memory()
        matrix, guide = transition(checked, store)
        new, training = _unlearned(checked, store, matrix)
        found, changes = measure(checked, store, new, matrix)
        if weights_digest(checked.given) != checked.weights:
            raise StageError("the model has changed while its copy was at work: do not train it meanwhile")
        facts = report.compose(checked, new, guide, training, found, changes)
        done = facts["done"]
        if folder:
            report.write(facts, folder)
            store.note("report", done["model"]["sha256_after"])
        result = Unlearned(new, done["history"], done["seconds"], facts, folder)
        tell("on_end", result)
    return result


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
        "data": images.digest(),
        "normalise": [images.mean.tolist(), images.std.tolist()],
        "model": checked.weights,
        "reference": checked.reference and weights_digest(checked.reference),
        "forget": checked.digest,
        "code": CODE,
    }


def _unlearned(checked, store, matrix):
    original, images, split, settings = checked.original, checked.images, checked.split, checked.settings

    def make():
        gone, sample, recipe = forgotten_classes(images, split, settings), settings.retain_images, settings.training
        task = Task(original, images, split, gone, matrix, sample, None, recipe, settings.seed, checked.compute)
        with seeded(generator(settings.seed, "unlearn", "layers")):  # dropout draws from the global one
            new = checked.method.unlearn(task, checked.parameters)
        if not predict(new, images, split.forget[:1]).isfinite().all():
            raise DivergedError(f"{checked.method.title}: the new model's logits are no numbers; nothing was kept")
        seconds = {part: round(value, 3) for part, value in task.clock.seconds.items()}
        return new.eval(), {"seconds": seconds, "history": task.history}

    def save(model, path):
        models.save(model, path, {"method": checked.request.method, "forget": checked.digest})

    try:
        new = store.once("model.safetensors", make, save, lambda path: models.load(path, models.copy_of(original)))
    except DivergedError as error:
        if store.path and error.last_good is not None:
            save(error.last_good, store.path / "last_good.safetensors")
            error.args = (f"{error}; the last good state is kept in last_good.safetensors",)
        raise
    for mine, theirs in zip(new.parameters(), checked.given.parameters(), strict=True):
        mine.requires_grad_(theirs.requires_grad)
    return new, store.facts("model.safetensors")
