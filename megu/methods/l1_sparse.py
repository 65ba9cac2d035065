r"""l1-sparse: fine-tuning on retain images with an l1 norm."""

from torch import nn
from torch.nn import functional as F

from megu.core.models import copy_of
from megu.core.train import Position
from megu.methods.registry import RATE, published, register
from megu.methods.task import Task
from megu.settings.config import Part, Recipe, Weight


class L1SparseSettings(Part):
    """``alpha``: weight of the norm at the start."""

    alpha: Weight = 0.00012
    recipe: Recipe = Recipe(epochs=3, lr=0.068)


@register("l1-sparse", "l1-sparse", search={**RATE, "alpha": (1e-6, 1e-3)}, published=published(10, 0.01, 256))
def unlearn(task: Task, settings: L1SparseSettings) -> nn.Module:
    r"""$\theta' = \arg\min_\theta \mathrm{CE}(D_r) + \alpha\,(1 - t / T)\,\lVert\theta\rVert_1$ at step t of T.

    Source: Jia et al. 2023, arXiv 2304.04934.  Departs: the penalty falls with every step, not every epoch.
    """
    retain, recipe, model, at = task.retain_sample(), settings.recipe, copy_of(task.original), Position()
    steps = recipe.epochs * len(recipe.batches(len(retain)))

    def loss(logits, y):
        weight = settings.alpha * (1 - at.step / steps)
        return F.cross_entropy(logits, y) + weight * sum(w.abs().sum() for w in model.parameters())

    with task.clock("fine-tuning"):
        return task.train_on(model, retain, task.images.y[retain], recipe, loss=loss, at=at, label="l1-sparse")
