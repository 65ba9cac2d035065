r"""Bad teacher: on forget images the student listens to a network that knows nothing.

Evidence in ``paper_figures/data``: ``tuning.csv``, validation images, seeds 100-102; ``comparison.csv``, seeds 0-2.
"""

import torch
from torch import nn

from megu.core.train import predict
from megu.methods.registry import RATE, published, register
from megu.methods.task import Task
from megu.settings.config import Part, Recipe


class BadTeacherSettings(Part):
    """The distillation's recipe."""

    recipe: Recipe = Recipe(epochs=3, lr=0.0044)


_PUBLISHED = published(1, 1e-4, 256, "adam")


@register("bad-teacher", BadTeacherSettings, "Bad teacher", search=RATE, published=_PUBLISHED)
def unlearn(task: Task, settings: BadTeacherSettings) -> nn.Module:
    r"""The original, distilled from itself on retain images and from an untrained network on forget images.

    $\theta' = \arg\min_\theta \sum_{D_r} \mathrm{KL}(f_{orig} \Vert f_\theta) + \sum_{D_f} \mathrm{KL}(f_{rand} \Vert
    f_\theta)$, temperature 1.
    Source: Chundawat et al. 2023, arXiv 2205.08096.  Departs: the cross-entropy with the teachers' probabilities, which
        has the gradient of the divergence; the retain sample is MeGU's, the public code takes 30 % of all retain
        images.
    """
    forget, retain = task.split.forget, task.retain_sample()
    with task.clock("teachers"):
        fool = task.fresh_model().to(task.compute.device)
        taught = torch.cat([predict(fool, task.images, forget), predict(task.original, task.images, retain)]).softmax(1)
    return task.fine_tune(torch.cat([forget, retain]), taught, settings.recipe, label="bad teacher")
