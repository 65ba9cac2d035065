"""One call from a request to a new model and its report."""

import copy
import logging
import shutil
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from megu.core import models, resume
from megu.core.device import Stopwatch, usual_torch
from megu.core.keymap import same_weights, say_zeros
from megu.core.loading import weights_digest
from megu.core.onnx import write_onnx
from megu.core.parallel import as_before
from megu.core.train import DivergedError
from megu.methods import METHODS
from megu.methods.megu import AGAIN
from megu.own import report
from megu.own.estimate import Plan, calm_training, plan, retraining_time
from megu.own.findings import measure
from megu.own.guide_choice import transition
from megu.own.request import CheckedRequest, Request
from megu.own.tuning import Trial, check_answers, kept, made_by, settled
from megu.runs.loggers import loggers
from megu.runs.store import CODE, RunDirectory, in_memory
from megu.settings.errors import SettingsError, StageError
from megu.settings.files import alone, atomic
from megu.settings.place import MODEL, REFERENCE, SUMS, WORK, place
from megu.settings.progress import collect_notices, tell, watching
from megu.settings.request_file import arguments_of
from megu.settings.values import shown

LOG = logging.getLogger("megu")
OUT = "the folder {!r} (out=, --out)"


@dataclass(frozen=True)
class Unlearned:
    """What `unlearn` returns.

    Attributes:
        model: the new classifier, in eval mode.  report: see `megu.own.report.compose`.
        history: mean loss of each epoch, by the training's name.  seconds: by stage.
        folder: where everything was written, or None.  about: what model.safetensors says of itself in its header.
        reference: that was retrained here, or None.
    """

    model: nn.Module = field(repr=False)
    history: dict
    seconds: dict
    report: dict = field(repr=False)
    folder: Path | None = field(repr=False)
    about: dict = field(repr=False)
    reference: nn.Module | None = field(default=None, repr=False)
    _images: dict = field(default_factory=dict, repr=False)  # folders of them, in which nothing is saved

    def save(self, folder):
        """Write model.safetensors, report.html, report.json and SHA256SUMS into a folder, see `megu.settings.place`,
        and reference.safetensors where it was made here.

        Raises: SettingsError where the model is not what the report speaks of.
        """
        self._check()
        folder, files = place(folder, self._images), {MODEL: (self.model, self.about)}
        if self.reference is not None:
            files[REFERENCE] = self.reference, report.named(self.reference, self.about | {"method": "retrain"})
        for name, (model, header) in files.items():
            with atomic(folder / name, locked=True) as part:
                models.save(model, part, header)
        report.write(self.report, folder, files)

    def _check(self):
        if weights_digest(self.model) != self.about["weights"]:
            what = "the weights have changed since the report was made"
            raise SettingsError(f"{what}: write a report of them (megu.own.report.recheck), and save them yourself")

    def write_onnx(self, path) -> float:
        """Write the classifier as ONNX; it takes what the given one takes, see `megu.core.onnx.write_onnx`.

        Raises: as `save`.
        """
        self._check()
        about, path = self.report["asked"]["data"], Path(path)
        off = write_onnx(self.model, tuple(about["shape"]), path, len(about["classes"]))
        if self.folder and path.absolute().parent == self.folder.absolute():
            report.write_html(self.report, self.folder)  # SHA256SUMS names it, too
        return off


@as_before()
def unlearn(
    model=None, data=None, forget=None, *, config=None, out=None, dry_run=False, callbacks=(), log=None, **options
) -> "Unlearned | Plan":
    """Make a copy of a classifier forget, and report what can still be seen.

    Args:
        model, data, forget, options: see `megu.own.request.Request`.
        config: a TOML or YAML file of them, see `megu.settings.request_file`; what is given here wins.
        out: folder for model and report; an interrupted call goes on from its ``work``, which is not handed over: it
            keeps what the models say of each forgotten image.
        dry_run: read and check everything, write nothing, and return the `megu.own.estimate.Plan`.
        callbacks: see `megu.settings.progress.Callback`.  log: see `megu.runs.loggers.loggers`.
    Raises: SettingsError before any work; DivergedError with ``last_good`` where the training runs away.
    """
    if not isinstance(dry_run, bool):
        raise SettingsError(f"dry_run is {shown(dry_run)}: give True or False")
    given = arguments_of(config, model=model, data=data, forget=forget, out=out, **options)
    out = place(given.pop("out", None), given)
    with watching(callbacks), watching(() if dry_run else loggers(log, out)):
        checked = CheckedRequest(Request.of(given))
        return plan(checked, out) if dry_run else carry_out(checked, out)


