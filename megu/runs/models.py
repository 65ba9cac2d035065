r"""How the models of a forgetting request are made, and which of them are shared."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from jaxtyping import Int
from torch import Tensor, nn

from megu import methods
from megu.core import device, models, splits
from megu.core.device import Stopwatch
from megu.core.loading import check_accuracy, read_model
from megu.methods.task import Task
from megu.settings.config import Part
from megu.settings.files import hash_json
from megu.settings.values import build, nest

REFERENCES = ("original", "retrain")  # what every model of a seed of pre-training is compared with
_CHECK = (
    "the order of its classes, and that it was trained on images normalised by the mean and deviation of these, as a"
    " run shows them (else use `megu unlearn --normalise`)"
)


class Models:
    r"""Classifiers of a `megu.runs.experiment.Experiment`, which keeps ``copies`` of what it shares with others;
    ``started`` is called whenever a model starts to be made."""

    def __init__(self, lab, copies: bool):
        self.lab, self.copies, self.started = lab, copies, lambda: None
        self.settings, self.images, self.split, self.compute = lab.settings, lab.images, lab.split, lab.compute
        self.run, self.shared = lab.run, lab.shared
        self.forgotten = splits.forgotten_classes(self.images, self.split, self.settings)

    def parameters(self, name: str, changes: dict | None = None) -> Part:
        r"""Settings of a method in this run, ``changes`` (dotted name -> value) on top."""
        usual = methods.method_settings(name, self.settings)
        return build(type(usual), nest(changes), f"methods.{name}", over=usual) if changes else usual

    def new(self, seed: int, purpose: str) -> nn.Module:
        r"""An untrained network."""
        s = self.settings
        model = models.build(s.arch, self.images.num_classes, self.images.shape, seed, purpose, s.weights)
        return model.to(self.compute.device)

    def task(self, name: str, seed: int, repeat: int = 0, source: str | None = None) -> Task:
        r"""What a method receives for a seed of pre-training and a repeat of unlearning."""
        if name == "original":
            return self.first_task(seed)
        transition = self.lab.transition(source) if methods.method(name).guided else None
        # Repeat 0 has the seed of pre-training; others meet that of no original.
        return self._task(self.unlearned("original", seed), seed + 10_000 * repeat, transition)

    def first_task(self, seed: int, purpose: str = "original") -> Task:
        r"""The task of training an untrained network."""
        return self._task(self.new(seed, purpose), seed)

    def _task(self, original, seed, transition=None):
        s, given = self.settings, (original, self.images, self.split, self.forgotten, transition)
        return Task(*given, s.retain_images, s.arch, s.training, seed, self.compute, weights=s.weights)

    def train(self, name: str, task: Task, changes: dict | None = None) -> nn.Module:
        r"""The new model of a method.

        Raises: SettingsError where ``settings.original`` is of another architecture, or no better than chance.
        """
        if name != "original":
            return methods.method(name).unlearn(task, self.parameters(name, changes))
        if not self.settings.original.path:
            return self._fit(task, self.split.train, f"original, seed {task.seed}")
        path, images = Path(self.settings.original.path), self.images
        model = read_model(path, self.settings.arch, images.num_classes, images.shape)
        check_accuracy(model.to(self.compute.device), images, self.split.train, _CHECK)
        return model

    def trained(self, seed: int, purpose: str, index: Int[Tensor, " n"], label: str) -> nn.Module:
        r"""A network, not kept, trained on images ``index`` by the original's recipe."""
        return self._fit(self.first_task(seed, purpose), index, label)

    def _fit(self, task, index, label):
        return task.train_new(task.original, index, label)

    def make(self, name: str, seed: int, repeat: int = 0, changes: dict | None = None) -> tuple[nn.Module, dict]:
        r"""(a model, not kept; facts: seconds by part, peak memory in MB); ``changes`` (dotted name -> value) of the
        method's settings and ``guide.source``."""
        self.started()
        changes = dict(changes or {})
        source = changes.pop("guide.source", None)
        task, total, where = self.task(name, seed, repeat, source), Stopwatch(), self.compute.device
        device.fresh_peak(where)  # the task may have made other models
        with total("total"):
            model = self.train(name, task, changes)
        # What all devices spend is compared with methods that run on one.
        size = self.compute.team.size
        seconds = {part: size * value for part, value in {**task.clock.seconds, **total.seconds}.items()}
        facts = {"seconds": seconds, "peak_memory_mb": round(device.peak_memory_mb(where))}
        return model, facts | ({"processes": size, "wall_seconds": total.total} if size > 1 else {})

    def unlearned(self, name: str, seed: int) -> nn.Module:
        r"""The model of a method (`REFERENCES` too) and seed, in eval mode, made once."""
        about = {"method": name, "seed": seed, "arch": self.settings.arch, "digest": hash_json(self.run.about)}
        keep = self.share if name in REFERENCES else self.run.once
        file, make = kept_file("models", name, seed), partial(self.make, name, seed)
        save = partial(models.save, about=about)
        return keep(file, make, save, lambda path: models.load(path, self.new(seed, "blank")))

    def share(self, name: str, make: Callable, save: Callable, load: Callable):
        r"""`RunDirectory.once` for what runs share: originals and shadow models, which are of no request, and retrained
        models, which are of a split."""
        place = self._shared_place(name)
        shared = partial(self.shared.once, place, make, save, load)
        if not self.copies:
            return shared()
        return self.run.once(name, lambda: (shared(), self.shared.facts(place)), save, load)

    def _shared_place(self, name):
        return f"{self.split.digest()}/{name}" if name.startswith("models/retrain-") else name

    def facts(self, name: str, seed: int) -> dict:
        r"""What was recorded when a kept model was made."""
        file = kept_file("models", name, seed)
        return self.run.facts(file) if self.copies else self.shared.facts(self._shared_place(file))


def kept_file(kind: str, name: str, seed: int) -> str:
    r"""Where a kept model's ``models`` or ``outputs`` lie."""
    return f"{kind}/{name}-{seed}.safetensors"
