r"""MeGU: guided perturbing labels, a positive-negative noise pair, a short fine-tuning (Algorithm 1 and section
4.2)."""

import torch

from megu.core.models import copy_of
from megu.core.train import predict
from megu.noise_pair import NoisePair, added, instead, noise_pair
from megu.perturbing_labels import perturbing_labels
from megu.settings.config import Labels, Noise, Part, Recipe


class MeguSettings(Part):
    """Labels (A2, A3, A12), noise pair (A6-A10) and fine-tuning recipe (A11)."""

    labels: Labels = Labels()
    noise: Noise = Noise()
    recipe: Recipe = Recipe(epochs=3, lr=0.015)


def unlearn(task, settings):
    r"""Forget by guided labels on disentangled images.

    $\theta' = \arg\min_\theta \sum_{x_i \in D_f} \mathrm{CE}(f_\theta(x_i + a N_{pos} + b N_{neg}), y^{perturb}_i)
    + \sum_{(x, y) \subset D_r} \mathrm{CE}(f_\theta(x), y)$, started at the original's weights.

    Args:
        task: `megu.methods.task.Task` with a transition matrix.
        settings: `MeguSettings`.
    Returns: a new model in eval mode.
    Source: arXiv 2602.17088 Algorithm 1, eq. 7-12.  Departs: A2-A4, A6-A11 of the assumption log.
    """
    forget, retain, y = task.split.forget, task.retain_sample(), task.images.y
    with task.clock("labels"):
        y_perturb = choose_labels(task, settings)
    index, labels, shift = torch.cat([forget, retain]), torch.cat([y_perturb, y[retain]]), None
    if settings.noise.kind != "none":
        with task.clock("noise"):
            pair = make_noise(task, settings, y_perturb)
            index, labels, shift = perturbed(index, labels, y[forget], pair, settings.noise)
    with task.clock("fine-tuning"):
        return task.train_on(copy_of(task.original), index, labels, settings.recipe, shift=shift, label="MeGU")


def choose_labels(task, settings):
    r"""Perturbing label of each forget image, ``(n,)`` int64.  Source: arXiv 2602.17088 eq. 7-8.  Departs: A2-A4."""
    forget, labels = task.split.forget, settings.labels
    posterior = predict(task.original, task.images, forget).softmax(1)
    return perturbing_labels(
        task.transition,
        posterior,
        task.images.y[forget],
        tau=labels.tau,
        choice=labels.choice,
        gen=task.generator("labels"),
        exclude=task.forgotten if labels.exclude_forgotten else (),
        own=bool(task.forgotten) and not labels.exclude_forgotten,
    )


def make_noise(task, settings, y_perturb):
    r"""The `megu.noise_pair.NoisePair` of the forget images.  Source: arXiv 2602.17088 eq. 9-10."""
    forget = task.split.forget
    return noise_pair(
        task.original,
        task.images.batch(forget),
        task.images.y[forget],
        y_perturb,
        settings.noise,
        task.generator("noise"),
    )


def perturbed(index, labels, y, pair, noise):
    r"""How the noise pair enters the fine-tuning: added to the forget images, or as items of its own (A9).

    Args:
        index, labels: ``(n + r,)`` int64, the n forget images first.
        y: ``(n,)`` int64, the labels to be forgotten.
        pair: `megu.noise_pair.NoisePair` of n.
        noise: `megu.settings.config.Noise`.
    Returns: (index, labels, shift) for `megu.methods.task.Task.train_on`; with ``combine="separate"`` the positive
        noise (unless kind is neg) is n more items labelled as perturbed, the negative one (unless kind is pos) n more
        items labelled y, as UNSIR keeps
        the forget label; the weights play no part then.
    """
    n, total = len(y), len(index)
    if noise.combine == "separate":
        items = [(pair.pos, labels[:n])] * (noise.kind != "neg") + [(pair.neg, y)] * (noise.kind != "pos")
        alone = torch.cat([image for image, _ in items])
        return (
            torch.cat([index] + [index[:n]] * len(items)),
            torch.cat([labels, *(label for _, label in items)]),
            instead(alone, total),
        )

    def add(x, position):
        own = position.clamp(max=n - 1)
        return torch.where(
            (position < n)[:, None, None, None], added(x, NoisePair(pair.pos[own], pair.neg[own]), noise), x
        )

    return index, labels, add
