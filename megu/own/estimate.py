"""What a request will do, and how long it may take by a few measured steps."""

import torch
from torch.nn import functional as F

from megu.core import models
from megu.core.device import Stopwatch, generator, in_batches, seeded
from megu.own.request import collect_notices


def estimate(checked) -> str:
    """Lines of text on a `megu.own.request.CheckedRequest`."""
    images, split, settings, parameters = checked.images, checked.split, checked.settings, checked.parameters
    recipe, noise, asked = getattr(parameters, "recipe", None), getattr(parameters, "noise", None), settings.forget
    forget, retain, tested = len(split.forget), len(split.retain), len(images.y) - images.num_train
    used = min(settings.retain_images, retain)
    count = min(getattr(recipe, "batch", 64), forget + used, 64)
    with collect_notices(checked.notices):
        step, look = _seconds_per_image(checked.original, images, split.train[:count], checked.compute)
    visits = (forget + used) * getattr(recipe, "epochs", 1)
    visits += getattr(noise, "steps", 0) * 2 * min(images.num_classes, forget)
    seconds = step * visits + look * 4 * (min(retain, 5000) + forget + tested)
    training = settings.training
    weights = sum(p.numel() for p in checked.original.parameters())
    title, guide = checked.method.title, "none: this method asks none"
    if recipe:
        title += f", {recipe.epochs} epochs of batches of {recipe.batch}, learning rate {recipe.lr:g}"
    if checked.method.guided:
        guide = checked.guide
        if guide != "matrix":
            guide += f", {settings.guide.exemplars} exemplars of each class"
    names, shape = ", ".join(asked.classes) or "single images", "x".join(map(str, images.shape))
    lines = {
        "forget": f"{asked.scenario}: {names}, {forget} of {images.num_train} training images",
        "retain": f"{retain} images, {used} of them to fine-tune on; {tested} test images",
        "model": f"{type(checked.original).__name__}, {weights:,} weights, {images.num_classes} classes, images {shape}"
        f"; names {100 * checked.accuracy:.0f} % of a sample of the training images right",
        "method": title,
        "guide": guide,
        "retrain": f"the reference, {training.epochs} epochs on {retain} images: {_retraining(checked, step)} more",
        "time": f"about {_readable(seconds)} on {checked.compute.device.type}, from {count} images measured; the"
        " guide's time is not in it",
    }
    if not checked.request.retrain:
        del lines["retrain"]
    return "\n".join(f"{name:8} {line}" for name, line in lines.items())


def retraining_time(checked) -> str:
    """How long the reference of a `megu.own.request.CheckedRequest` will take, by a few measured steps."""
    index = checked.split.train[: min(checked.settings.training.batch, 64)]
    return _retraining(checked, _seconds_per_image(checked.original, checked.images, index, checked.compute)[0])


def _retraining(checked, step):
    return "about " + _readable(step * len(checked.split.retain) * checked.settings.training.epochs)


def _readable(seconds):
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _seconds_per_image(original, images, index, compute):
    """(Training, prediction), measured on a copy; the first of three steps is not counted."""
    model = models.copy_of(original).train()

    def step(part):
        with compute.cast(), seeded(generator(0, "plan")):  # dropout draws from the global one
            F.cross_entropy(model(images.batch(part)).float(), images.y[part]).backward()

    def timed(work):
        clock = Stopwatch()
        with clock("work"):
            in_batches(work, index, len(index), "plan")
        return clock.total / len(index)

    _, *steps = [timed(step) for _ in range(3)]
    model.eval()
    with torch.no_grad():
        return min(steps), timed(lambda part: model(images.batch(part)))
