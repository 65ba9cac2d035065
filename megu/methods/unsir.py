r"""UNSIR: error-maximising noise keeps the forgotten label (impair), then retain images (repair)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from megu.core.models import copy_of
from megu.methods.registry import WHOLE, register
from megu.methods.task import Task
from megu.noise_pair import optimise_noise
from megu.settings.config import Count, Noise, Part, Recipe

_USUAL = {"optimiser": "adam", "schedule": "constant", "weight_decay": 0.0, "batch": 256, "epochs": 1}


class UnsirSettings(Part):
    """Noise images of each label, copies of them to train on, and the two trainings."""

    noises: Count = 32
    copies: Count = 20
    noise: Noise = Noise(lam=0.1, steps=40, lr=0.1)
    impair: Recipe = Recipe(lr=0.0024, **_USUAL)
    repair: Recipe = Recipe(lr=0.00078, **_USUAL)


_SEARCH = {"impair.lr": (1e-4, 0.1), "repair.lr": (1e-4, 0.1)}
# The public code makes 256 (32) noises and copies the first three; noises do not depend on others, so three are made.
_FEW = {"noises": 3, "impair.cut": "rest", "repair.cut": "rest"}
_PUBLISHED = {**_FEW, "impair.lr": 0.02, "repair.lr": 0.01}
_SSD_CODE = {"noises": 32, "copies": 80, "noise.steps": 25, "impair.batch": 32, "repair.batch": 128}  # not tuned
_SSD_CODE |= {"impair.lr": 1e-4, "repair.lr": 1e-4}


@register("unsir-ssd", "UNSIR, setting of the SSD code", scenarios=WHOLE, preset=_SSD_CODE, published=_FEW)
@register("unsir", "UNSIR", scenarios=WHOLE, search=_SEARCH, published=_PUBLISHED)
def unlearn(task: Task, settings: UnsirSettings) -> nn.Module:
    r"""Noise beside retain images: $N = \arg\min_N -\mathrm{CE}(f(N), y) + \lambda\lVert N\rVert^2$, y forgotten.

    Source: Tarun et al. 2023, arXiv 2111.08947.  Departs: the noise is learnt in eval mode; every noise image is used
        (public code: the first three, since it counts the colours of an image in place of the images, all under label
        0).
    """
    retain, y = task.retain_sample(), task.images.y
    labels = y[task.split.forget].unique().repeat_interleave(settings.noises)
    with task.clock("noise"):
        noise = optimise_noise(task.original, labels, task.images.shape, -1, settings.noise, task.generator("noise"))
    noisy = labels.repeat(settings.copies)
    index = torch.cat([retain, retain[:1].expand(len(noisy))])
    with task.clock("fine-tuning"):
        model = copy_of(task.original)
        shift = replace_images(noise.repeat(settings.copies, 1, 1, 1), len(retain))
        task.train_on(model, index, torch.cat([y[retain], noisy]), settings.impair, shift=shift, label="UNSIR, impair")
        return task.train_on(model, retain, y[retain], settings.repair, label="UNSIR, repair", purpose="repair order")


def replace_images(alone: Float[Tensor, "m C H W"], start: int) -> Callable:
    r"""A ``shift`` for `megu.methods.task.Task.train_on`: positions from ``start`` on have an image of their own.

    Args: alone: normalised, e.g. noise that is trained on without an image.
    """

    def shift(x, position):
        return torch.where((position >= start)[:, None, None, None], alone[(position - start).clamp(min=0)], x)

    return shift
