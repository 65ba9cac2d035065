r"""MeGU: guided perturbing labels, a positive-negative noise pair, a short fine-tuning (Algorithm 1 and section 4.2)."""

import torch

from megu.config import Labels, Noise, Part, Recipe
from megu.models import copy_of
from megu.noise import added, noise_pair
from megu.train import predict
from megu.transition import perturbing_labels


class MeguSettings(Part):
    """Labels (A2, A3, A12), noise pair (A6-A10) and fine-tuning recipe (A11)."""

    labels: Labels = Labels()
    noise: Noise = Noise()
    recipe: Recipe = Recipe(epochs=3, lr=0.02)


def unlearn(task, settings):
    r"""Forget by guided labels on disentangled images.

    $\theta' = \arg\min_\theta \sum_{x_i \in D_f} \mathrm{CE}(f_\theta(x_i + a N_{pos} + b N_{neg}), y^{perturb}_i)
    + \sum_{(x, y) \subset D_r} \mathrm{CE}(f_\theta(x), y)$, started at the original's weights.

    Args:
        task: `megu.task.Task` with a transition matrix.
        settings: `MeguSettings`.
    Returns: a new model in eval mode.
    Source: arXiv 2602.17088 Algorithm 1, eq. 7-12.  Departs: A2-A4, A6-A11 of the assumption log.
    """
    images, forget, retain = task.images, task.split.forget, task.retain_sample()
    y = images.y[forget]

    with task.clock("labels"):  # eq. 7-8
        posterior = predict(task.original, images, forget).softmax(1)
        exclude = task.forgotten if settings.labels.exclude_forgotten else ()
        y_perturb = perturbing_labels(
            task.transition, posterior, y, exclude=exclude, tau=settings.labels.tau,
            choice=settings.labels.choice, gen=task.generator("labels"),
        )  # fmt: skip

    index, labels, shift = torch.cat([forget, retain]), torch.cat([y_perturb, images.y[retain]]), None
    if settings.noise.kind != "none":
        with task.clock("noise"):  # eq. 9-10
            pair = noise_pair(task.original, images.batch(forget), y, y_perturb, settings.noise, task.generator("noise"))
            index, labels, shift = perturbed(index, labels, y, pair, settings.noise)

    with task.clock("fine-tuning"):  # eq. 11-12
        return task.train_on(copy_of(task.original), index, labels, settings.recipe, shift=shift, label="MeGU")


def perturbed(index, labels, y, pair, noise):
    r"""How the noise pair enters the fine-tuning: added to the forget images, or as items of its own (A9).

    Args:
        index, labels: ``(n + r,)`` int64, the n forget images first.
        y: ``(n,)`` int64, the labels to be forgotten.
        pair: `megu.noise.NoisePair` of n.
        noise: `megu.config.Noise`.
    Returns: (index, labels, shift) for `megu.task.Task.train_on`; with ``combine="separate"`` the positive noise is n more
        items labelled as perturbed, the negative one n more items labelled y, as UNSIR keeps the forget label.
    """
    n = len(y)
    if noise.combine != "separate":

        def shift(x, position):
            is_forget = position < n
            where = position.clamp(max=n - 1)
            with_noise = added(x, type(pair)(pair.pos[where], pair.neg[where]), noise)
            return torch.where(is_forget[:, None, None, None], with_noise, x)

        return index, labels, shift

    total = len(index)
    alone = torch.cat([pair.pos, pair.neg])

    def replace(x, position):
        is_noise = position >= total
        return torch.where(is_noise[:, None, None, None], alone[(position - total).clamp(min=0)], x)

    return torch.cat([index, index[:n], index[:n]]), torch.cat([labels, labels[:n], y]), replace
