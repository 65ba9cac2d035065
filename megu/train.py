r"""The only training loop: pre-training, retraining, fine-tuning and unlearning are calls of it."""

import math

import torch
from torch.nn import functional as F
from tqdm import tqdm


def optimiser(model, recipe, steps_per_epoch):
    r"""Optimiser and learning-rate schedule of a recipe.

    Args:
        model: ``nn.Module``.
        recipe: `megu.config.Recipe`.
        steps_per_epoch: number of batches.
    Returns: (optimiser, scheduler stepped once a batch).
    """
    weights = [p for p in model.parameters() if p.requires_grad]
    if recipe.optimiser == "adam":
        opt = torch.optim.Adam(weights, recipe.lr, weight_decay=recipe.weight_decay)
    else:
        opt = torch.optim.SGD(weights, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov and recipe.momentum > 0)
    if recipe.schedule == "onecycle":
        total = recipe.epochs * steps_per_epoch
        return opt, torch.optim.lr_scheduler.OneCycleLR(opt, recipe.lr, total_steps=total, pct_start=0.25, cycle_momentum=False)
    warm = recipe.warmup_epochs * steps_per_epoch

    def factor(step):
        drops = sum(step >= epoch * steps_per_epoch for epoch in recipe.milestones) if recipe.schedule == "multistep" else 0
        return min(1.0, (step + 1) / warm) * recipe.gamma**drops if warm else recipe.gamma**drops

    return opt, torch.optim.lr_scheduler.LambdaLR(opt, factor)


def fit(model, batch, count, recipe, gen, compute, *, loss=F.cross_entropy, after=None, label="training"):
    r"""Train a model in place; it is left in eval mode.

    Args:
        model: ``nn.Module``, images to logits.
        batch: function of positions ``(b,)`` int64 in [0, count); gives (images ``(b, C, H, W)`` float, labels ``(b, ...)`` as ``loss`` takes them).
        count: number of training items; each epoch visits a fresh permutation, all batches of equal size up to one.
        recipe: `megu.config.Recipe`.
        gen: CPU generator for the permutations.
        compute: `megu.device.Compute`.
        loss: function of (logits float32, labels), mean over the batch.
        after: function of the model, called after every step, or None.
        label: text of the progress bar.
    Returns: mean loss of each epoch, list of float.
    Raises: ValueError for ``count`` 0, FloatingPointError where the loss is no number any more.
    """
    if count < 1:
        raise ValueError(f"{label}: there are {count} items to train on")
    batches = max(1, round(count / recipe.batch))
    model.to(compute.device).train()
    opt, schedule = optimiser(model, recipe, batches)
    history = []
    with tqdm(total=recipe.epochs * batches, desc=label, unit="batch", leave=False) as bar:
        for epoch in range(recipe.epochs):
            total = torch.zeros((), device=compute.device)
            for index in torch.randperm(count, generator=gen).tensor_split(batches):
                x, y = batch(index)
                with compute.cast():
                    logits = model(x.contiguous(memory_format=torch.channels_last))
                value = loss(logits.float(), y)
                opt.zero_grad(set_to_none=True)
                value.backward()
                opt.step()
                schedule.step()
                if after is not None:
                    after(model)
                total += value.detach() * (len(index) / count)
                bar.update()
            history.append(total.item())
            if not math.isfinite(history[-1]):
                raise FloatingPointError(f"{label}: the loss is {history[-1]} in epoch {epoch + 1}; try a smaller learning rate than {recipe.lr:g}")
            bar.set_postfix(loss=f"{history[-1]:.3f}")
    model.eval()
    return history


@torch.no_grad()
def predict(model, images, index, *, batch=500):
    r"""Logits of images, in eval mode and float32, without augmentation.

    Args:
        model: ``nn.Module``; its mode is restored afterwards.
        images: `megu.data.Images`.
        index: ``(n,)`` int64 into the pool.
    Returns: ``(n, K)`` float32 on the images' device.
    """
    training = model.training
    model.eval()
    parts = [model(images.batch(part).contiguous(memory_format=torch.channels_last)) for part in index.split(batch)]
    model.train(training)
    return torch.cat(parts).float() if parts else torch.empty(0, images.num_classes, device=images.x.device)
