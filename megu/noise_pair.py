r"""The positive-negative noise pair (eq. 9-10): inputs optimised against a model that is not touched."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from megu.core.device import in_batches
from megu.core.models import frozen

AT_ONCE = 256  # noises in memory at a time, fewer where the device holds fewer


@dataclass(frozen=True)
class NoisePair:
    r"""Noise for each forget image, in the normalised input space.

    Attributes:
        pos: ``(n, C, H, W)`` float: what the model takes for the perturbing label.
        neg: ``(n, C, H, W)`` float: what it takes for anything but the forgotten label.
    """

    pos: torch.Tensor
    neg: torch.Tensor


def optimise_noise(model, labels, shape, sign, noise, gen, around=None):
    r"""Inputs that the model assigns to ``labels`` (sign +1) or to anything else (sign -1).

    $N = \arg\min_N \pm\mathrm{CE}(f(x_0 + N), y) + \lambda\lVert N\rVert^2$, from standard normal noise by Adam; $x_0 =
    0$ unless given.

    Args:
        model: images to logits; a frozen copy in eval mode is used, so weights and batch statistics stay as they are.
        labels: ``(m,)`` int64.
        shape: (C, H, W) of one image.
        sign: +1 or -1.
        noise: `megu.settings.config.Noise`; lam, steps and lr are used.
        gen: CPU generator of the start.
        around: ``(m, C, H, W)`` float or None, the $x_0$.
    Returns: ``(m, C, H, W)`` float on the device of ``labels``.
    Source: arXiv 2602.17088 eq. 9-10; norm, steps and rate from UNSIR (Tarun et al. 2023).  Departs: A6, A8; losses are
        summed, so one noise does not depend on how many others are optimised beside it.
    """
    model = frozen(model)
    start = torch.randn(len(labels), *shape, generator=gen)

    def optimised(part):
        n = start[part].to(labels.device).requires_grad_()
        part = part.to(labels.device)
        y, base = labels[part], 0.0 if around is None else around[part]
        opt = torch.optim.Adam([n], noise.lr)
        for _ in range(noise.steps):
            logits = model((base + n).contiguous(memory_format=torch.channels_last))
            loss = sign * F.cross_entropy(logits, y, reduction="sum") + noise.lam * n.square().sum()
            opt.zero_grad()
            loss.backward()
            opt.step()
        return n.detach()

    return torch.cat(in_batches(optimised, torch.arange(len(labels)), AT_ONCE, "noise"))


def noise_pair(model, x, y, y_perturb, noise, gen):
    r"""The noise pair of every forget image.

    $N_{pos} = \arg\min_N \mathrm{CE}(f(N), y_{perturb}) + \lambda\lVert N\rVert$,
    $N_{neg} = \arg\min_N -\mathrm{CE}(f(N), y) + \lambda\lVert N\rVert$.

    Args:
        model: the original classifier.
        x: ``(n, C, H, W)`` float, forget images, normalised.
        y: ``(n,)`` int64, labels to be forgotten.
        y_perturb: ``(n,)`` int64.
        noise: `megu.settings.config.Noise`; ``per="class"`` (A7) computes one noise for each label and shares it among
            its images; ``around="image"`` (A8) optimises image + noise; ``kind="random"`` is the control: noise of the
            same norm without meaning.
        gen: CPU generator.
    Returns: `NoisePair`.
    Source: arXiv 2602.17088 eq. 9-10.  Departs: A6, A7, A8 of the assumption log.
    """

    def one(labels, sign):
        if noise.per == "image":
            found = optimise_noise(model, labels, x.shape[1:], sign, noise, gen, x if noise.around == "image" else None)
            return shuffled_pixels(found, gen) if noise.kind == "random" else found
        distinct, where = labels.unique(return_inverse=True)
        found = optimise_noise(model, distinct, x.shape[1:], sign, noise, gen)
        return (shuffled_pixels(found, gen) if noise.kind == "random" else found)[where]

    return NoisePair(one(y_perturb, +1), one(y, -1))


def shuffled_pixels(n, gen):
    r"""The same values at random places: equal norm, no meaning.  ``(m, C, H, W)`` to ``(m, C, H, W)``."""
    flat = n.flatten(1)
    order = torch.rand(flat.shape, generator=gen).argsort(1).to(n.device)
    return flat.gather(1, order).view_as(n)


def added(x, pair, noise):
    r"""The perturbed forget images: the weighted pair joined to them.

    ``combine="add"`` (A9): $x + a N_{pos} + b N_{neg}$; ``mix``: $(1 - a - b)\,x + a N_{pos} + b N_{neg}$.

    Args:
        x: ``(n, C, H, W)`` float, normalised.
        pair: `NoisePair` of the same shape.
        noise: `megu.settings.config.Noise`: a = weight_pos unless kind is neg, b = weight_neg unless kind is pos; both
            0 for kind none.
    Returns: ``(n, C, H, W)`` float.
    Source: arXiv 2602.17088 section 4.2, eq. 12.  Departs: A9, A10.
    """
    a = noise.weight_pos if noise.kind in ("both", "pos", "random") else 0.0
    b = noise.weight_neg if noise.kind in ("both", "neg", "random") else 0.0
    keep = 1 - a - b if noise.combine == "mix" else 1.0
    return keep * x + a * pair.pos + b * pair.neg


def instead(alone, start):
    r"""Images of their own behind the images of the pool: a ``shift`` for `megu.methods.task.Task.train_on`.

    Args:
        alone: ``(m, C, H, W)`` float, normalised, e.g. noise that is trained on without an image.
        start: position of the first of them; positions below it keep their image.
    Returns: function of (images, positions) to images.
    """

    def shift(x, position):
        return torch.where((position >= start)[:, None, None, None], alone[(position - start).clamp(min=0)], x)

    return shift
