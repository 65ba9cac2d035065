r"""SSD: weights that matter much more for the forget images than for all images are dampened; nothing is trained.

Evidence in ``paper_figures/data``: ``tuning.csv``, validation images, seeds 100-102; ``comparison.csv``, seeds 0-2.
``ssd-code`` was tuned while its batches were cut by the label alone.
"""

from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from megu.core.models import copy_of
from megu.datasets.images import Images
from megu.methods.registry import register
from megu.methods.task import Task
from megu.settings.config import Count, Part, Positive


class SsdSettings(Part):
    r"""``alpha``: how many times more important a weight must be; ``lam``: dampening.

    ``importance``: ``sample``, the empirical Fisher information, from at most ``images`` retain images and as many
    forget images; or ``batch``, squared gradients of batches of ``batch`` images from all training images, in the order
    of `public_order`, as the public code has it.
    """

    alpha: Positive = 1.8
    lam: Positive = 0.72
    importance: Literal["sample", "batch"] = "sample"
    images: Count = 500
    batch: Count = 64


_CHOICE = {"search": {"alpha": (0.5, 100.0), "lam": (0.05, 2.0)}, "published": {"alpha": 10.0, "lam": 1.0}}
_CODE = {"importance": "batch", "alpha": 7.8, "lam": 0.073}


@register("ssd-code", SsdSettings, "SSD, importance as in the public code (compat)", preset=_CODE, **_CHOICE)
@register("ssd", SsdSettings, "SSD", **_CHOICE)
def unlearn(task: Task, settings: SsdSettings) -> nn.Module:
    r"""The original with dampened weights.

    $\theta_j' = \min(\lambda I_{D,j} / I_{f,j},\ 1)\,\theta_j$ where $I_{f,j} > \alpha I_{D,j}$, else $\theta_j$.
    Source: Foster et al. 2024, arXiv 2308.07707.  Departs: ``importance="sample"`` (strict) squares the gradient of
        each image, which the formula asks for; the public code, ``batch``, squares that of a batch's mean loss.
    """
    model = copy_of(task.original).eval()
    if settings.importance == "batch":
        forget, everything, size = *public_order(task), settings.batch
    else:
        forget, retain = (task.sample(i, settings.images, "importance") for i in (task.split.forget, task.split.retain))
        everything, size = torch.cat([retain, forget]), 1
    with task.clock("importance"):
        of_forget, of_all = (importance(model, task.images, index, size) for index in (forget, everything))
    return dampened(model, of_forget, of_all, settings.alpha, settings.lam)


def public_order(task: Task) -> tuple[Int[Tensor, " n"], Int[Tensor, " everything"]]:
    r"""Forget images and all training images in the order from which the public code cuts its batches.

    Whole classes go: retain images class by class, then the forget images.  Sub-classes go: the same by (fine) class.
    Single images go: retain images mixed, then the forget images.  So batches are of one (fine) class, or of many; the
    squared mean gradient of a batch depends on it.
    Source: data loaders of the public code of arXiv 2308.07707.
    """
    retain, forget, images = task.split.retain, task.split.forget, task.images
    for labels in (images.y, images.fine):
        if not torch.isin(labels[forget], labels[retain]).any():
            retain = retain[labels[retain].sort(stable=True).indices]
            return forget, torch.cat([retain, forget])
    forget, retain = (task.sample(part, len(part), "importance") for part in (forget, retain))
    return forget, torch.cat([retain, forget])


def importance(model: nn.Module, images: Images, index: Int[Tensor, " n"], batch: int) -> list[Tensor]:
    r"""Mean over batches of the squared gradient of the batch-mean cross-entropy; ``batch=1`` is the empirical Fisher
    information.

    $I_j = \frac1B \sum_b \left(\partial_j \overline{\mathrm{CE}}_b\right)^2$.

    Args: model: in eval mode.  index: into the pool, in the order in which the batches are cut.
    Returns: like ``model.parameters()``.
    """
    weights = list(model.parameters())
    total = [torch.zeros_like(w) for w in weights]
    parts = index.split(batch)
    for part in tqdm(parts, desc="importance", unit="batch", leave=False):
        loss = F.cross_entropy(model(images.batch(part)), images.y[part])
        for sum_, gradient in zip(total, torch.autograd.grad(loss, weights), strict=True):
            sum_ += gradient.square() / len(parts)
    return total


@torch.no_grad()
def dampened(model: nn.Module, of_forget: list[Tensor], of_all: list[Tensor], alpha: float, lam: float) -> nn.Module:
    r"""Multiply every weight with $I_f > \alpha I_D$ by $\min(\lambda I_D / I_f, 1)$, in place; returns the model."""
    for weight, f, d in zip(model.parameters(), of_forget, of_all, strict=True):
        weight.mul_(torch.where(f > alpha * d, (lam * d / f.clamp_min(1e-30)).clamp(max=1), 1.0))
    return model
