r"""SalUn: random labels, but only the weights that the forget images are most sensitive to may move.

Evidence in ``paper_figures/data``: ``tuning.csv``, validation images, seeds 100-102; ``comparison.csv``, seeds 0-2.
"""

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from megu.core.models import copy_of
from megu.datasets.images import Images
from megu.methods.registry import RATE, published, register
from megu.methods.task import Task
from megu.settings.config import Fraction, Part, Recipe


class SalunSettings(Part):
    """``share`` of all weights that may move, and the recipe."""

    share: Fraction = 0.5
    recipe: Recipe = Recipe(epochs=3, lr=0.11)


@register("salun", SalunSettings, "SalUn", search=RATE, published=published(10, 0.013, 256))
def unlearn(task: Task, settings: SalunSettings) -> nn.Module:
    r"""The original, trained on randomly labelled forget images and on retain images; all but the salient weights stay.

    Labels are uniform over ALL classes, the image's own included, and drawn afresh at every visit.
    Source: Fan et al. 2024, arXiv 2310.12508, in the public code's form for CIFAR-100 (one shuffled union).
    Departs: the retain sample is MeGU's; the other weights are put back after every step, as the public code does since
        2026.
    """
    forget, retain, y = task.split.forget, task.retain_sample(), task.images.y
    with task.clock("saliency"):
        model = copy_of(task.original)
        mask = salient(model, task.images, forget, settings.share)
        before = [w.detach().clone() for w in model.parameters()]
    gen, index = task.generator("labels"), torch.cat([forget, retain])

    def labels(position):
        drawn = torch.randint(task.num_classes, (len(position),), generator=gen).to(y.device, non_blocking=True)
        return torch.where(position < len(forget), drawn, y[index[position]])

    @torch.no_grad()
    def put_back(model):
        for weight, moves, old in zip(model.parameters(), mask, before, strict=True):
            weight.copy_(torch.where(moves, weight, old))

    with task.clock("fine-tuning"):
        return task.train_on(model, index, labels, settings.recipe, after=put_back, label="SalUn")


def salient(
    model: nn.Module, images: Images, forget: Int[Tensor, " n"], share: float, batch: int = 256
) -> list[Tensor]:
    r"""Mask of the weights with the largest gradients of the forget images' loss, ranked over the whole network.

    $m_j = [\,|\sum_{D_f} \partial_j \mathrm{CE}|$ among the largest $\lfloor share \cdot d \rfloor$ of d weights$]$,
    exactly so many.

    Args: model: in eval mode for the gradients.  share: in (0, 1].
    Returns: bool tensors like ``model.parameters()``.
    """
    model.eval()
    weights = list(model.parameters())
    total = [torch.zeros_like(w) for w in weights]
    for part in forget.split(batch):
        loss = F.cross_entropy(model(images.batch(part)), images.y[part], reduction="sum")
        for sum_, gradient in zip(total, torch.autograd.grad(loss, weights), strict=True):
            sum_ += gradient
    flat = torch.cat([t.flatten() for t in total]).abs()
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[flat.topk(int(share * len(flat))).indices] = True
    return [m.view_as(w) for m, w in zip(mask.split([w.numel() for w in weights]), weights, strict=True)]
