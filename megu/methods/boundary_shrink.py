r"""Boundary shrink: forget images get the label behind the nearest decision boundary."""

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from megu.core.models import frozen
from megu.datasets.images import Images
from megu.methods.registry import published, register
from megu.methods.task import Task
from megu.settings.config import Part, Positive, Recipe


class BoundaryShrinkSettings(Part):
    """``eps``: step of the adversarial attack, in pixel values of [0, 1]."""

    eps: Positive = 0.1
    recipe: Recipe = Recipe(epochs=3, batch=64, lr=0.001)


@register("boundary-shrink", "Boundary shrink", search={"recipe.lr": (1e-5, 0.03)}, published=published(10, 1e-5, 64))
def unlearn(task: Task, settings: BoundaryShrinkSettings) -> nn.Module:
    r"""The original, fine-tuned on the clean forget images alone, labelled by one adversarial step.

    $y'_i = \arg\max_{k \ne y_i} f_k(x_i + \epsilon\,\mathrm{sign}\,\nabla_x \mathrm{CE}(f(x_i), y_i))$.
    Source: Chen et al. 2023, arXiv 2303.11570.  Departs: the own label is left out, which the public code keeps where
        an image survives the step; eps is in pixel values.
    """
    forget = task.split.forget
    with task.clock("labels"):
        judge = frozen(task.original)
        labels = torch.cat([nearest_wrong(judge, task.images, part, settings.eps) for part in forget.split(256)])
    return task.fine_tune(forget, labels, settings.recipe, label="boundary shrink")


def nearest_wrong(model: nn.Module, images: Images, index: Int[Tensor, " n"], eps: float) -> Int[Tensor, " n"]:
    r"""The wrong class that a frozen model prefers after one fast gradient sign step of ``eps`` (pixel values)."""
    x, y = images.batch(index).requires_grad_(), images.y[index]
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)
    with torch.no_grad():
        logits = model(x + eps / images.std.view(-1, 1, 1) * gradient.sign())
    return logits.scatter(1, y[:, None], -torch.inf).argmax(1)
