r"""The stages of a rehearsal: each piece of a run once, with the true network, shapes and recipe."""

import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from megu import methods
from megu.core import device, models, splits
from megu.core.device import Stopwatch, generator
from megu.cost.dummy import about_it, dreamt, few_of, shortened, stand_in
from megu.cost.memory import passed, per_image
from megu.cost.work import Sizes, Work, work
from megu.datasets.identity import CIFAR
from megu.datasets.sources import load
from megu.measure.metrics import References, blank_logits, expected, metrics, observe
from megu.methods.megu import training_items
from megu.methods.task import Task
from megu.noise_pair import AT_ONCE, NoisePair, optimise_noise
from megu.own.checkpoint import Checkpoint
from megu.perturbing_labels import perturbing_labels, transition_matrix
from megu.settings.errors import MeguError, SettingsError

PAPER = ("finetune", "unsir", "amnesiac", "ssd", "bad-teacher", "megu")
BATCH = 500  # images of an evaluation's batch


class MissingError(MeguError, RuntimeError):
    """A stage needs what an earlier one failed to make."""


@dataclass(frozen=True)
class Done:
    r"""What a stage did: ``shape`` and ``dtype`` of what it made, ``work`` here and of the ``whole`` run, ``full_mb``:
    memory of it with its full batch."""

    shape: tuple
    dtype: torch.dtype
    work: Work = Work()
    whole: Work = Work()
    full_mb: float = float("nan")
    note: str = ""


