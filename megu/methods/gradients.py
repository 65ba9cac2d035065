r"""Gradients of the original's loss, from which methods tell what a weight matters for."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from megu.core import models
from megu.methods.task import Task
from megu.settings.progress import Bar


def gradients(task: Task, parts: tuple[Tensor, ...], value: Callable, reduction: str) -> list[Tensor]:
    r"""Sum over parts of ``value(gradient)`` of the cross-entropy in each trainable weight of the original.

    Args: parts: image numbers, each ``(b,)``.  reduction: of the images of a part, sum or mean.
    """
    original, images, weights = task.original, task.images, models.trainable(task.original)
    total = []
    for part in Bar(parts, desc="gradients", unit="batch"):
        loss = F.cross_entropy(original(images.batch(part)), images.y[part], reduction=reduction)
        found = torch.autograd.grad(loss, weights, materialize_grads=True)  # 0 where a weight plays no part
        values = list(map(value, found))
        total = [sum_.add_(more) for sum_, more in zip(total, values, strict=True)] if total else values
    return total
