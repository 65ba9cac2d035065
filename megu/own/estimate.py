r"""What a checked request will do, line by line, and how long it may take, from a few steps that are measured."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from megu import methods
from megu.core import models
from megu.core.device import Stopwatch, generator, seeded, too_big
from megu.own.request import collect_notices

_AT_ONCE = 64  # images that are measured


@dataclass(frozen=True)
class Estimate:
    """What will be done, line by line, and how many seconds it may take without the guide's."""

    lines: tuple[str, ...]
    seconds: float


def estimate(checked) -> Estimate:
    r"""The `Estimate` of a `megu.own.request.CheckedRequest`; a few training steps and one prediction are measured on a
    copy."""
    images, split, settings, parameters = checked.images, checked.forget.split, checked.settings, checked.parameters
    recipe, method = getattr(parameters, "recipe", None), methods.method(checked.request.method)
    forget, retain, tested = len(split.forget), len(split.retain), len(images.y) - images.num_train
    used = min(settings.retain_images, retain)
    count = min(recipe.batch if recipe else _AT_ONCE, forget + used, _AT_ONCE)
    with collect_notices(checked.notices):
        step, look = seconds_per_image(checked.original, images, split.train[:count], checked.compute)
    visits = (forget + used) * (recipe.epochs if recipe else 1)
    visits += getattr(getattr(parameters, "noise", None), "steps", 0) * 2 * min(images.num_classes, forget)
    seconds = step * visits + look * 4 * (min(retain, 5000) + forget + tested)
    weights = sum(p.numel() for p in checked.original.parameters())
    title, guide = method.title, "none: this method asks none"
    if recipe:
        title += f", {recipe.epochs} epochs of batches of {recipe.batch}, learning rate {recipe.lr:g}"
    if method.guided:
        exemplars = "" if checked.guide.matrix is not None else f", {settings.guide.exemplars} exemplars of each class"
        guide = checked.guide.source + exemplars
    lines = {
        "forget": f"{checked.forget.scenario}: {', '.join(checked.forget.names) or 'single images'}, {forget} of"
        f" {images.num_train} training images",
        "retain": f"{retain} images, {used} of them to fine-tune on; {tested} test images",
        "model": f"{type(checked.original).__name__}, {weights:,} weights, {images.num_classes} classes, images"
        f" {'x'.join(map(str, images.shape))}; names {100 * checked.accuracy:.0f} % of a sample of the training images"
        " right",
        "method": title,
        "guide": guide,
        "time": f"about {_readable(seconds)} on {checked.compute.device.type}, from {count} images measured; the"
        " guide's time is not in it",
    }
    return Estimate(tuple(f"{name:8} {line}" for name, line in lines.items()), seconds)


def _readable(seconds):
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def seconds_per_image(original, images, index, compute):
    r"""(seconds of a training step, of a prediction), per image, on a copy; the first of three steps is not counted."""
    model, x, y, seconds = models.copy_of(original).train(), images.batch(index), images.y[index], []
    try:
        for _ in range(3):
            clock = Stopwatch()
            # Dropout draws from the global generator.
            with clock("step"), compute.cast(), seeded(generator(0, "plan")):
                F.cross_entropy(model(x).float(), y).backward()
            seconds.append(clock.total)
        with clock("look"), torch.no_grad():
            model.eval()(x)
        return min(seconds[1:]) / len(index), clock.seconds["look"] / len(index)
    except torch.OutOfMemoryError:
        pass  # what the failed attempt holds is freed when this block ends
    too_big(1, len(index), "plan")
    return seconds_per_image(original, images, index[: len(index) // 2], compute)
