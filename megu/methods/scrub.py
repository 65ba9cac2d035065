r"""SCRUB: away from the teacher on forget images, back on retain images, rewind."""

from collections.abc import Callable
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from megu.core.models import copy_of
from megu.core.train import predict
from megu.methods.registry import register
from megu.methods.task import Task
from megu.settings.config import Count, Part, Positive, Recipe, Weight


class ScrubSettings(Part):
    """``max_epochs`` (msteps) of ``epochs`` start away from the teacher; gamma, alpha: see `unlearn`.

    ``momentum``: starts afresh in every pass, or is carried from pass to pass, for which the published rate is.
    """

    epochs: Count = 3
    max_epochs: Count = 2
    temperature: Positive = 4.0
    gamma: Weight = 0.99
    alpha: Weight = 0.0011
    rewind: bool = True
    forget_batch: Count = 512
    momentum: Literal["fresh", "carried"] = "fresh"
    recipe: Recipe = Recipe(epochs=1, schedule="constant", lr=0.041, nesterov=False)


_SEARCH = {"recipe.lr": (1e-4, 0.1), "alpha": (1e-3, 1.0)}
_PUBLISHED = {"recipe.lr": 5e-4, "alpha": 0.001, "momentum": "carried", "recipe.cut": "rest"}


@register("scrub", "SCRUB + rewind", search=_SEARCH, published=_PUBLISHED)
def unlearn(task: Task, settings: ScrubSettings) -> nn.Module:
    r"""Each epoch: $\max_\theta \mathrm{KL}(f_{orig} \Vert f_\theta)$ on $D_f$ (the first ``max_epochs``), then
    $\min_\theta \gamma\,\mathrm{CE} + \alpha\,\mathrm{KL}(f_{orig} \Vert f_\theta)$ on $D_r$.

    Rewind: of the models after each epoch, the one whose forget error is nearest to the last one's error on validation
    images of the same classes; without such, the last.
    Source: Kurmanji et al. 2023, arXiv 2302.09880.  Departs: momentum starts afresh in every pass, since the two passes
        climb and descend, and what the last ascent gathered would go on in the descent (``carried``: public code).
    """
    forget, retain, images = task.split.forget, task.retain_sample(), task.images
    model, t, kept = copy_of(task.original), settings.temperature, []
    with task.clock("teachers"):
        on_forget, on_retain = (predict(task.original, images, part) for part in (forget, retain))
    away = settings.recipe.model_copy(update={"batch": settings.forget_batch})
    moments = {} if settings.momentum == "carried" else None

    def leave(logits, teacher):
        return -divergence(logits, teacher, t)

    def keep(logits, position):
        ce, kl = F.cross_entropy(logits, images.y[retain[position]]), divergence(logits, on_retain[position], t)
        return settings.gamma * ce + settings.alpha * kl

    with task.clock("fine-tuning"):
        for epoch in range(settings.epochs):
            if epoch < settings.max_epochs:
                order = {"label": "SCRUB, max", "purpose": f"max order {epoch}", "moments": moments}
                task.train_on(model, forget, on_forget, away, loss=leave, **order)
            order = {"label": "SCRUB, min", "purpose": f"min order {epoch}", "moments": moments}
            task.train_on(model, retain, lambda position: position, settings.recipe, loss=keep, **order)
            kept.append(copy_of(model))
    unseen = task.split.val_forget if len(task.split.val_forget) else task.split.val_retain
    if not settings.rewind or not len(unseen):
        return model

    def error(model, index):
        return (predict(model, images, index).argmax(1) != images.y[index]).double().mean().item()

    with task.clock("rewind"):
        return rewound(kept, lambda model: error(model, forget), error(model, unseen))


def divergence(logits: Float[Tensor, "b K"], teacher: Float[Tensor, "b K"], t: float) -> Tensor:
    r"""$t^2\,\mathrm{KL}(\mathrm{softmax}(teacher / t) \Vert \mathrm{softmax}(logits / t))$, batch mean, nats."""
    p, q = ((x / t).log_softmax(1) for x in (logits, teacher))
    return t**2 * F.kl_div(p, q, reduction="batchmean", log_target=True)


def rewound(kept: list[nn.Module], forget_error: Callable, goal: float) -> nn.Module:
    r"""The model of ``kept`` whose ``forget_error(model)`` is nearest to ``goal``; the latest of equals."""
    return min(reversed(kept), key=lambda model: abs(forget_error(model) - goal))
