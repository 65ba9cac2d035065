r"""The only training loop, from pre-training to unlearning."""

from collections.abc import Callable
from copy import deepcopy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from megu.core.device import Compute, compile_errors, forward, in_batches, too_big
from megu.settings.config import Recipe
from megu.settings.errors import MeguError, SettingsError
from megu.settings.progress import Bar

EXPLODED = 1e4  # nats: no classifier that still learns is so wrong


class DivergedError(MeguError, FloatingPointError):
    """A training ran away; ``last_good`` is the model after the last sound epoch."""

    def __init__(self, message, last_good=None):
        super().__init__(message)
        self.last_good = last_good


def optimiser(model: nn.Module, recipe: Recipe, steps_per_epoch: int):
    r"""(Optimiser, scheduler stepped once a batch) of a recipe."""
    weights = [p for p in model.parameters() if p.requires_grad]
    if recipe.optimiser == "adam":
        opt = torch.optim.Adam(weights, recipe.lr, weight_decay=recipe.weight_decay)
    else:
        how = {"weight_decay": recipe.weight_decay, "nesterov": recipe.nesterov and recipe.momentum > 0}
        opt = torch.optim.SGD(weights, recipe.lr, recipe.momentum, **how)
    if recipe.schedule == "onecycle":
        total = recipe.epochs * steps_per_epoch
        rise = 0.3 if total == 4 else 0.25  # a quarter of 4 steps: torch divides by 0
        how = {"total_steps": total, "pct_start": rise, "cycle_momentum": False}
        return opt, torch.optim.lr_scheduler.OneCycleLR(opt, recipe.lr, **how)
    warm = recipe.warmup_epochs * steps_per_epoch
    milestones = recipe.milestones if recipe.schedule == "multistep" else ()

    def factor(step):
        drops = sum(step >= epoch * steps_per_epoch for epoch in milestones)
        return (min(1.0, (step + 1) / warm) if warm else 1.0) * recipe.gamma**drops

    return opt, torch.optim.lr_scheduler.LambdaLR(opt, factor)


def fit(
    model: nn.Module,
    batch: Callable,
    count: int,
    recipe: Recipe,
    gen: torch.Generator,
    compute: Compute,
    *,
    loss: Callable = F.cross_entropy,
    after: Callable | None = None,
    label: str = "training",
    moments: dict | None = None,
) -> list[float]:
    r"""Train a model in place; it ends in eval mode.

    Args:
        batch: function of positions ``(b,)`` int64 to (images ``(b, C, H, W)`` float, labels ``(b, ...)``).
        count: of items; each epoch is a permutation by ``gen``, in the recipe's batches.
        loss: function of (logits float32, labels), mean over the batch.
        after: function of the model after every step.
        moments: what the optimiser keeps of each weight, taken over from earlier trainings of this model and left to
            later ones; None starts afresh.
    Returns: mean loss of each epoch.
    Raises: ValueError for ``count`` 0, DivergedError where the loss explodes or weights are no numbers any more,
        SettingsError where the model cannot be compiled, or one image or the optimiser does not fit into memory.

    A batch that does not fit into memory is summed over parts: the same up to rounding, but for dropout, drawn anew,
    and batch statistics, those of the parts and of the failed attempt.
    """
    if count < 1:
        raise ValueError(f"{label}: there are {count} items to train on")
    sizes, team = recipe.batches(count), compute.team
    batches = len(sizes)
    if min(sizes) < team.size:
        what = f"{label}: a batch of {min(sizes)} images cannot be shared by {team.size} processes"
        raise SettingsError(f"{what}: use fewer, or a larger batch")
    model.to(compute.device).train()
    opt, schedule = optimiser(model, recipe, batches)
    opt.state.update(moments or {})
    history, parts, good, step = [], 1, deepcopy(model.state_dict()), forward(model, compute)

    def summed(x, y):
        value = 0.0
        for part, wanted in zip(team.share(x).tensor_split(parts), team.share(y).tensor_split(parts), strict=True):
            with compute.cast():
                logits = step(part.contiguous(memory_format=torch.channels_last))
            share = loss(logits.float(), wanted) * team.weight(len(part), len(x))
            share.backward()
            value += share.detach()
        return value

    def gradient(index):
        nonlocal parts
        drawn, made = gen.get_state(), None
        while True:
            try:
                opt.zero_grad(set_to_none=True)  # leaves its room to the batch
                made = made or batch(index)
                return summed(*made)
            except torch.OutOfMemoryError:  # its memory is freed when this block ends
                if made is None:
                    gen.set_state(drawn)  # the next attempt augments in the same way
            except compile_errors() as error:
                why = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
                what = f"{label}: {type(model).__name__} cannot be compiled here ({why})"
                raise SettingsError(f"{what}: set compile to False") from error
            if team.size > 1 or (made is None and parts == len(index)):  # a team shares gradients of the same parts
                what = f"{label}: {len(index)} images do not fit into the memory of {team.size} devices"
                raise SettingsError(f"{what}: use more, or a smaller batch")
            parts = too_big(parts, len(index), label)

    with Bar(total=recipe.epochs * batches, desc=label, unit="batch") as bar:
        for epoch in range(recipe.epochs):
            total = torch.zeros((), device=compute.device)
            for index in torch.randperm(count, generator=gen).split(sizes):
                value = gradient(index)
                try:
                    opt.step()
                except torch.OutOfMemoryError:  # some weights may have moved
                    what = f"{label}: what {type(opt).__name__} keeps of each weight"
                    raise SettingsError(f"{what} does not fit into the device's memory: use device cpu") from None
                schedule.step()
                if after is not None:
                    after(model)
                total += value * (len(index) / count)
                bar.update()
            history.append(team.mean(total).item())
            if not abs(history[-1]) < EXPLODED or not all(p.isfinite().all() for p in model.parameters()):
                model.load_state_dict(good)
                what = f"{label}: the loss is {history[-1]:.3g} in epoch {epoch + 1}"
                raise DivergedError(f"{what}; try a smaller learning rate than {recipe.lr:g}", model.eval())
            good = deepcopy(model.state_dict())
            bar.epoch(epoch + 1, loss=history[-1])
    if moments is not None:
        moments.update(opt.state)
    team.left()
    model.eval()
    return history


@torch.no_grad()
def predict(model: nn.Module, images, index: Int[Tensor, " n"], *, batch: int = 500) -> Float[Tensor, "n K"]:
    r"""Logits of images in eval mode and float32; the model's mode is restored."""
    training = model.training
    model.eval()

    def look(part):
        return model(images.batch(part).contiguous(memory_format=torch.channels_last))

    parts = in_batches(look, index, batch, "prediction")
    model.train(training)
    return torch.cat(parts).float() if parts else torch.empty(0, images.num_classes, device=images.x.device)