@usual_torch()
def carry_out(checked, out=None) -> Unlearned:
    """The work of `unlearn` on a `megu.own.request.CheckedRequest`."""
    folder, work = (Path(out), Path(out) / WORK) if out else (None, None)
    needs, called = (dependencies(checked), [checked.settings.seed]), OUT.format(folder and folder.name)
    with alone(work, called) if folder else nullcontext(), collect_notices(checked.notices):
        store = RunDirectory(work, *needs, called=called) if folder else in_memory()
        check_answers(checked, store, called)
        matrix, guide = transition(checked, store)
        if checked.request.retrain:
            checked.reference = retrained(checked, store)
        checked, search = settled(checked, store, matrix)
        new, training = _unlearned(checked, store, matrix)
        if checked.reference is not None and same_weights(new, checked.reference):
            what = "reference has the weights of the new model, by which it would be measured"
            raise SettingsError(f"{what}: give a model retrained without the forgotten images, or none")
        training["search"] = search
        checked.clock.seconds |= {"search": search["seconds"]} if search else {}
        warn(checked, training)
        say_zeros(checked.original, new)
        state = copy.deepcopy(new.state_dict())
        found = measure(checked, store, new, matrix)
        new.load_state_dict(state)  # a buffer may count what a model in eval mode was asked
        if weights_digest(checked.given) != checked.weights:
            raise StageError("the model has changed while its copy was at work: do not train it meanwhile")
        facts = report.compose(checked, new, guide, training, found)
        if folder:
            (folder / SUMS).unlink(missing_ok=True)  # of what is replaced now
            for name in (names := [MODEL, REFERENCE][: 1 + checked.request.retrain]):
                with atomic(folder / name, locked=True) as part:
                    shutil.copyfile(work / name, part)
            facts = report.write(facts, folder, names)
            store.note("report", facts["done"]["model"]["sha256_after"])
        new, done = models.given_back(checked.given, new), facts["done"]
        made = checked.reference if checked.request.retrain else None
        images = {k: v for k, v in vars(checked.request).items() if k in ("data", "test") and isinstance(v, str | Path)}
        result = Unlearned(
            new, done["history"], done["seconds"], facts, folder, report.about(checked, new), made, images
        )
        tell("on_end", result)
    return result


def dependencies(checked) -> dict:
    """What the models of a request depend on, for a `megu.runs.store.RunDirectory`."""
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
        "training_images": images.num_train,  # the others are unseen
        "normalise": [images.mean.tolist(), images.std.tolist()],
        "model": checked.weights,
        "layers": resume.layers_digest(checked.given),
        "reference": None if checked.reference is None else weights_digest(checked.reference),
        "retrain": settings["training"] if checked.request.retrain else None,
        "forget": {"images": checked.digest, **settings["forget"]},
        "code": CODE,
    }


def _kept(checked, store, file, method, make):
    def save(model, path):
        models.save(model, path, {**report.about(checked, model), "method": method})

    def load(path):
        return models.load(path, models.copy_of(checked.original))

    try:
        return store.once(file, make, save, load)
    except DivergedError as error:
        if store.path and error.last_good is not None:
            save(error.last_good, store.path / "last_good.safetensors")
            error.args = (f"{error}; the last good state is kept in {WORK}/last_good.safetensors",)
        raise


def _unlearned(checked, store, matrix):
    def make():
        trial = Trial(checked, matrix)
        trained, task = trial.unlearn(checked.parameters)
        # Buffers of no file stay as they were, here as in one that is read.
        new = models.refilled(models.copy_of(checked.original).eval(), trained.state_dict())
        seconds = {part: round(value, 3) for part, value in task.clock.seconds.items()}
        made = report.made_on(checked.compute)
        return new, {"seconds": seconds, "history": task.history, "check": trial.look(new), "made": made}

    return _kept(checked, store, MODEL, checked.request.method, make), store.facts(MODEL)


def retrained(checked, store) -> nn.Module:
    """The reference, trained anew on all retained images, once in a `megu.runs.store.RunDirectory`."""

    changes = kept(store, "training", lambda: calm_training(checked))
    recipe = checked.settings.training.model_copy(update=changes)

    def make():
        how = f"{recipe.epochs} epochs of batches of {recipe.batch}, learning rate {recipe.lr:g}"
        said = f"the reference is retrained from new weights, {how}"  # in reports without the time, another each time
        LOG.warning("%s, which takes %s", said, retraining_time(checked), extra={"report": said})
        task = replace(checked.task(checked.split, None, checked.settings.seed), training=recipe)
        clock = Stopwatch()
        with clock("retraining"):
            new = made_by(METHODS["retrain"], task, None)
        return new, {"seconds": {"retraining": round(clock.total, 3)}, "history": task.history}

    model = _kept(checked, store, REFERENCE, "retrain", make)
    checked.clock.seconds.update(store.facts(REFERENCE)["seconds"])
    return model


def warn(checked, training: dict):
    """Say in the log what was done twice, and what is not near enough, and what to do."""
    if {*AGAIN} <= training["history"].keys():
        LOG.warning("the noise hid the forgotten images: MeGU trained once more, with the clean ones beside (A16)")
    if said := report.complaints(training["check"]):
        search = "" if checked.request.tune else "search for other settings (tune=20, --tune 20), or "
        how = f"{search}try other methods (megu compare; which method when: megu/methods/README.md)"
        LOG.warning("a check on training images: %s.  Remedy: %s", "; ".join(said), how)
