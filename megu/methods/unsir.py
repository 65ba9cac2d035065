r"""UNSIR: error-maximising noise keeps the forgotten label (impair), then retain images alone (repair)."""

import torch

from megu.core.models import copy_of
from megu.noise_pair import instead, optimise_noise
from megu.settings.config import Count, Noise, Part, Recipe

_RATES = {"optimiser": "adam", "schedule": "constant", "weight_decay": 0.0, "batch": 256, "epochs": 1}


class UnsirSettings(Part):
    """Noise images of each label, how many copies of them are trained on, and the two short trainings."""

    noises: Count = 32
    copies: Count = 20
    noise: Noise = Noise(lam=0.1, steps=40, lr=0.1)
    impair: Recipe = Recipe(lr=0.0024, **_RATES)
    repair: Recipe = Recipe(lr=0.00078, **_RATES)


def unlearn(task, settings):
    r"""Impair on error-maximising noise under the forgotten labels beside retain images, then repair on retain images.

    $N = \arg\min_N -\mathrm{CE}(f(N), y) + \lambda\lVert N\rVert^2$ for each forgotten label y.
    Source: Tarun et al. 2023, arXiv 2111.08947: impair 0.02, repair 0.01.  The entry ``unsir-ssd`` has the setting of
        the SSD code.
    Departs: the frozen model in eval mode learns the noise; every noise image is used (public code: the first three,
        all under label 0); the retain sample is MeGU's.
    """
    retain, y = task.retain_sample(), task.images.y
    labels = y[task.split.forget].unique().repeat_interleave(settings.noises)
    with task.clock("noise"):
        found = optimise_noise(task.original, labels, task.images.shape, -1, settings.noise, task.generator("noise"))
    noisy = labels.repeat(settings.copies)
    index = torch.cat([retain, retain[:1].expand(len(noisy))])
    with task.clock("fine-tuning"):
        model = copy_of(task.original)
        shift = instead(found.repeat(settings.copies, 1, 1, 1), len(retain))
        task.train_on(model, index, torch.cat([y[retain], noisy]), settings.impair, shift=shift, label="UNSIR, impair")
        return task.train_on(model, retain, y[retain], settings.repair, label="UNSIR, repair", purpose="repair order")
