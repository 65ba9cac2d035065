r"""The positive-negative noise pair (eq. 9-11): inputs optimised against a model that is not touched, and their sum."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from megu.core.device import in_batches
from megu.core.models import frozen
from megu.settings.config import Noise
from megu.settings.progress import Bar

AT_ONCE = 256  # noises in memory at a time, fewer where the device holds fewer


@dataclass(frozen=True)
class NoisePair:
    r"""Noise for each forget image, in the normalised input space.

    Attributes:
        pos: what the model takes for the perturbing label.  neg: what it takes for anything but the forgotten label.
    """

    pos: Float[Tensor, "n C H W"]
    neg: Float[Tensor, "n C H W"]


def optimise_noise(
    model: nn.Module,
    labels: Int[Tensor, " m"],
    shape: tuple[int, ...],
    sign: int,
    noise: Noise,
    gen: Generator,
    around: Float[Tensor, "m C H W"] | None = None,
) -> Float[Tensor, "m C H W"]:
    r"""Inputs that the model assigns to ``labels`` (sign +1, eq. 9) or to anything else (sign -1, eq. 10).

    $N = \arg\min_N \pm\mathrm{CE}(f(x_0 + N), y) + \lambda\lVert N\rVert^2$, from standard normal noise by Adam; $x_0 =
    0$ unless given.

    Args:
        model: images to logits; a frozen copy is used, so weights and batch statistics stay as they are.
        shape: (C, H, W) of one image.  sign: +1 or -1.
        noise: its lam, steps, lr and mode.  gen: CPU generator of the start.  around: the $x_0$.
    Source: arXiv 2602.17088 eq. 9-10; norm, steps and rate from UNSIR (Tarun et al. 2023).  Departs: A6, A8; losses are
        summed, so one noise does not depend on how many others are optimised beside it, but for ``mode="train"`` (A14,
        UNSIR's code), where batch normalisation takes the statistics of these noises.
    """
    model = frozen(model)
    for layer in model.modules() if noise.mode == "train" else ():
        layer.train(isinstance(layer, _BatchNorm))  # dropout stays off: it would draw from the global generator
    start = torch.randn(len(labels), *shape, generator=gen)

    def optimised(part):
        n = start[part].to(labels.device).requires_grad_()
        part = part.to(labels.device)
        y, base = labels[part], 0.0 if around is None else around[part]
        opt = torch.optim.Adam([n], noise.lr)
        for _ in Bar(range(noise.steps), desc="noise", unit="step"):
            logits = model((base + n).contiguous(memory_format=torch.channels_last))
            loss = sign * F.cross_entropy(logits, y, reduction="sum") + noise.lam * n.square().sum()
            opt.zero_grad()
            loss.backward()
            opt.step()
        return n.detach()

    return torch.cat(in_batches(optimised, torch.arange(len(labels)), AT_ONCE, "noises", noise.mode == "eval"))


def noise_pair(
    model: nn.Module,
    x: Float[Tensor, "n C H W"],
    y: Int[Tensor, " n"],
    y_perturb: Int[Tensor, " n"],
    noise: Noise,
    gen: Generator,
) -> NoisePair:
    r"""The noise pair of every forget image (eq. 9-10).

    $N_{pos} = \arg\min_N \mathrm{CE}(f(N), y_{perturb}) + \lambda\lVert N\rVert^2$,
    $N_{neg} = \arg\min_N -\mathrm{CE}(f(N), y) + \lambda\lVert N\rVert^2$.

    Args:
        x: forget images, normalised.  y: labels to be forgotten.
        noise: ``per="class"`` (A7) computes one noise for each label and shares it among its images;
            ``around="image"`` (A8) optimises image + noise; ``kind="random"`` is the control: noise of the same norm
            without meaning.
    Source: arXiv 2602.17088 eq. 9-10.  Departs: A6 (the paper writes the norm, not its square), A7, A8.
    """

    def one(labels, sign):
        distinct, where = labels.unique(return_inverse=True) if noise.per == "class" else (labels, slice(None))
        around = x if noise.around == "image" else None
        out = optimise_noise(model, distinct, tuple(x.shape[1:]), sign, noise, gen, around)
        return (shuffled_pixels(out, gen) if noise.kind == "random" else out)[where]

    return NoisePair(one(y_perturb, +1), one(y, -1))


def shuffled_pixels(n: Float[Tensor, "m C H W"], gen: Generator) -> Float[Tensor, "m C H W"]:
    r"""The same values at random places: equal norm, no meaning."""
    flat = n.flatten(1)
    order = torch.rand(flat.shape, generator=gen).argsort(1).to(n.device)
    return flat.gather(1, order).view_as(n)


def add_noise_pair(x: Float[Tensor, "n C H W"], pair: NoisePair, noise: Noise) -> Float[Tensor, "n C H W"]:
    r"""The perturbed forget images: the weighted pair joined to them (eq. 11).

    $x_i + N_i$, $N_i = s\,(\alpha N_{pos,i} + (1 - \alpha) N_{neg,i})$ with $\alpha$ = alpha and s = scale; the paper:
    $\alpha = 0.7$, s = 1.  ``combine="mix"``, a control: the image keeps what the weights leave of 1.

    Args: noise: its ``weights``, without what its kind leaves out.
    Source: arXiv 2602.17088 eq. 11.  Departs: A9 for ``mix``; A10, A15: weights (0.39, 1.5), searched on Fashion.
    """
    a, b = noise.weights
    keep = 1 - a - b if noise.combine == "mix" else 1.0
    return keep * x + a * pair.pos + b * pair.neg
