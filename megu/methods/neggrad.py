r"""NegGrad+: descent on retain images, ascent on forget images, in the same steps."""

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

    Source: Kurmanji et al. 2023 (SCRUB), baseline NegGrad+.  Departs: a batch holds both sets in the proportion of
        their sizes.
    """
    forget, retain = task.split.forget, task.retain_sample()
    index = torch.cat([forget, retain])
    y = task.images.y[index]

    def loss(logits, y):
        return signed_loss(logits, y, settings.retain_weight)

    def labels(position):
        return signed(y[position], position < len(forget))

    return task.fine_tune(index, labels, settings.recipe, loss=loss, label="NegGrad+")


def signed(y: Int[Tensor, " b"], goes: Bool[Tensor, " b"]) -> Int[Tensor, "b 4"]:
    r"""What `signed_loss` takes: label, 1 for a forget image, number of retain and of forget images in the batch."""
    return torch.stack([y, goes, (~goes).sum().expand_as(y), goes.sum().expand_as(y)], 1)


def signed_loss(logits: Float[Tensor, "b K"], y: Int[Tensor, "b 4"], a: float) -> Float[Tensor, ""]:
    r"""$a\,\overline{\mathrm{CE}}_r - (1 - a)\,\overline{\mathrm{CE}}_f$ of a batch; a set that is not in it adds 0.

    Of a part of a batch: its share, so that the mean over the parts, by their sizes, is the batch's loss.
    """
    value, goes, (retained, forgotten) = F.cross_entropy(logits, y[:, 0], reduction="none"), y[:, 1].bool(), y[0, 2:]
    loss = a * (value * ~goes).sum() / retained.clamp(min=1) - (1 - a) * (value * goes).sum() / forgotten.clamp(min=1)
    return loss * ((retained + forgotten) / len(y))
