r"""Bad teacher: an untrained network teaches the forget images."""

import torch
from torch import nn

from megu.core.models import reset
from megu.core.train import predict
from megu.methods.registry import RATE, published, register
from megu.methods.task import Task
from megu.settings.config import Part, Recipe


class BadTeacherSettings(Part):
    """The recipe."""

    recipe: Recipe = Recipe(epochs=3, lr=0.0044)


def has_an_untrained_network(model: nn.Module, _images=None) -> nn.Module:
    r"""It with new weights.  Raises: SettingsError where it cannot be drawn anew."""
    return reset(model, 0, "check")


_CHOICE = {"search": RATE, "published": published(1, 1e-4, 256, "adam")}


@register("bad-teacher", "Bad teacher", fits=has_an_untrained_network, **_CHOICE)
def unlearn(task: Task, settings: BadTeacherSettings) -> nn.Module:
    r"""Distilled from the original, and on forget images from an untrained $f_{rand}$; temperature 1.

    $\theta' = \arg\min_\theta \sum_{D_r} \mathrm{KL}(f_{orig} \Vert f_\theta) + \sum_{D_f} \mathrm{KL}(f_{rand} \Vert
    f_\theta)$.
    Source: Chundawat et al. 2023, arXiv 2205.08096.  Departs: cross-entropy with the teachers' probabilities, which has
        the same gradient; the public code takes 30 % of the retain images.
    """
    forget, retain = task.split.forget, task.retain_sample()
    with task.clock("teachers"):
        fool = task.fresh_model().to(task.compute.device)
        taught = torch.cat([predict(fool, task.images, forget), predict(task.original, task.images, retain)]).softmax(1)
    return task.fine_tune(torch.cat([forget, retain]), taught, settings.recipe, label="bad teacher")
