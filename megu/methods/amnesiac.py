r"""Amnesiac unlearning: random wrong labels, without a guide and without noise; the control for guided labels.

Evidence in ``paper_figures/data``: ``tuning.csv``, validation images, seeds 100-102; ``comparison.csv``, seeds 0-2.
"""

import torch
from torch import nn

from megu.methods.registry import RATE, published, register
from megu.methods.task import Task
from megu.settings.config import Part, Recipe


class AmnesiacSettings(Part):
    """The fine-tuning's recipe."""

    recipe: Recipe = Recipe(epochs=3, lr=0.011)


_PUBLISHED = published(3, 1e-4, 128, "adam")


@register("amnesiac", AmnesiacSettings, "Amnesiac (random labels)", search=RATE, published=_PUBLISHED)
def unlearn(task: Task, settings: AmnesiacSettings) -> nn.Module:
    r"""The original, trained further on forget images with fixed random wrong labels and on a sample of retain images.

    $y'_i$ uniform over the classes other than $y_i$, drawn once.
    Source: amnesiac unlearning, Graves et al. 2021, row "amnesiac" of arXiv 2602.17088.  Departs: the retain sample is
        MeGU's.
    """
    forget, retain, y = task.split.forget, task.retain_sample(), task.images.y
    offset = torch.randint(1, task.num_classes, (len(forget),), generator=task.generator("labels")).to(y.device)
    wrong = (y[forget] + offset) % task.num_classes
    index, labels = torch.cat([forget, retain]), torch.cat([wrong, y[retain]])
    return task.fine_tune(index, labels, settings.recipe, label="amnesiac")
