r"""What methods are compared with."""

from torch import nn

from megu.core.models import copy_of, head
from megu.methods.registry import register
from megu.methods.task import Task
from megu.settings.config import Part, Recipe


@register("original", "Original", reference=True)
def original(task: Task, settings: Part) -> nn.Module:
    r"""A copy of the original model: the negative control.  Source: arXiv 2602.17088, row "original"."""
    return copy_of(task.original)


@register("retrain", "Retrain", reference=True)
def retrain(task: Task, settings: Part) -> nn.Module:
    r"""A new model, trained by the original's recipe on the retain images alone: the goal.

    $\theta^* = \arg\min_\theta \sum_{(x, y) \in D_r} \mathrm{CE}(f_\theta(x), y)$ from a fresh initialisation.
    Source: arXiv 2602.17088, row "retrain".  Departs: the public code that the paper follows only resets the head.
    """
    return task.train_new(task.fresh_model(), task.split.retain, "retrain")


class RetrainHeadSettings(Part):
    """The recipe, with the published rate and no augmentation."""

    recipe: Recipe = Recipe(lr=0.01, nesterov=False, schedule="constant")


@register("retrain-head", "Retrain, head reset (compat)", reference=True, published={"recipe.cut": "rest"})
def retrain_head(task: Task, settings: RetrainHeadSettings) -> nn.Module:
    r"""The original with a new head, trained further on all retain images: the published "retrain", and no reference.

    Source: the SSD code base.
    """
    model, retain = copy_of(task.original), task.split.retain
    head(model).load_state_dict(head(task.fresh_model()).state_dict())
    return task.train_on(model, retain, task.images.y[retain], settings.recipe, label="retrain, head reset")
