r"""SSD: weights that matter much more for the forget images than for all images are dampened; nothing is trained."""

from typing import Literal

import torch
from torch.nn import functional as F
from tqdm import tqdm

from megu.core.models import copy_of
from megu.settings.config import Count, Part, Positive


class SsdSettings(Part):
    r"""``alpha``: how many times more important a weight must be; ``lam``: dampening.

    ``importance``: ``sample``, the empirical Fisher information, from at most ``images`` retain images and as many
    forget images; or ``batch``, squared gradients of batches of ``batch`` images in the order of their classes, from
    all training
    images, as the public code has it.
    """

    alpha: Positive = 1.8
    lam: Positive = 0.72
    importance: Literal["sample", "batch"] = "sample"
    images: Count = 500
    batch: Count = 64


def unlearn(task, settings):
    r"""The original with dampened weights.

    $\theta_j' = \min(\lambda I_{D,j} / I_{f,j},\ 1)\,\theta_j$ where $I_{f,j} > \alpha I_{D,j}$, else $\theta_j$.
    Source: Foster et al. 2024, arXiv 2308.07707.  Departs: ``importance="sample"`` (strict) squares the gradient of
        each image, which the formula asks for; the public code, ``batch``, squares that of a batch's mean loss.
    """
    forget, everything = task.split.forget, task.split.train
    model, size = copy_of(task.original).eval(), 1
    if settings.importance == "batch":
        everything, size = everything[task.images.y[everything].sort(stable=True).indices], settings.batch
    else:
        forget, retain = (task.sample(part, settings.images, "importance") for part in (forget, task.split.retain))
        everything = torch.cat([retain, forget])
    with task.clock("importance"):
        of_forget, of_all = (importance(model, task.images, index, size) for index in (forget, everything))
    return dampened(model, of_forget, of_all, settings.alpha, settings.lam)


def importance(model, images, index, batch):
    r"""Mean over batches of the squared gradient of the batch-mean cross-entropy; ``batch=1`` is the empirical Fisher
    information.

    $I_j = \frac1B \sum_b \left(\partial_j \overline{\mathrm{CE}}_b\right)^2$.

    Args:
        model: images to logits, in eval mode.
        images: `megu.datasets.images.Images`.
        index: ``(n,)`` int64 into the pool, in the order in which the batches are cut.
        batch: images in a batch.
    Returns: list of tensors like ``model.parameters()``.
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
def dampened(model, of_forget, of_all, alpha, lam):
    r"""Multiply every weight with $I_f > \alpha I_D$ by $\min(\lambda I_D / I_f, 1)$, in place; returns the model."""
    for weight, f, d in zip(model.parameters(), of_forget, of_all, strict=True):
        weight.mul_(torch.where(f > alpha * d, (lam * d / f.clamp_min(1e-30)).clamp(max=1), 1.0))
    return model
