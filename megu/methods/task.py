r"""One unlearning request, as every method receives it: `Task -> model`."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
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
        transition: columns sum to 1; None where no guide was asked.
        retain_images: at most so many retain images are used for fine-tuning, by every method.
        arch, training: how the original was made; retraining repeats it.  ``arch`` None: a classifier not built here.
        seed: of everything random in the method.
        clock: seconds by part of the method.  history: mean loss of each epoch, by the label of the training.
        weights: that a new vit-b16 starts from, see `megu.core.weights.find`.
    """

    original: nn.Module
    images: Images
    split: Split
    forgotten: tuple[int, ...]
    transition: Float[np.ndarray, "K K"] | None
    retain_images: int
    arch: str | None
    training: Recipe
    seed: int
    compute: Compute
    clock: Stopwatch = field(default_factory=Stopwatch)
    history: dict = field(default_factory=dict)
    weights: str | None = None

    @property
    def num_classes(self) -> int:
        """K."""
        return self.images.num_classes

    def generator(self, *purpose: str) -> torch.Generator:
        """CPU generator for one purpose of the method."""
        return generator(self.seed, "unlearn", *purpose)

    def retain_sample(self) -> Int[Tensor, " r"]:
        """The retain images that fine-tuning may use, the same for every method of a seed."""
        return self.sample(self.split.retain, self.retain_images, "retain")

    def sample(self, index: Int[Tensor, " n"], count: int, purpose: str) -> Int[Tensor, " r"]:
        """At most ``count`` of ``index`` at random, drawn by the generator of ``purpose``."""
        chosen = torch.randperm(len(index), generator=self.generator(purpose))[:count]
        return index[chosen.to(index.device)]

    def fresh_model(self) -> nn.Module:
        """A new, untrained classifier of the original's architecture; its weights share nothing with the original's."""
        if self.arch is None:
            return models.reset(self.original, self.seed, "retrained")
        return models.build(self.arch, self.num_classes, self.images.shape, self.seed, "retrained", self.weights)

    def fine_tune(self, index: Int[Tensor, " n"], labels: Tensor | Callable, recipe: Recipe, **how) -> nn.Module:
        r"""A copy of the original, trained further and timed; arguments as of `train_on`."""
        with self.clock("fine-tuning"):
            return self.train_on(models.copy_of(self.original), index, labels, recipe, **how)

    def train_on(
        self,
        model: nn.Module,
        index: Int[Tensor, " n"],
        labels: Tensor | Callable,
        recipe: Recipe,
        *,
        shift: Callable | None = None,
        loss: Callable = F.cross_entropy,
        after: Callable | None = None,
        label: str = "fine-tuning",
        purpose: str = "order",
    ) -> nn.Module:
        r"""Train ``model`` in place on images of the pool; it is given back in eval mode.

        Args:
            index: into the pool.
            labels: ``(n, ...)``, what the model shall say: classes, probabilities, or whatever ``loss`` takes; or a
                function of positions ``(b,)`` that gives them afresh at every visit.
            shift: function of (images ``(b, C, H, W)``, positions ``(b,)``) to images.
            loss, after: see `megu.core.train.fit`.
            label: of the progress bar.  purpose: of the order's generator, where a method trains more than once.
        """
        gen = self.generator(purpose)

        def batch(position):
            position = position.to(index.device, non_blocking=True)  # the device is not waited for
            x = self.images.batch(index[position], recipe.augment, gen)
            x = x if shift is None else shift(x, position)
            return x, labels(position) if callable(labels) else labels[position]

        losses = fit(model, batch, len(index), recipe, gen, self.compute, loss=loss, after=after, label=label)
        self.history.setdefault(label, []).extend(losses)
        return model
