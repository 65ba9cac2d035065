r"""l1-sparse: fine-tuning on retain images while an l1 norm makes room for forgetting.

Evidence in ``paper_figures/data``: ``tuning.csv``, validation images, seeds 100-102; ``comparison.csv``, seeds 0-2.
"""

import itertools

from torch import nn
from torch.nn import functional as F

from megu.core.models import copy_of
from megu.methods.registry import RATE, published, register
from megu.methods.task import Task
from megu.settings.config import Part, Recipe, Weight


class L1SparseSettings(Part):
    """``alpha``: weight of the norm at the start; it falls linearly to 0."""

    alpha: Weight = 0.00012
    recipe: Recipe = Recipe(epochs=3, lr=0.068)


_SEARCH, _PUBLISHED = {**RATE, "alpha": (1e-6, 1e-3)}, published(10, 0.01, 256)


@register("l1-sparse", L1SparseSettings, "l1-sparse", search=_SEARCH, published=_PUBLISHED)
def unlearn(task: Task, settings: L1SparseSettings) -> nn.Module:
    r"""The original, fine-tuned on retain images with a falling l1 penalty.

    $\theta' = \arg\min_\theta \mathrm{CE}(D_r) + \alpha_t \lVert\theta\rVert_1$, $\alpha_t$ from ``alpha`` linearly to
    0 over the steps.
    Source: Jia et al. 2023, arXiv 2304.04934.  Departs: the penalty falls with every step, not every epoch; the retain
        sample is MeGU's.
    """
    retain, recipe, model = task.retain_sample(), settings.recipe, copy_of(task.original)
    weights = falling(settings.alpha, recipe.epochs * max(1, round(len(retain) / recipe.batch)))
    weight = next(weights)

    def loss(logits, y):
        return F.cross_entropy(logits, y) + weight * sum(w.abs().sum() for w in model.parameters())

    def after(_):
        nonlocal weight  # once a step, in however many parts its batch went through the network
        weight = next(weights)

    with task.clock("fine-tuning"):
        return task.train_on(model, retain, task.images.y[retain], recipe, loss=loss, after=after, label="l1-sparse")


def falling(alpha, steps):
    r"""``alpha * (1 - t / steps)`` for t = 0, 1, ..., then 0 for ever.

    >>> [next(f) for f in [falling(1.0, 2)] for _ in range(4)]
    [1.0, 0.5, 0.0, 0.0]
    """
    for t in itertools.count():
        yield alpha * max(0.0, 1 - t / steps)
