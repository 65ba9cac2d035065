r"""One unlearning request, as every method receives it: `Task -> model`."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from megu.core import models
from megu.core.device import Compute, Stopwatch, generator
from megu.core.resume import next_checkpoint
from megu.core.splits import Split
from megu.core.train import Position, fit
from megu.datasets.images import Images
from megu.methods.goal import nearer, remembers
from megu.settings.config import Recipe


@dataclass(frozen=True)
class Task:
    r"""What a method may use.  A method returns a NEW model in eval mode, its weights trainable and shaped as the
    original's, which stays bit-identical; the same seed gives the same bits, another seed others.

    Attributes:
        original: in eval mode.
        forgotten: see `megu.core.splits.forgotten_classes`.
        transition: columns sum to 1; None where the method is not registered with ``guided=True``.
        retain_images: at most so many are used for fine-tuning.
        arch, training: how the original was made, for retraining; ``arch`` None: not built here.
        clock: seconds by part of the method.  history: mean loss of each epoch, by the label of the training.
        weights: of a new vit-b16, see `megu.core.weights.find`.  draws: the method's generators.
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
    draws: list = field(default_factory=list)

    @property
    def num_classes(self) -> int:
        """K."""
        return self.images.num_classes

    def generator(self, *purpose: str) -> torch.Generator:
        """CPU generator for one purpose."""
        self.draws.append(generator(self.seed, "unlearn", *purpose))
        return self.draws[-1]

    def retain_sample(self) -> Int[Tensor, " r"]:
        """The retain images for fine-tuning, the same for every method of a seed."""
        return self.sample(self.split.retain, self.retain_images, "retain")

    def sample(self, index: Int[Tensor, " n"], count: int, purpose: str) -> Int[Tensor, " r"]:
        """At most ``count`` of ``index`` at random."""
        return index[torch.randperm(len(index), generator=self.generator(purpose))[:count].to(index.device)]

    def remembers(self, model: nn.Module) -> bool:
        r"""See `megu.methods.goal.remembers`."""
        with self.clock("check"):
            return remembers(self, model)

    def nearer(self, first: nn.Module, second: nn.Module) -> nn.Module:
        r"""See `megu.methods.goal.nearer`."""
        with self.clock("check"):
            return nearer(self, first, second)

    def fresh_model(self) -> nn.Module:
        """An untrained classifier of the original's architecture, from a start of its own."""
        if self.arch is None:
            return models.reset(self.original, self.seed, "retrained")
        return models.build(self.arch, self.num_classes, self.images.shape, self.seed, "retrained", self.weights)

    def fine_tune(self, index: Int[Tensor, " n"], labels: Tensor | Callable, recipe: Recipe, **how) -> nn.Module:
        r"""A copy of the original, trained further and timed; see `train_on`."""
        with self.clock("fine-tuning"):
            return self.train_on(models.copy_of(self.original), index, labels, recipe, **how)

    def train_new(self, model: nn.Module, index: Int[Tensor, " n"], label: str) -> nn.Module:
        r"""Train an untrained ``model`` in place by the original's recipe on images ``index``; it sees no others."""
        models.prepare(model, self.images, index)
        return self.train_on(model, index, self.images.y[index], self.training, label=label)

    def train_on(
        self,
        model: nn.Module,
        index: Int[Tensor, " n"],
        labels: Tensor | Callable,
        recipe: Recipe,
        *,
        shift: Callable | None = None,
        label: str = "fine-tuning",
        purpose: str = "order",
        at: Position | None = None,
        **how,
    ) -> nn.Module:
        r"""Train ``model`` in place, and give it back in eval mode; a training that was stopped goes on.

        So ``labels``, ``shift``, ``loss`` and ``after`` count nothing but ``at``, and draw from `generator` alone.

        Args:
            labels: ``(n, ...)`` as the loss takes them, or a function of positions ``(b,)`` in ``index``.
            shift: function of (images ``(b, C, H, W)``, positions ``(b,)``) to images.
            label: of the progress bar.  purpose: of the order's generator.
            at, how: ``at``, ``loss``, ``after``, ``moments`` of `megu.core.train.fit`.
        """
        gen, at = self.generator(purpose), at or Position()

        def batch(position):
            position = position.to(index.device, non_blocking=True)  # the device is not waited for
            x = self.images.batch(index[position], recipe.augment, gen, at.epoch)
            y = labels(position) if callable(labels) else labels[position]
            return x if shift is None else shift(x, position), y

        how |= {"at": at, "draws": self.draws, "checkpoint": next_checkpoint()}
        losses = fit(model, batch, len(index), recipe, gen, self.compute, label=label, **how)
        self.history.setdefault(label, []).extend(losses)
        return model
