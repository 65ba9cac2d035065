r"""One unlearning request, as every method receives it: `Task -> model`."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from megu.core import models
from megu.core.device import Compute, Stopwatch, generator
from megu.core.splits import Split
from megu.core.train import fit
from megu.datasets.images import Images
from megu.settings.config import Recipe


@dataclass(frozen=True)
class Task:
    r"""What a method may use.  A method returns a NEW model; the original stays bit-identical.

    Attributes:
        original: the trained classifier, in eval mode.
        images, split: the data and what is to be forgotten.
        forgotten: classes that disappear altogether (class-wise forgetting), else empty.
        transition: ``(K, K)`` array, columns sum to 1, or None where no guide was asked.
        retain_images: at most so many retain images are used for fine-tuning, by every method.
        arch, training: how the original was made; retraining repeats it.  ``arch`` None: a classifier that is not built
            here.
        seed: of everything random in the method.
        compute: device and precision.
        clock: seconds by part of the method.
        history: mean loss of each epoch, by the label of the training.
        weights: that a new vit-b16 starts from, see `megu.core.weights.find`.
    """

    original: nn.Module
    images: Images
    split: Split
    forgotten: tuple[int, ...]
    transition: np.ndarray | None
    retain_images: int
    arch: str | None
    training: Recipe
    seed: int
    compute: Compute
    clock: Stopwatch = field(default_factory=Stopwatch)
    history: dict = field(default_factory=dict)
    weights: str | None = None

    @property
    def num_classes(self):
        """K."""
        return self.images.num_classes

    def generator(self, *purpose):
        """CPU generator for one purpose of the method."""
        return generator(self.seed, "unlearn", *purpose)

    def retain_sample(self):
        """``(r,)`` int64: the retain images that fine-tuning may use, the same for every method of a seed."""
        return self.sample(self.split.retain, self.retain_images, "retain")

    def sample(self, index, count, purpose):
        """At most ``count`` of ``index`` at random, drawn by the generator of ``purpose``."""
        chosen = torch.randperm(len(index), generator=self.generator(purpose))[:count]
        return index[chosen.to(index.device)]

    def fresh_model(self):
        """A new, untrained classifier of the original's architecture; its weights share nothing with the original's."""
        if self.arch is None:
            return models.reset(self.original, self.seed, "retrained")
        return models.build(self.arch, self.num_classes, self.images.shape, self.seed, "retrained", self.weights)

    def train_on(
        self,
        model,
        index,
        labels,
        recipe,
        *,
        shift=None,
        loss=F.cross_entropy,
        after=None,
        label="fine-tuning",
        purpose="order",
    ):
        r"""Train ``model`` in place on images of the pool.

        Args:
            model: ``nn.Module``.
            index: ``(n,)`` int64 into the pool.
            labels: ``(n, ...)`` tensor, what the model shall say: classes, probabilities, or whatever ``loss`` takes;
                or a function of positions ``(b,)`` that gives them afresh at every visit.
            recipe: `megu.settings.config.Recipe`.
            shift: function of (images ``(b, C, H, W)``, positions ``(b,)``) to images, or None.
            loss, after: see `megu.core.train.fit`.
            label: text of the progress bar.
            purpose: of the order's generator, where a method trains more than once.
        Returns: the model, in eval mode.
        """
        gen = self.generator(purpose)

        def batch(position):
            position = position.to(index.device, non_blocking=True)  # the device is not waited for
            x = self.images.batch(index[position], recipe.augment, gen)
            return (x if shift is None else shift(x, position)), labels(position) if callable(labels) else labels[
                position
            ]

        losses = fit(model, batch, len(index), recipe, gen, self.compute, loss=loss, after=after, label=label)
        self.history.setdefault(label, []).extend(losses)
        return model
