"""What a request will do, and how long it may take by a few measured steps."""

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from math import log
from pathlib import Path

import torch
from torch.nn import functional as F

from megu.core import models
from megu.core.device import Stopwatch, generator, in_batches, seeded
from megu.core.splits import tenth
from megu.guide import GuideUnavailableError
from megu.measure.count import Passes, passes_of
from megu.measure.distances import HIDDEN, PREPARATIONS
from megu.own.guide_choice import session_of
from megu.own.tuning import CALM, LEAST, MOST, SEEDS, STEPS, lowered, ten_steps
from megu.settings.progress import collect_notices
from megu.settings.values import dotted

ASKED = 4  # images that a guide is tried on
ATTACKS = 1.0  # seconds for each model that is compared: attacks and report, whatever the network


@dataclass(frozen=True)
class Plan:
    """What was read and will be done: ``print`` it.

    Attributes:
        lines: text by subject.  seconds: estimated, by stage; a stage that cannot be estimated is missing.
    """

    lines: dict[str, str]
    seconds: dict[str, float] = field(repr=False)

    def __str__(self):
        return "\n".join(f"{name:8} {line}" for name, line in self.lines.items())


def plan(checked, out=None) -> Plan:
    """The plan of a `megu.own.request.CheckedRequest`; ``out``: a folder that may hold answers of a guide.
    Raises: GuideUnavailableError for a guide asked for by name."""
    images, split, settings, parameters = checked.images, checked.split, checked.settings, checked.parameters
    recipe, forget, used = getattr(parameters, "recipe", None), len(split.forget), settings.retain_images
    held = len(tenth(images, split.retain, MOST, settings.seed))  # out of the method
    used, tested = min(used, len(split.retain) - held), len(images.y) - images.num_train
    with collect_notices(checked.notices):
        guide, asking = _guide(checked, out and Path(out) / "answers.jsonl")
        passes = passes_of(checked.request.method, parameters, settings, _few_pixels(images), split)
        most, some = min(max(passes.most, 1), 64), split.train[:64]
        trained, noised, seen = _seconds_per_image(checked.original, images, some, checked.compute, most)
    compared = 2 + (checked.reference is not None or checked.request.retrain)
    looks = compared * (min(len(split.retain), 5000) + forget + tested) + forget  # those by an untrained one
    looks += PREPARATIONS * min(forget, HIDDEN) * (settings.forget.scenario == "class")  # see `left_classes`
    work = trained * passes.trained + noised * passes.noised + seen * passes.seen
    checked_images = min(forget, MOST) + min(used, MOST) + held  # see `megu.own.tuning.Trial`
    pilot = seen * checked_images + (trained * min(used, 640) if recipe else 0)
    seconds = {
        "guide": seen * asking.seen if isinstance(asking, Passes) else asking,
        "search": pilot + checked.request.tune * (work + seen * checked_images),
        "method": work + seen * 2 * checked_images,
        "evaluation": seen * looks + ATTACKS * compared,
    }
    if checked.request.retrain:
        seconds["retraining"] = _retraining(checked, trained)
    seconds = {stage: value for stage, value in seconds.items() if value is not None}
    weights = sum(p.numel() for p in checked.original.parameters())
    title = checked.method.title
    if recipe:
        title += f", {recipe.epochs} epochs of batches of {recipe.batch}, learning rate {recipe.lr:g}"
    names, shape = ", ".join(settings.forget.classes), "x".join(map(str, images.shape))
    if not names:
        some = [checked.ids[i] for i in split.forget[:3].tolist()]
        names = f"single images: {', '.join(some)}{', ...' if forget > 3 else ''}"
    lines = {
        "forget": f"{settings.forget.scenario}: {names}, {forget} of {images.num_train} training images",
        "retain": f"{len(split.retain)} images, {used} to fine-tune on, {held} to check on; {tested} test images",
        "model": f"{type(checked.original).__name__}, {weights:,} weights, {images.num_classes} classes, images {shape}"
        f"; names {100 * checked.accuracy:.0f} % of a sample of the training images right",
        "method": title,
        "guide": guide,
        "time": f"{_readable(sum(seconds.values()), 'about ')} on {checked.compute.device.type}"
        f" ({', '.join(f'{stage} {_readable(value)}' for stage, value in seconds.items())}"
        f"{'' if 'guide' in seconds else ', without the guide'})",
    }
    if checked.request.retrain:
        lines["retrain"] = f"the reference, {settings.training.epochs} epochs on {len(split.retain)} images"
    return Plan(lines, seconds)


