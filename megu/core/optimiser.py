r"""How the steps of a training move the weights: rates, schedules, averages."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from megu.settings.config import Recipe
from megu.settings.errors import SettingsError


def optimiser(model: nn.Module, recipe: Recipe, steps_per_epoch: int):
    r"""(Optimiser, scheduler stepped once a batch) of a recipe."""
    opt, total = _optimiser(_groups(model, recipe), recipe), recipe.epochs * steps_per_epoch
    if recipe.schedule == "onecycle":
        rise = 0.3 if total == 4 else 0.25  # a quarter of 4 steps: torch divides by 0
        how = {"total_steps": total, "pct_start": rise, "cycle_momentum": False}
        return opt, torch.optim.lr_scheduler.OneCycleLR(opt, [group["lr"] for group in opt.param_groups], **how)
    warm = recipe.warmup_epochs * steps_per_epoch
    milestones = recipe.milestones if recipe.schedule == "multistep" else ()

    def factor(step):
        if recipe.schedule == "triangular":
            return _triangle(step / total)
        drops = sum(step >= epoch * steps_per_epoch for epoch in milestones)
        return (min(1.0, (step + 1) / warm) if warm else 1.0) * recipe.gamma**drops

    return opt, torch.optim.lr_scheduler.LambdaLR(opt, factor)


def _groups(model, recipe):
    weights = [p for p in model.parameters() if p.requires_grad]
    usual = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.norm_bias_lr == 1:
        return [{"params": weights, **usual}]
    norms = {id(m.bias) for m in model.modules() if isinstance(m, _BatchNorm)}
    biases = [p for p in weights if id(p) in norms]
    # Their decay is as strong in each step as that of the others.
    own = {"lr": recipe.lr * recipe.norm_bias_lr, "weight_decay": recipe.weight_decay / recipe.norm_bias_lr}
    others = {"params": [p for p in weights if id(p) not in norms], **usual}
    return [others, {"params": biases, **own}] if biases else [others]


def _optimiser(groups, recipe):
    if recipe.optimiser == "adam":
        return torch.optim.Adam(groups, recipe.lr)
    return torch.optim.SGD(groups, recipe.lr, recipe.momentum, nesterov=recipe.nesterov and recipe.momentum > 0)


def _triangle(done):
    # From 0.2 to 1 at 23 % of the steps, then to 0.07.  Source: Jordan 2024, arXiv 2404.00498.
    return 0.2 + 0.8 * done / 0.23 if done < 0.23 else 1 - 0.93 * (done - 0.23) / 0.77


@torch.no_grad()
def look_ahead(slow: dict, fast: dict, every: int, step: int, total: int) -> None:
    r"""$\phi \leftarrow d\,\phi + (1 - d)\,\theta$ and $\theta \leftarrow \phi$ after each ``every``-th step,
    $d = 0.95^{every} (step / total)^3$; after the last one $\theta \leftarrow \phi$ in any case.

    Args: slow, fast: $\phi$ and $\theta$ by name, weights and batch statistics, changed in place.
    Source: Zhang et al. 2019, arXiv 1907.08610; the rising d is that of Jordan 2024, arXiv 2404.00498.
    """
    if step % every and step < total:
        return
    for name, average in slow.items():
        if average.is_floating_point():
            if step % every == 0:
                average.lerp_(fast[name], 1 - 0.95**every * (step / total) ** 3)
            fast[name].copy_(average)


def smoothed(loss: Callable, recipe: Recipe, label: str) -> Callable:
    r"""``loss`` with the recipe's label smoothing.  Raises: SettingsError where it is no cross-entropy."""
    if not recipe.label_smoothing:
        return loss
    if loss is not F.cross_entropy:
        raise SettingsError(f"{label} has a loss of its own: set label_smoothing of its recipe to 0")
    return lambda logits, y: F.cross_entropy(logits, y, label_smoothing=recipe.label_smoothing)
