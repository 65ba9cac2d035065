r"""NegGrad+: descent on retain images, ascent on forget images, in the same steps.

Evidence in ``paper_figures/data``: ``tuning.csv``, validation images, seeds 100-102; ``comparison.csv``, seeds 0-2.
"""

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


_PUBLISHED = published(10, 0.01, 128, retain_weight=0.95)


@register("neggrad-plus", NegGradSettings, "NegGrad+", search=RATE, published=_PUBLISHED)
def unlearn(task: Task, settings: NegGradSettings) -> nn.Module:
    r"""The original, trained to be right on retain images and wrong on forget images.

    $\theta' = \arg\min_\theta a\,\mathrm{CE}(D_r) - (1 - a)\,\mathrm{CE}(D_f)$, started at the original's weights.
    Source: Kurmanji et al. 2023 (SCRUB), baseline NegGrad+.  Departs: both sets are shuffled into one, so a batch holds
        them in the proportion of their sizes.
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
    r"""What `signed_loss` takes, from labels and forget images of a whole batch."""
    counts = torch.stack([(~goes).sum(), goes.sum()]).expand(len(y), 2)
    return torch.cat([torch.stack([y, goes], 1), counts], 1)


def signed_loss(logits: Float[Tensor, "b K"], y: Int[Tensor, "b 4"], a: float) -> Float[Tensor, ""]:
    r"""$a\,\overline{\mathrm{CE}}_r - (1 - a)\,\overline{\mathrm{CE}}_f$ of a batch, or what its mean over parts of the
    batch adds up to.

    Args:
        logits: of a batch or a part of it.
        y: the label, 1 for a forget image, and how many retain and forget images the whole batch holds.
        a: weight of the retain loss, in (0, 1].
    Returns: a set that is not in the batch adds nothing.
    """
    value, goes, (retained, forgotten) = F.cross_entropy(logits, y[:, 0], reduction="none"), y[:, 1].bool(), y[0, 2:]
    loss = a * (value * ~goes).sum() / retained.clamp(min=1) - (1 - a) * (value * goes).sum() / forgotten.clamp(min=1)
    return loss * ((retained + forgotten) / len(y))
