r"""How a run's models are made, and that each is made once."""

from pathlib import Path

from megu import methods
from megu.core import device, models
from megu.core.device import Stopwatch
from megu.core.loading import check_accuracy, read_model
from megu.methods.task import Task
from megu.settings.files import digest
from megu.settings.values import build, nest

_CHECK = (
    "the order of its classes, and whether it was trained on images normalised by the mean and deviation of these training images, as a run shows them "
    "(a file trained with others is for `python -m megu unlearn --normalise`)"
)


class MakesModels:
    r"""The part of an experiment that trains; needs ``settings``, ``images``, ``split``, ``forgotten``, ``compute``,
    ``run`` and ``shared``."""

    def task(self, name, seed, repeat=0, source=None):
        r"""The `megu.methods.task.Task` that a method receives for a seed of pre-training and a repeat.

        A guided method finds the transition matrix of guide ``source`` in it (None: the run's own).
        """
        transition = self.transition(source) if methods.method(name).guided else None
        # The first repeat has the seed of pre-training itself; no seed of another original is ever met.
        return self._task(self.original(seed), seed + 10_000 * repeat, transition)

    def _task(self, original, seed, transition=None):
        return Task(
            original, self.images, self.split, self.forgotten, transition, self.settings.retain_images,
            self.settings.arch, self.settings.training, seed, self.compute, weights=self.settings.weights,
        )  # fmt: skip

    def _new(self, seed, purpose):
        return models.build(
            self.settings.arch, self.images.num_classes, self.images.shape, seed, purpose, self.settings.weights
        ).to(self.compute.device)

    def _timed(self, prepare, train):
        task, total, where = prepare(), Stopwatch(), self.compute.device
        device.fresh_peak(where)  # prepare() may have made other models
        with total("total"):
            model = train(task)
        return model, {
            "seconds": {**task.clock.seconds, **total.seconds},
            "peak_memory_mb": round(device.peak_memory_mb(where)),
        }

    def _model(self, name, seed, prepare, train, once=None):
        about = {"method": name, "seed": seed, "arch": self.settings.arch, "digest": digest(self.run.about)}
        return (once or self.run.once)(
            f"models/{name}-{seed}.safetensors", lambda: self._timed(prepare, train), lambda model, path: models.save(model, path, about),
            lambda path: models.load(path, self._new(seed, "blank")),
        )  # fmt: skip

    def once_for_all(self, name, make, save, load):
        r"""`megu.runs.store.Run.once` for what does not depend on the forgetting request: made once for all runs beside
        this one, and copied into each."""

        def copy():
            content = self.shared.once(name, make, save, load)
            facts = self.shared.manifest["artefacts"][name]
            return content, {key: value for key, value in facts.items() if key != "sha256"}

        return self.run.once(name, copy, save, load)

    def original(self, seed):
        r"""The classifier before forgetting, in eval mode: trained on retain and forget images, or the one that
        ``settings.original`` names.

        Raises: SettingsError where the file is of another architecture, or names no more of the training images than
            chance would.
        """
        return self._model(
            "original", seed, lambda: self._task(self._new(seed, "original"), seed),
            lambda task: self._original(task, f"original, seed {seed}"), self.once_for_all,
        )  # fmt: skip

    def _original(self, task, label):
        if not self.settings.original.path:
            return self._fit(task, self.split.train, label)
        path = Path(self.settings.original.path)
        model = read_model(path, self.settings.arch, self.images.num_classes, self.images.shape).to(self.compute.device)
        check_accuracy(model, self.images, self.split.train, _CHECK)
        return model

    def trained(self, seed, purpose, index, label):
        r"""A new classifier, trained by the original's recipe on images ``index``; not kept."""
        return self._fit(self._task(self._new(seed, purpose), seed), index, label)

    def _fit(self, task, index, label):
        return task.train_on(task.original, index, self.images.y[index], self.settings.training, label=label)

    def unlearned(self, name, seed):
        r"""The model of a method and seed; ``original`` and ``retrain`` are methods too."""
        return self.original(seed) if name == "original" else self._model(name, seed, *self._call(name, seed))

    def _call(self, name, seed, repeat=0):
        unlearn, parameters = methods.method(name).unlearn, self.parameters(name)
        return lambda: self.task(name, seed, repeat), lambda task: unlearn(task, parameters)

    def attempt(self, name, seed, changes, source=None):
        r"""A method's model with other parameters (dotted name -> value) or another guide, not kept: for tuning and
        ablations."""
        usual = self.parameters(name)
        return methods.method(name).unlearn(
            self.task(name, seed, source=source), build(type(usual), nest(changes), f"methods.{name}", over=usual)
        )

    def parameters(self, name):
        r"""The settings of a method as this run uses them."""
        return methods.method_settings(name, self.settings)
