r"""Bad teacher: on forget images the student listens to a network that knows nothing."""

import torch

from megu.core.models import copy_of
from megu.core.train import predict
from megu.settings.config import Part, Recipe


class BadTeacherSettings(Part):
    """The distillation's recipe."""

    recipe: Recipe = Recipe(epochs=3, lr=0.0044)


def unlearn(task, settings):
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
    with task.clock("fine-tuning"):
        return task.train_on(
            copy_of(task.original), torch.cat([forget, retain]), taught, settings.recipe, label="bad teacher"
        )
