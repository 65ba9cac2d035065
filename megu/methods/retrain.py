r"""The true retrain: the goal of unlearning, and its price.

Evidence: nothing to tune; ``paper_figures/data/comparison.csv``, seeds 0-2.
"""

from torch import nn

from megu.methods.registry import register
from megu.methods.task import Task
from megu.settings.config import Part


class RetrainSettings(Part):
    """Nothing to set: the recipe is the original's own (`megu.settings.config.Settings.training`)."""


@register("retrain", RetrainSettings, "Retrain", reference=True)
def unlearn(task: Task, settings: RetrainSettings) -> nn.Module:
    r"""A new model, trained by the original's recipe on the retain images alone.

    $\theta^* = \arg\min_\theta \sum_{(x, y) \in D_r} \mathrm{CE}(f_\theta(x), y)$ from a fresh initialisation.
    Source: arXiv 2602.17088, row "retrain".  Departs: the public code that the paper follows only re-initialises the
        head.
    """
    retain = task.split.retain
    return task.train_on(task.fresh_model(), retain, task.images.y[retain], task.training, label="retrain")
