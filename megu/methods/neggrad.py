r"""NegGrad+: descent on retain images and ascent on forget images in the same steps."""

from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from megu.methods.registry import RATE, published, register
from megu.methods.task import Task
from megu.settings.config import Fraction, Part, Recipe


class NegGradSettings(Part):
    """``retain_weight`` a of the retain loss; the forget loss has 1 - a."""

    retain_weight: Fraction = 0.95
    recipe: Recipe = Recipe(epochs=3, lr=0.0088)


@register("neggrad-plus", "NegGrad+", search=RATE, published=published(10, 0.01, 128, retain_weight=0.95))
def unlearn(task: Task, settings: NegGradSettings) -> nn.Module:
    r"""$\theta' = \arg\min_\theta a\,\mathrm{CE}(D_r) - (1 - a)\,\mathrm{CE}(D_f)$, started at the original's weights.

    Source: Kurmanji et al. 2023 (SCRUB), baseline NegGrad+.  Departs: a batch holds both sets in proportion.
    """
    forget, retain = task.split.forget, task.retain_sample()
    index = torch.cat([forget, retain])

    def labels(position):
        return signed(task.images.y[index[position]], position < len(forget))

    loss = partial(signed_loss, a=settings.retain_weight)
    return task.fine_tune(index, labels, settings.recipe, loss=loss, label="NegGrad+")


def signed(y: Int[Tensor, " b"], goes: Bool[Tensor, " b"]) -> Int[Tensor, "b 4"]:
    r"""For `signed_loss`: label, 1 for a forget image, numbers of retain and forget images in the batch."""
    return torch.stack([y, goes, (~goes).sum().expand_as(y), goes.sum().expand_as(y)], 1)


def signed_loss(logits: Float[Tensor, "b K"], y: Int[Tensor, "b 4"], a: float) -> Float[Tensor, ""]:
    r"""$a\,\overline{\mathrm{CE}}_r - (1 - a)\,\overline{\mathrm{CE}}_f$ of a batch; a set that is not in it adds 0.

    Of a part of a batch: its share, so that the weighted mean over parts is the batch's loss.
    """
    value, goes, (retained, forgotten) = F.cross_entropy(logits, y[:, 0], reduction="none"), y[:, 1].bool(), y[0, 2:]
    loss = a * (value * ~goes).sum() / retained.clamp(min=1) - (1 - a) * (value * goes).sum() / forgotten.clamp(min=1)
    return loss * ((retained + forgotten) / len(y))
