r"""Amnesiac unlearning: random wrong labels, the control for guided ones."""

import torch
from torch import nn

from megu.methods.registry import RATE, published, register
from megu.methods.task import Task
from megu.settings.config import Part, Recipe


class AmnesiacSettings(Part):
    """The recipe."""

    recipe: Recipe = Recipe(epochs=3, lr=0.011)


@register("amnesiac", "Amnesiac (random labels)", search=RATE, published=published(3, 1e-4, 128, "adam"))
def unlearn(task: Task, settings: AmnesiacSettings) -> nn.Module:
    r"""The original, fine-tuned on retain images and on forget images with labels $y'_i \ne y_i$, drawn once.

    Source: Graves et al. 2021, row "amnesiac" of arXiv 2602.17088.
    """
    forget, retain, y = task.split.forget, task.retain_sample(), task.images.y
    offset = torch.randint(1, task.num_classes, (len(forget),), generator=task.generator("labels")).to(y.device)
    labels = torch.cat([(y[forget] + offset) % task.num_classes, y[retain]])
    return task.fine_tune(torch.cat([forget, retain]), labels, settings.recipe, label="amnesiac")