def retraining_time(checked) -> str:
    """How long the reference of a `megu.own.request.CheckedRequest` will take, by a few measured steps."""
    index = checked.split.train[: min(checked.settings.training.batch, 64)]
    step = _seconds_per_image(checked.original, checked.images, index, checked.compute)[0]
    return _readable(_retraining(checked, step), "about ")


def calm_training(checked) -> dict:
    r"""What changes of ``training`` for a reference that is retrained here, where it was not given.

    As `megu.own.tuning.scaled` and `settled` do, but a rate is too large where the mean loss of ten steps from new
    weights is above $\log K$, that of a guess, by more than `CALM` nats.
    """
    recipe, given = checked.settings.training, dotted(checked.request.settings or {})
    task = checked.task(checked.split, None, checked.settings.seed + SEEDS)
    guess = log(checked.images.num_classes)
    changes = {"batch": min(recipe.batch, max(LEAST, len(checked.split.retain) // STEPS))}

    def fresh():
        model = task.fresh_model()
        models.prepare(model, task.images, task.split.retain)
        return model

    if "training.lr" not in given:
        calm = partial(ten_steps, task, fresh, recipe)
        changes["lr"] = lowered(recipe.lr, lambda rate: calm(rate)[1] <= guess + CALM) or recipe.lr
    return {name: value for name, value in changes.items() if f"training.{name}" not in given}


def _retraining(checked, step):
    return step * len(checked.split.retain) * checked.settings.training.epochs


def _readable(seconds: float, about: str = "") -> str:
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        return f"{about}{seconds:.0f} s"
    return about + (f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours")


def _few_pixels(images):
    """The same images in number and labels, of random 2 x 2 pixels."""
    x = torch.randint(256, (len(images.y), images.shape[0], 2, 2), generator=generator(0, "plan"), dtype=torch.uint8)
    x = x.to(images.x.device)
    return replace(images, x=x if images.x.dtype == torch.uint8 else x / 255)


def _guide(checked, answers):
    """(What is said of the guide, the seconds that asking it takes or `Passes` of the model, or None.)"""
    if not checked.method.guided:
        return "none: this method asks none", 0.0
    source, exemplars = checked.guide, f"{checked.settings.guide.exemplars} exemplars of each class"
    if source == "matrix":
        return "a matrix that was given", 0.0
    if source != "model":
        try:
            return _asked(session_of(source, checked, answers), f"{source}, {exemplars}")
        except GuideUnavailableError as missing:
            if checked.request.guide is not None:
                raise
            source = f"the model's own features, since the {source} guide cannot be asked ({missing})"
    return source, Passes(seen=len(checked.split.train))


def _asked(session, said):
    guide, questions = session.open_questions()
    by_image = [list(group) for _, group in groupby(questions, key=lambda one: one.image_hash)]
    if guide.costly:  # a dry run sends nothing and loads no large model
        return f"{said}: {len(questions)} questions to {guide.name}, whose time is not known", None
    first, some = by_image[:1], by_image[1 : 1 + ASKED]
    load, ask = Stopwatch(), Stopwatch()
    with load("plan"):
        list(guide.score(sum(first, [])))
    with ask("plan"):
        list(guide.score(sum(some, [])))
    return said, load.total + ask.total * max(0, len(by_image) - 1) / max(1, len(some))


def _seconds_per_image(original, images, index, compute, most=64):
    """(Training, noise, prediction), measured on copies; ``most``: images that are trained on at a time."""
    model, frozen = models.copy_of(original).train(), models.frozen(original)

    def train(part):
        with compute.cast():
            F.cross_entropy(model(images.batch(part)).float(), images.y[part]).backward()

    def noise(part):
        x = images.batch(part).requires_grad_()
        F.cross_entropy(frozen(x), images.y[part]).backward()

    def look(part):
        with torch.no_grad():
            frozen(images.batch(part))

    with seeded(generator(0, "plan")):  # dropout draws from the global one
        return _timed(train, index[:most]), _timed(noise, index), _timed(look, index)


def _timed(work, index):
    """Seconds for each image: of few, or of more where these take no time; the first attempt is not counted."""
    count, clock = min(4, len(index)), Stopwatch()
    in_batches(work, index[:count], count, "plan")
    while True:
        clock.seconds.clear()
        with clock("plan"):
            in_batches(work, index[:count], count, "plan")
        if clock.total > 0.3 or count == len(index):
            return clock.total / count
        count = min(4 * count, len(index))
