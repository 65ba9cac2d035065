r"""Amnesiac unlearning: random wrong labels, without a guide and without noise; the control for guided labels."""

import torch

from megu.core.models import copy_of
from megu.settings.config import Part, Recipe


class AmnesiacSettings(Part):
    """The fine-tuning's recipe."""

    recipe: Recipe = Recipe(epochs=3, lr=0.011)


def unlearn(task, settings):
    r"""The original, trained further on forget images with fixed random wrong labels and on a sample of retain images.

    $y'_i$ uniform over the classes other than $y_i$, drawn once.
    Source: amnesiac unlearning, Graves et al. 2021, row "amnesiac" of arXiv 2602.17088.  Departs: the retain sample is
        MeGU's.
    """
    forget, retain, y = task.split.forget, task.retain_sample(), task.images.y
    offset = torch.randint(1, task.num_classes, (len(forget),), generator=task.generator("labels")).to(y.device)
    wrong = (y[forget] + offset) % task.num_classes
    with task.clock("fine-tuning"):
        return task.train_on(
            copy_of(task.original),
            torch.cat([forget, retain]),
            torch.cat([wrong, y[retain]]),
            settings.recipe,
            label="amnesiac",
        )
