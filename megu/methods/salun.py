r"""SalUn: random labels, but only weights that matter most to the forget images may move."""

from typing import Literal

import torch
from torch import Tensor, nn

from megu.core.models import trainable
from megu.methods.gradients import gradients
from megu.methods.registry import RATE, published, register
from megu.methods.task import Task
from megu.settings.config import Fraction, Part, Recipe


class SalunSettings(Part):
    """``share`` of all weights that may move, and the recipe.

    ``saliency``: of the gradient summed over images, or of the sum of the mean gradients of shuffled batches.
    """

    share: Fraction = 0.5
    saliency: Literal["images", "batches"] = "images"
    recipe: Recipe = Recipe(epochs=3, lr=0.11)


@register("salun", "SalUn", search=RATE, published=published(10, 0.013, 256, saliency="batches"))
def unlearn(task: Task, settings: SalunSettings) -> nn.Module:
    r"""Labels are uniform over ALL classes, the image's own included, and drawn afresh at every visit.

    Source: Fan et al. 2024, arXiv 2310.12508, in the public code's form for CIFAR-100 (one shuffled union).  Departs:
        the other weights are put back after every step, as in the public code since 2026; the saliency is that of the
        formula, where the public code (``batches``) gives images of a short last batch more weight.
    """
    forget, retain, y = task.split.forget, task.retain_sample(), task.images.y
    with task.clock("saliency"):
        mask = salient(task, settings)
    gen, index = task.generator("labels"), torch.cat([forget, retain])

    def labels(position):
        drawn = torch.randint(task.num_classes, (len(position),), generator=gen).to(y.device, non_blocking=True)
        return torch.where(position < len(forget), drawn, y[index[position]])

    @torch.no_grad()
    def put_back(model):
        for weight, moves, old in zip(trainable(model), mask, trainable(task.original), strict=True):
            weight.copy_(torch.where(moves, weight, old))

    return task.fine_tune(index, labels, settings.recipe, after=put_back, label="SalUn")


def salient(task: Task, settings: SalunSettings) -> list[Tensor]:
    r"""Which weights may move: bool, like `megu.core.models.trainable` of the original.

    $m_j = [\,|\sum_{D_f} \partial_j \mathrm{CE}|$ among the largest $\lfloor share \cdot d \rfloor$ of d weights$]$,
    exactly so many; ``batches``: $\sum_b \partial_j \overline{\mathrm{CE}}_b$ over batches b of the recipe's size.
    """
    forget = task.split.forget
    if settings.saliency == "images":
        total = gradients(task, forget.split(256), lambda gradient: gradient, "sum")
    else:
        parts = task.sample(forget, len(forget), "saliency").split(settings.recipe.batch)
        total = gradients(task, parts, lambda gradient: gradient, "mean")
    flat = torch.cat([t.flatten() for t in total]).abs()
    largest = flat.topk(int(settings.share * len(flat))).indices
    mask = torch.zeros_like(flat, dtype=torch.bool).index_fill(0, largest, True)
    return [m.view_as(t) for m, t in zip(mask.split([t.numel() for t in total]), total, strict=True)]
