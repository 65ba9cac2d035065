r"""What a retrained model may still know of the forget images, without one; which new model is nearer to that."""

from math import nan, prod

from jaxtyping import Int
from torch import Tensor, nn

from megu.core.models import accuracy, collect_features, has_features, probe, share_ends
from megu.core.train import predict

LEFT = 5.0  # percentage points: of a whole class one image in twenty
MOST = 5000  # retained images that a head is refitted on
SOME = 1000  # retained images, of each kind, by which two new models are compared


def goal(task, forget: Int[Tensor, " n"]) -> float:
    r"""Percent of forget images that a retrained model may name right: 0 where whole classes go; else what a linear
    head does that is refitted without them on the original's features; NaN where the original has no linear head.

    These features know the forget images, so it is an upper bound.

    Args: task: a `megu.methods.task.Task`.
    Source: exact unlearning of the last layer, Goel et al. 2022, arXiv 2201.06640.
    """
    if task.forgotten:
        return 0.0
    if not has_features(task.original, task.images):
        return nan
    retain, y = task.retain_sample()[:MOST], task.images.y
    seen, asked = (collect_features(task.original, task.images, index).float() for index in (retain, forget))
    return probe(seen, y[retain], asked, y[forget], task.num_classes)


def known_classes(model: nn.Module, images, index: Int[Tensor, " n"]) -> list[str]:
    r"""Classes of which a model surely names more than `LEFT` percent of images right, by the lower end of the 95 %
    interval (Wilson)."""
    y, names = images.y[index], []
    right = predict(model, images, index).argmax(1) == y
    for k in y.unique().tolist():
        of_class = right[y == k]
        low, _ = share_ends(int(of_class.sum()), len(of_class))
        names += [images.classes[k]] * bool(low > LEFT / 100)
    return names


def remembers(task, model: nn.Module) -> bool:
    r"""Whether a new model names over `LEFT` points more of a task's forget images right than its `goal`; no test image
    is looked at.  Source: ours (A16)."""
    forget = task.split.forget
    right = accuracy(predict(model, task.images, forget), task.images.y[forget])
    return right > goal(task, forget) + LEFT


def nearer(task, first: nn.Module, second: nn.Module) -> nn.Module:
    r"""The new model with the larger tug-of-war $(1 - |left - goal|) \prod (1 - \max(0, before - kept))$, the first if
    equal; in place of the retrained model stand the `goal` and the original.

    left: share of forget images named right; before, kept: shares of retained images that the original and the new
    model name right, of `SOME` training images and as many held-out ones, if any.  No test image is looked at.

    Source: ours (A16), after Zhao et al. 2024, arXiv 2406.01257.
    """
    split, images, may = task.split, task.images, goal(task, task.split.forget)
    retained = [task.sample(index, SOME, "nearer") for index in (split.retain, split.val_retain) if len(index)]

    def right(model, index):
        return accuracy(predict(model, images, index), images.y[index])

    before = [right(task.original, index) for index in retained]

    def near(model):
        kept = (1 - max(0.0, was - right(model, index)) / 100 for was, index in zip(before, retained, strict=True))
        return prod(kept, start=1 - abs(right(model, split.forget) - may) / 100)

    return max((first, second), key=near)