class Acts:
    r"""Every stage of one run; each uses what earlier ones made.

    Args:
        settings: `megu.settings.config.Settings`, as for the run itself.
        batch: images of a training step; the recipe's own if None.
    Raises: SettingsError for a wrong setting, method or device.
    """

    def __init__(self, settings, batch=None):
        methods.check(settings)
        self.settings, self.compute, self.clock = settings, device.choose(settings), Stopwatch()
        self.full = settings.training.batch
        self.batch = max(2, min(batch or self.full, self.full))
        names = [name for name in dict.fromkeys((*PAPER, *settings.compare)) if name not in ("original", "retrain")]
        self.names = [name for name in names if settings.forget.scenario in methods.method(name).scenarios]
        self.weights_of, self._made = settings.weights, {}

    def _need(self, name):
        if name not in self._made:
            raise MissingError(f"needs the {name}, which failed")
        return self._made[name]

    @property
    def images(self):
        """`megu.datasets.images.Images`, the true ones or a stand-in."""
        return self._need("data")[0]

    @property
    def split(self):
        """The true `megu.core.splits.Split`."""
        return self._need("data")[1]

    @property
    def model(self):
        """The classifier."""
        return self._need("weights")

    @cached_property
    def sizes(self):
        """`megu.cost.work.Sizes` of the whole run."""
        split, images = self.split, self.images
        sample = min(self.settings.retain_images, len(split.retain))
        barred = len(splits.forgotten_classes(images, split, self.settings))
        return Sizes(
            len(split.forget),
            len(split.retain),
            sample,
            len(images.y[split.forget].unique()),
            images.num_classes,
            barred,
        )

    @property
    def times(self):
        """Method -> how often a seed of this run makes a model by it; 0: it is tried, but not compared."""
        often = {name: 1 if methods.method(name).reference else self.settings.repeats for name in self.settings.compare}
        return {name: often.get(name, 0) for name in self.names} | {"retrain": 1}

    @property
    def few(self):
        """The split with one batch of forget and retain images, and as few unseen ones."""
        return few_of(self.split, self.batch)

    def task(self):
        """The request with a batch of images."""
        s, forgotten = self.settings, splits.forgotten_classes(self.images, self.split, self.settings)
        training, transition = shortened(s.training, self.batch), self._need("transition")
        return Task(
            self.model,
            self.images,
            self.few,
            forgotten,
            transition,
            self.batch,
            s.arch,
            training,
            s.seed,
            self.compute,
            weights=self.weights_of,
        )

    # The stages
    def all(self):
        """(name, function that gives `Done`) of every stage, in the order of a run."""
        yield from (
            ("data", self.data),
            ("weights", self.weights),
            ("checkpoint", self.saving),
            ("transition", self.transition),
        )
        yield "memory of an image", self.memory
        yield from (
            ("pre-training step", self.training),
            ("perturbing labels", self.labels),
            ("noise step", self.noise),
            ("perturbed images", self.joining),
        )
        for name in ("retrain", *self.names):
            yield f"{name} step", lambda name=name: self.method(name)
        yield from (("evaluation batch", self.evaluation), ("every metric", self.metrics))

    def data(self):
        """The images, the true ones where a path says where they are."""
        here = self.settings.data.name not in CIFAR or self.settings.data.path
        images = load(self.settings, self.compute.device) if here else stand_in(self.settings, self.compute.device)
        self._made["data"] = images, splits.make_split(images, self.settings)
        return Done(
            tuple(images.x.shape),
            images.x.dtype,
            note="true images" if here else "random images of the same number, size and labels",
        )

    def weights(self):
        """The network, with its true weights where they are here."""
        s, note = self.settings, ""
        try:
            model = models.build(s.arch, self.images.num_classes, self.images.shape, s.seed, weights=self.weights_of)
        except SettingsError as error:
            if s.arch != "vit-b16":
                raise
            self.weights_of, note = "random", f"random: {str(error).partition(':')[0]}"
            model = models.build(s.arch, self.images.num_classes, self.images.shape, s.seed, weights="random")
        self._made["weights"] = model.to(self.compute.device).eval()
        weights = list(model.parameters())
        return Done((sum(w.numel() for w in weights),), weights[0].dtype, note=note)

    def saving(self):
        """A checkpoint to a folder and back, which compares the weights."""
        about = about_it(self.settings, self.images, self.split, self.model)
        with tempfile.TemporaryDirectory() as folder:
            Checkpoint(models.copy_of(self.model).cpu(), about).save_pretrained(folder)
            Checkpoint.from_pretrained(folder)
            size = sum(file.stat().st_size for file in Path(folder).iterdir())
        return Done((size,), torch.uint8, note="bytes")

    def transition(self):
        """A transition matrix from a similarity that stands for a guide's answers."""
        k = self.images.num_classes
        self._made["transition"] = found = transition_matrix(np.random.default_rng(0).random((k, k)) + np.eye(k))
        questions = self.settings.guide.exemplars * k * k
        return Done(found.shape, torch.float64, note=f"the guide itself is not asked: {questions:,} questions")

    def memory(self):
        """MB of tensors that one more image needs: trained on, weights weighed by it in float32, its noise optimised,
        seen."""

        def look(
            count, weights, image, cast=nullcontext
        ):  # noise, importances and evaluation are float32, see `megu.core.device.Compute`
            passed(models.copy_of(self.model), self.images.batch(self.split.train[:count]), weights, image, cast())

        kinds = {
            "trained": (True, False, self.compute.cast),
            "weighed": (True, False),
            "noised": (False, True),
            "seen": (False, False),
        }
        self._made["memory of an image"] = found = {
            kind: per_image(lambda count, how=how: look(count, *how), 1) for kind, how in kinds.items()
        }
        return Done((len(found),), torch.float32, note=", ".join(f"{kind} {mb:,.1f} MB" for kind, mb in found.items()))

    def _mb(self, kind, images, weights):
        """Tensors of ``images`` at a time, beside so many copies of the weights."""
        own = sum(w.numel() * w.element_size() for w in self.model.parameters()) / 1e6
        return weights * own + images * self._need("memory of an image")[kind]

    def training(self):
        """One step of the original's training on a copy."""
        task, index = self.task(), self.split.train[: self.batch]
        task.train_on(models.copy_of(self.model), index, self.images.y[index], task.training, label="pre-training")
        return self._trained("pre-training", Work(self.batch), None)

    def _trained(self, name, done, parameters):
        recipe = getattr(
            parameters,
            "recipe",
            getattr(parameters, "impair", None if name.startswith("ssd") else self.settings.training),
        )
        kind, whole = (
            torch.bfloat16 if recipe and self.compute.autocast else torch.float32,
            self._work(name, self.sizes, parameters),
        )
        if recipe:  # the network, its momentum, the state to go back to; at an epoch's end also the gradient and a second state (`megu.core.train.fit`)
            full = max(self._mb("trained", recipe.batch, 3), self._mb("trained", 0, 5))
        else:  # the network and both importances, then the gradient
            count = parameters.batch if parameters.importance == "batch" else 1
            full = max(self._mb("weighed", count, 3), self._mb("weighed", 0, 5))
        return Done((self.batch, *self.images.shape), kind, done, whole, full)

    def _work(self, name, sizes, parameters):
        try:
            return work(
                name,
                sizes,
                parameters,
                self.settings.training if sizes is self.sizes else shortened(self.settings.training, self.batch),
            )
        except SettingsError:
            return Work()  # a method that the paper does not have: its step is tried, its whole run is not predicted

    def labels(self):
        """Perturbing labels of all forget images, from a random posterior."""
        y = self.images.y[self.split.forget]
        posterior = (
            torch.randn(len(y), self.images.num_classes, generator=generator(0, "rehearsal")).softmax(1).to(y.device)
        )
        forgotten = splits.forgotten_classes(self.images, self.split, self.settings)
        self._made["labels"] = found = perturbing_labels(self._need("transition"), posterior, y, exclude=forgotten)
        return Done(tuple(found.shape), found.dtype)

    def noise(self):
        """One step of positive and one of negative noise."""
        s, labels = methods.method_settings("megu", self.settings).noise, self._need("labels")[: self.batch // 2 or 1]
        step, gen = s.model_copy(update={"steps": 1}), generator(0, "rehearsal")
        for sign, wanted in ((+1, labels), (-1, self.images.y[self.split.forget][: len(labels)])):
            found = optimise_noise(self.model, wanted, self.images.shape, sign, step, gen)
        at_once = min(AT_ONCE, self.sizes.forget if s.per == "image" else min(self.sizes.classes, self.sizes.forget))
        return Done(
            tuple(found.shape),
            found.dtype,
            Work(noised=2 * len(labels)),
            full_mb=self._mb("noised", at_once, 1),
            note=f"{at_once} at a time",
        )

    def joining(self):
        """The pair of all forget images, and a batch with it."""
        split, y, s = self.split, self.images.y, methods.method_settings("megu", self.settings).noise
        pair = NoisePair(*(torch.zeros(len(split.forget), *self.images.shape, device=y.device) for _ in range(2)))
        retain = split.retain[: self.sizes.sample]
        index, labels = torch.cat([split.forget, retain]), torch.cat([self._need("labels"), y[retain]])
        index, labels, shift = training_items(index, labels, y[split.forget], pair, s)
        where = torch.arange(min(self.full, len(index)), device=index.device)
        return Done(
            tuple(shift(self.images.batch(index[where]), where).shape), pair.pos.dtype, note=f"{len(index):,} items"
        )

    def method(self, name):
        """One step of a method, from its settings to a new model."""
        usual = methods.method_settings(name, self.settings)
        parameters, task = shortened(usual, self.batch), self.task()
        model = methods.method(name).unlearn(task, parameters)
        if not all(w.isfinite().all() for w in model.parameters()):
            raise ValueError("some weights are no numbers any more")
        few = Sizes(
            len(task.split.forget),
            len(task.split.retain),
            len(task.retain_sample()),
            len(self.images.y[task.split.forget].unique()),
            self.sizes.classes,
        )
        return self._trained(name, self._work(name, few, parameters), usual)

    def evaluation(self):
        """A forward pass over a few images of every part, and one in train mode."""
        seen = self._made["seen"] = observe(self.model, self.images, self.few)
        blank_logits(models.copy_of(self.model), self.images, self.few.forget)
        count = sum(map(len, vars(self.few).values())) + len(self.few.forget)
        # Every part by the original, the untrained network and each model; what is forgotten by the untrained one in
        # train mode, too.
        whole = (
            sum(map(len, vars(self.split).values())) * (2 + sum(self.times.values()))
            + len(self.split.forget)
            + len(self.split.test_forget)
        )
        return Done(
            tuple(seen.features["retain"].shape),
            seen.features["retain"].dtype,
            Work(seen=count),
            Work(seen=whole),
            self._mb("seen", BATCH, 0),
        )

    def metrics(self):
        """Every metric at the true size, from random logits and features."""
        width = self._need("seen").features["retain"].shape[1]
        seen, original, retrain, blank = (dreamt(self.split, self.images.num_classes, width, seed) for seed in range(4))
        references = References(original, retrain, blank.logits, blank.logits)
        found = metrics(seen, self.images, self.split, references)
        if set(found) != set(expected()):
            raise ValueError(f"metrics that are missing: {sorted(set(expected()) - set(found))}")
        return Done((len(found),), torch.float64, note=f"from {sum(map(len, vars(self.split).values())):,} images")
