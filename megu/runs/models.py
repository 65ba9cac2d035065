r"""How the models of a forgetting request are made, and which of them are shared."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, nn

from megu import methods
from megu.core import device, models, splits
from megu.core.device import Compute, Stopwatch
from megu.core.loading import check_accuracy, read_model
from megu.core.splits import Split
from megu.datasets.images import Images
from megu.methods.task import Task
from megu.runs.store import RunDirectory
from megu.settings.config import Part, Settings
from megu.settings.files import hash_json
from megu.settings.values import build, nest

REFERENCES = ("original", "retrain")  # what every model of a seed of pre-training is compared with
_CHECK = (
    "the order of its classes, and whether it was trained on images normalised by the mean and deviation of these"
    " training images, as a run shows them (a file trained with others is for `megu unlearn --normalise`)"
)


class Models:
    r"""The classifiers of one request: originals, retrained and unlearned ones.

    Args:
        transition: of a guide's source (None: the run's own), for guided methods.
        run, shared: where models are kept; None for a process that only trains along.
        copies: whether the run keeps copies of what it shares with others.
    Attributes: started, a function that is called whenever a model starts to be made.
    """

    def __init__(
        self,
        settings: Settings,
        images: Images,
        split: Split,
        compute: Compute,
        transition: Callable[[str | None], Float[np.ndarray, "K K"]] | None = None,
        run: RunDirectory | None = None,
        shared: RunDirectory | None = None,
        copies: bool = True,
    ):
        self.settings, self.images, self.split, self.compute = settings, images, split, compute
        self.transition, self.run, self.shared, self.copies = transition, run, shared, copies
        self.forgotten = splits.forgotten_classes(images, split, settings)
        self.started = lambda: None

    def parameters(self, name: str, changes: dict | None = None) -> Part:
        r"""The settings of a method as this run uses them, ``changes`` (dotted name -> value) on top."""
        usual = methods.method_settings(name, self.settings)
        return build(type(usual), nest(changes), f"methods.{name}", over=usual) if changes else usual

    def new(self, seed: int, purpose: str) -> nn.Module:
        r"""An untrained network."""
        s = self.settings
        model = models.build(s.arch, self.images.num_classes, self.images.shape, seed, purpose, s.weights)
        return model.to(self.compute.device)

    def task(self, name: str, seed: int, repeat: int = 0, source: str | None = None) -> Task:
        r"""What a method receives for a seed of pre-training and a repeat of unlearning; for ``original`` with an
        untrained network."""
        if name == "original":
            return self.first_task(seed)
        transition = self.transition(source) if methods.method(name).guided else None
        # The first repeat has the seed of pre-training itself; no seed of another original is ever met.
        return self._task(self.original(seed), seed + 10_000 * repeat, transition)

    def first_task(self, seed: int, purpose: str = "original") -> Task:
        r"""The task of training an untrained network."""
        return self._task(self.new(seed, purpose), seed)

    def _task(self, original, seed, transition=None):
        s, given = self.settings, (self.images, self.split, self.forgotten, transition)
        more = {"weights": s.weights}
        return Task(original, *given, s.retain_images, s.arch, s.training, seed, self.compute, **more)

    def train(self, name: str, task: Task, changes: dict | None = None) -> nn.Module:
        r"""The new model of a method, from its task.

        Raises: SettingsError where ``settings.original`` is of another architecture, or names no more of the training
            images than chance would.
        """
        if name != "original":
            return methods.method(name).unlearn(task, self.parameters(name, changes))
        if not self.settings.original.path:
            return self._fit(task, self.split.train, f"original, seed {task.seed}")
        path, images = Path(self.settings.original.path), self.images
        model = read_model(path, self.settings.arch, images.num_classes, images.shape)
        check_accuracy(model.to(self.compute.device), images, self.split.train, _CHECK)
        return model

    def _fit(self, task, index, label):
        return task.train_on(task.original, index, self.images.y[index], self.settings.training, label=label)

    def make(self, name: str, seed: int, repeat: int = 0, changes: dict | None = None, source: str | None = None):
        r"""(a model, not kept; facts: seconds by part, peak memory in MB); ``changes`` are of the method's settings."""
        self.started()
        task, total, where = self.task(name, seed, repeat, source), Stopwatch(), self.compute.device
        device.fresh_peak(where)  # the task may have made other models
        with total("total"):
            model = self.train(name, task, changes)
        seconds, size = {**task.clock.seconds, **total.seconds}, self.compute.team.size
        facts = {"seconds": seconds, "peak_memory_mb": round(device.peak_memory_mb(where))}
        if size > 1:
            # The price of a model is what all devices spend on it: it is compared with methods that run on one.
            all_devices = {part: size * value for part, value in seconds.items()}
            facts |= {"seconds": all_devices, "processes": size, "wall_seconds": seconds["total"]}
        return model, facts

    def trained(self, seed: int, purpose: str, index: Int[Tensor, " n"], label: str) -> nn.Module:
        r"""A network trained on images ``index`` by the original's recipe; not kept."""
        return self._fit(self.first_task(seed, purpose), index, label)

    def unlearned(self, name: str, seed: int) -> nn.Module:
        r"""The model of a method and seed, in eval mode, made once; ``original`` and ``retrain`` are methods too."""
        about = {"method": name, "seed": seed, "arch": self.settings.arch, "digest": hash_json(self.run.about)}
        keep = self.share if name in REFERENCES else self.run.once
        return keep(
            _file(name, seed),
            lambda: self.make(name, seed),
            lambda model, path: models.save(model, path, about),
            lambda path: models.load(path, self.new(seed, "blank")),
        )

    def original(self, seed: int) -> nn.Module:
        r"""The classifier before forgetting: trained on retain and forget images, or the one that ``settings.original``
        names."""
        return self.unlearned("original", seed)

    def share(self, name: str, make: Callable, save: Callable, load: Callable):
        r"""`megu.runs.store.RunDirectory.once` for what all runs beside this one can use: originals and shadow models,
        which do not depend on the request, and retrained models, which depend on its split alone."""
        place = self._shared_place(name)
        if not self.copies:
            return self.shared.once(place, make, save, load)

        def copy():
            return self.shared.once(place, make, save, load), self.shared.facts(place)

        return self.run.once(name, copy, save, load)

    def _shared_place(self, name):
        return f"{self.split.digest()}/{name}" if Path(name).stem.rpartition("-")[0] == "retrain" else name

    def facts(self, name: str, seed: int) -> dict:
        r"""What was recorded when a kept model was made."""
        file = _file(name, seed)
        return self.run.facts(file) if self.copies else self.shared.facts(self._shared_place(file))


def _file(name, seed):
    return f"models/{name}-{seed}.safetensors"
