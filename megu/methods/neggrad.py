r"""NegGrad+: descent on retain images, ascent on forget images, in the same steps."""

import torch
from torch.nn import functional as F

from megu.config import Fraction, Part, Recipe
from megu.models import copy_of


class NegGradSettings(Part):
    """``retain_weight`` a of the retain loss; the forget loss has 1 - a."""

    retain_weight: Fraction = 0.95
    recipe: Recipe = Recipe(epochs=3, lr=0.0088)


def unlearn(task, settings):
    r"""The original, trained to be right on retain images and wrong on forget images.

    $\theta' = \arg\min_\theta a\,\mathrm{CE}(D_r) - (1 - a)\,\mathrm{CE}(D_f)$, started at the original's weights.
    Source: Kurmanji et al. 2023 (SCRUB), baseline NegGrad+.  Departs: both sets are shuffled into one, so a batch holds them
        in the proportion of their sizes.
    """
    forget, retain = task.split.forget, task.retain_sample()
    index = torch.cat([forget, retain])
    signed = torch.stack([task.images.y[index], torch.arange(len(index), device=index.device) < len(forget)], 1)
    with task.clock("fine-tuning"):
        return task.train_on(
            copy_of(task.original), index, signed, settings.recipe, loss=lambda logits, y: signed_loss(logits, y, settings.retain_weight), label="NegGrad+"
        )


def signed_loss(logits, y, a):
    r"""$a\,\overline{\mathrm{CE}}_r - (1 - a)\,\overline{\mathrm{CE}}_f$.

    Args:
        logits: ``(b, K)`` float.
        y: ``(b, 2)`` int64: the label, and 1 for a forget image.
        a: weight of the retain loss, in (0, 1].
    Returns: scalar; a set that is not in the batch adds nothing.
    """
    value, goes = F.cross_entropy(logits, y[:, 0], reduction="none"), y[:, 1].bool()
    return a * (value * ~goes).sum() / (~goes).sum().clamp(min=1) - (1 - a) * (value * goes).sum() / goes.sum().clamp(min=1)
