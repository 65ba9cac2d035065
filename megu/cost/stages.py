r"""The stages of a rehearsal: each piece of a run once."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

import megu
from megu import methods
from megu.core import models, splits
from megu.core.device import choose, generator
from megu.core.loading import weights_digest
from megu.core.networks import STEMS
from megu.cost.dummy import few_of, shortened, stand_in
from megu.datasets.identity import CIFAR
from megu.datasets.sources import load
from megu.measure.count import Passes, passes_of, similar
from megu.measure.metrics import References, expected, metrics
from megu.measure.outputs import Outputs, blank_logits, collect_outputs
from megu.methods.task import Task
from megu.noise_pair import AT_ONCE, optimise_noise
from megu.own.checkpoint import About, Checkpoint
from megu.settings.errors import MeguError, SettingsError

PAPER = ("finetune", "unsir", "amnesiac", "ssd", "bad-teacher", "megu")
BATCH = 500  # images of an evaluation's batch


class MissingError(MeguError, AttributeError):
    """What an earlier stage failed to make."""


class Result(NamedTuple):
    """What a stage made."""

    shape: tuple
    dtype: torch.dtype | str
    note: str = ""


class Stage(NamedTuple):
    """``work`` (of ``images``, unless 0) gives a `Result`; a seed of the run has it ``times``, of ``whole()`` `Passes`
    each."""

    name: str
    work: Callable
    images: int = 0
    times: int = 1
    whole: Callable = Passes


class Rehearsal:
    r"""Every stage of a run; each uses what earlier ones made.  ``batch``: images of a training step, by default the
    recipe's."""

    def __init__(self, settings, batch=None):
        methods.check(settings)
        self.settings, self.compute, usual = settings, choose(settings), settings.training.batch
        self.batch = max(2, min(batch or usual, usual))
        # Method -> how often a seed of this run makes a model by it; 0: it is tried, but not compared.
        self.times, self.weights_of = {"retrain": 1}, settings.weights
        for name in (*PAPER, *settings.compare):
            entry, often = methods.method(name), settings.repeats if name in settings.compare else 0
            if name not in ("original", "retrain") and settings.forget.scenario in entry.scenarios:
                self.times[name] = min(often, 1) if entry.reference else often

    def __getattr__(self, name):
        raise MissingError(f"needs the {name}, which failed")

    def stages(self):
        """Every `Stage`, in the order of a run."""
        yield from (Stage("data", self.data), Stage("weights", self.weights), Stage("checkpoint", self._checkpoint))
        yield Stage("pre-training step", self._training, self.batch, whole=self._pretraining)
        yield Stage("noise step", self._noise, self.batch, whole=lambda: Passes(most=self.noises))
        for name, times in self.times.items():
            yield Stage(f"{name} step", partial(self._method, name), self.batch, times, partial(self._counted, name))
        yield Stage("evaluation batch", self._evaluation, self.batch, whole=self._looks)
        yield Stage("every metric", self._metrics)

    def data(self):
        """Make the images, the true ones where they are here."""
        s, where = self.settings, self.compute.device
        self.true = bool(s.data.name not in CIFAR or s.data.path)
        self.images = images = load(s, where) if self.true else stand_in(s, where, 32)
        self.split = splits.make_split(images, s)
        note = "true images" if self.true else "random images of the same number, size and labels"
        return Result(images.x.shape, images.x.dtype, note)

    def weights(self):
        """Make the network, with its true weights where they are here."""
        s, note = self.settings, ""
        build = partial(models.build, s.arch, self.images.num_classes, self.images.shape, s.seed)
        try:
            model = build(weights=self.weights_of)
        except SettingsError as error:
            if s.arch != "vit-b16":
                raise
            self.weights_of, note = "random", f"random: {str(error).partition(':')[0]}"
            model = build(weights="random")
        self.model = model.to(self.compute.device).eval()
        weights = list(model.parameters())
        return Result((sum(w.numel() for w in weights),), weights[0].dtype, note)

    def _checkpoint(self):
        s, images = self.settings, self.images
        sizes = {"train": images.num_train, "test": len(images.y) - images.num_train}
        about = About(
            arch=s.arch, stem=STEMS[s.arch], classes=images.classes, shape=images.shape, mean=images.mean.tolist(),
            std=images.std.tolist(), method="original", seed=s.seed, forget=None, split=self.split.digest(),
            data=images.name, weights=weights_digest(self.model), code="rehearsal", megu=megu.__version__,
            images={part: {"images": count, "content": "rehearsal"} for part, count in sizes.items()},
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            Checkpoint(models.copy_of(self.model).cpu(), about).save_pretrained(folder)
            Checkpoint.from_pretrained(folder)
            size = sum(file.stat().st_size for file in Path(folder).iterdir())
        return Result((size,), torch.uint8, "bytes")

    def task(self, count):
        """The request with so many images."""
        s, forgotten = self.settings, splits.forgotten_classes(self.images, self.split, self.settings)
        return Task(
            self.model, self.images, few_of(self.split, count), forgotten, similar(self.images.num_classes), count,
            s.arch, shortened(s.training, count), s.seed, self.compute, weights=self.weights_of,
        )  # fmt: skip

    def _training(self, count):
        task, index = self.task(count), self.split.train[:count]
        task.train_on(models.copy_of(self.model), index, self.images.y[index], task.training, label="pre-training")
        return self._trained(count)

    def _trained(self, count):
        return Result((count, *self.images.shape), torch.bfloat16 if self.compute.autocast else torch.float32)

    def _pretraining(self):
        recipe = self.settings.training
        return Passes(len(self.split.train) * recipe.epochs, most=recipe.batch)

    def _noise(self, count):
        noise, forget = methods.method_settings("megu", self.settings).noise, self.split.forget
        y, gen = self.images.y[forget][:count], generator(0, "rehearsal")
        for sign in (+1, -1):
            made = optimise_noise(self.model, y, self.images.shape, sign, shortened(noise, 1), gen)
        self.noises = min(AT_ONCE, len(forget), *(() if noise.per == "image" else (self.images.num_classes,)))
        return Result(made.shape, made.dtype, f"{self.noises} at a time; counted with the method")

    def _method(self, name, count):
        usual, task = methods.method_settings(name, self.settings), self.task(count)
        model = methods.method(name).unlearn(task, shortened(usual, count))
        if not all(w.isfinite().all() for w in model.parameters()):
            raise ValueError("some weights are no numbers")
        return self._trained(count)

    def _counted(self, name):
        s = self.settings
        images = self.images if self.true else stand_in(s, self.compute.device)
        return passes_of(name, methods.method_settings(name, s), s, images, self.split)

    def _evaluation(self, count):
        few = few_of(self.split, count)
        self.outputs = outputs = collect_outputs(self.model, self.images, few)
        blank_logits(models.copy_of(self.model), self.images, few.forget)
        return Result(outputs.features["retain"].shape, torch.float32)

    def _looks(self):
        # The original and each model see every part, the untrained network what goes, in eval and in train mode.
        split = self.split
        every = sum(map(len, vars(split).values())) * (1 + sum(self.times.values()))
        # A part of the split is one batch: half of the stage's images.
        return Passes(seen=every + 2 * len(split.forget) + len(split.test_forget), most=2 * BATCH)

    def _metrics(self):
        width, k = self.outputs.features["retain"].shape[1], self.images.num_classes

        def drawn(seed):
            gen, parts = generator(seed, "dreamt"), vars(self.split).items()
            tables = (
                {part: torch.randn(len(at), columns, generator=gen).to(at.device) for part, at in parts}
                for columns in (k, width)
            )
            return Outputs(*tables)

        outputs, original, retrain, blank = map(drawn, range(4))
        references = References(original, retrain, blank.logits["forget"], blank.logits)
        values = metrics(outputs, self.images, self.split, references)
        if missing := set(values) ^ set(expected()):
            raise ValueError(f"missing or too many: {sorted(missing)}")
        images = sum(map(len, vars(self.split).values()))
        return Result((len(values),), torch.float64, f"from {images:,} images")
