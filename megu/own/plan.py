r"""What is read, checked and estimated before any work: a request that is ready to be carried out."""

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from megu import methods
from megu.core import device, models
from megu.core.device import Compute, Stopwatch, generator, seeded, too_big
from megu.core.loading import channels_of, knows, working_copy
from megu.datasets.folder import Brought, class_names, common_size, files_of, folders, pooled, read_dataset, read_folder
from megu.own.guide_choice import Choice, choose_guide
from megu.own.request import Request, request
from megu.settings.errors import SettingsError
from megu.settings.profiles import resolve
from megu.settings.values import nest


@dataclass(frozen=True)
class Plan:
    """What will be done, line by line, and how many seconds it may take without the guide's."""

    lines: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Prepared:
    r"""A request that was checked: everything that `megu.own.unlearn.carry_out` needs, and the plan that a person may
    look at first."""

    given: nn.Module
    original: nn.Module
    reference: nn.Module | None
    images: object
    ids: tuple[str, ...]
    request: Request
    guide: Choice
    method: str
    parameters: object
    settings: object
    compute: Compute
    trained_on: int | None
    plan: Plan
    notices: list
    clock: Stopwatch


def prepare(
    model,
    data,
    forget,
    *,
    test,
    classes,
    subclasses,
    guide,
    method,
    seed,
    reference,
    normalise,
    size,
    retain_images,
    trained_on,
    settings,
):
    r"""Read and check everything that `unlearn` is given; nothing is trained or written.  ``model`` and ``reference``
    may be functions of (K, (height, width)) that give one.  Returns: `Prepared`."""
    entry, clock, notices = methods.method(method), Stopwatch(), []
    if entry.reference:
        raise SettingsError(f"method {method!r} is what unlearning is compared with: choose another, e.g. megu")
    chosen = resolve("quick", seed, own_settings(method, settings, entry))
    compute = device.choose(chosen, own=True)
    with clock("reading"), heard(notices):
        model, images, ids = bring(model, data, test, classes, subclasses, normalise, size, compute.device)
        wanted = request(forget, images, ids)
        chosen = chosen.model_copy(
            update={"forget": chosen.forget.model_copy(update={"scenario": wanted.scenario, "classes": wanted.names})}
        )
        parameters = methods.method_settings(method, chosen)
        guide = choose_guide(guide, images.num_classes)
        original = working_copy(model, images)
        if callable(reference) and not isinstance(reference, nn.Module):
            reference = reference(images.num_classes, images.shape[1:])
        reference = None if reference is None else working_copy(reference, images, "reference")
    for name, value, least in (("trained_on", trained_on, images.num_train), ("retain_images", retain_images, 1)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise SettingsError(
                f"{name} is {value!r}, and data holds {images.num_train} training images: give an integer of at least"
                f" {least}"
            )
    retained = len(wanted.split.retain)
    chosen = chosen.model_copy(update={"retain_images": retain_images or max(1600, retained // 5)})
    share = knows(original, images, wanted.split.train)
    with heard(notices):
        plan = measure(original, images, wanted, chosen, parameters, entry, guide, compute, share)
    return Prepared(
        model,
        original,
        reference,
        images,
        ids,
        wanted,
        guide,
        method,
        parameters,
        chosen,
        compute,
        trained_on,
        plan,
        notices,
        clock,
    )


def own_settings(method, settings, entry):
    r"""Overrides for `megu.settings.profiles.resolve` from the flat settings of `unlearn`: those of the method need no
    prefix."""
    if not isinstance(settings, dict | None):
        raise SettingsError(f"settings is {settings!r}: give a dictionary such as {{'recipe.lr': 0.01}}")
    if "guide.source" in (settings or {}):
        raise SettingsError(
            f"settings has guide.source={settings['guide.source']!r}: say which guide by guide= (in the shell --guide)"
        )
    common = ("guide", "device", "threads", "autocast", "compile", "deterministic", "tf32")
    flat = {
        name if name.partition(".")[0] in common else f"methods.{method}.{name}": value
        for name, value in (settings or {}).items()
    }
    return {
        "data.name": "folder",
        "autocast": "off",
        "compare": [method],
        "forget.scenario": entry.scenarios[0],
        **nest(flat),
    }


@contextmanager
def heard(notices):
    r"""Collects what is said to the log "megu" inside the block; it is still said."""

    class Ear(logging.Handler):
        """Appends every message."""

        def emit(self, record):
            """One message."""
            notices.append(record.getMessage())

    log, ear = logging.getLogger("megu"), Ear()
    said = logging.StreamHandler()
    log.addHandler(ear)
    log.addHandler(said)
    try:
        yield
    finally:
        log.removeHandler(ear)
        log.removeHandler(said)


def bring(model, data, test, classes, subclasses, normalise, size, where):
    r"""Read the images that a user brings, and the model where it is a function of (K, (height, width)).

    Returns: (model, `megu.datasets.images.Images`, what each training image is called).
    Raises: SettingsError where something is missing or does not fit.
    """
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 2 <= size <= 4096):
        raise SettingsError(f"size is {size!r}: give pixels, an integer from 2 to 4096")
    if isinstance(data, str | Path):
        names, train, beside = folders(data, classes)
        test = beside if test is None else test
        name = Path(data).resolve().name
        shape = (size, size) if size else common_size(files_of(train, names)[0]) or (224, 224)
        model = model if isinstance(model, nn.Module) or not callable(model) else model(len(names), shape)
        mode = "L" if isinstance(model, nn.Module) and channels_of(model) == 1 else "RGB"
        brought = read_folder(train, names, shape, mode)
    else:
        name, given = type(data).__name__, classes if classes is not None else getattr(data, "classes", None)
        mode = "L" if isinstance(model, nn.Module) and channels_of(model) == 1 else "RGB"
        names = (
            class_names(given, "classes") if given is not None else tuple(map(str, range(outputs(model, data, mode))))
        )
        brought, shape = read_dataset(data, len(names), mode, "data", subclasses), None
    if isinstance(test, str | Path):
        folder = Path(test).expanduser()
        if not folder.is_dir():
            raise SettingsError(
                f"test {folder.name!r} is no folder: give a folder with one folder of images per class, or a torch"
                " Dataset"
            )
        unseen = read_folder(folder, names, shape or tuple(brought.x.shape[2:]), mode)
    else:
        unseen = None if test is None else read_dataset(test, len(names), mode, "test")
    for part in (brought, unseen):
        if part is not None and part.left_out:
            logging.getLogger("megu").warning("%d files that are no images were left out", part.left_out)
    return model, pooled(name, names, brought, unseen, normalise, where), brought.ids


def read_names(path):
    r"""Class names from a text file, one a line.  Raises: SettingsError where it cannot be read."""
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"classes {path.name!r} cannot be read ({type(error).__name__}): give a text file with one class name a"
            " line"
        ) from None


def outputs(model, data, mode):
    r"""K of a model whose classes nobody named, asked with the first image of a Dataset."""
    first: Brought = (
        read_dataset([data[0]], 2**62, mode, "data") if hasattr(data, "__getitem__") and len(data) else None
    )
    if not isinstance(model, nn.Module) or first is None:
        raise SettingsError("classes are not known: give classes, names in the order of the model's outputs")
    try:
        with torch.no_grad():
            return models.frozen(model)(first.x.float()).shape[1]
    except Exception as error:  # whatever a foreign forward() may raise
        raise SettingsError(
            f"classes are not known and the model cannot be asked ({type(error).__name__}): give classes, names of its"
            " outputs"
        ) from None


def measure(original, images, wanted, settings, parameters, entry, guide, compute, share):
    r"""The `Plan` of a request: a few training steps and one prediction are measured on a copy."""
    recipe = getattr(parameters, "recipe", None)
    forget, retain, used = (
        len(wanted.split.forget),
        len(wanted.split.retain),
        min(settings.retain_images, len(wanted.split.retain)),
    )
    at_once = min(recipe.batch if recipe else 64, forget + used, 64)
    index = wanted.split.train[:at_once]
    step, look = seconds_of(original, images, index, compute)
    items = (forget + used) * (recipe.epochs if recipe else 1)
    noise = getattr(getattr(parameters, "noise", None), "steps", 0) * 2 * min(images.num_classes, forget)
    total = step * (items + noise) + look * 4 * (min(retain, 5000) + forget + len(images.y) - images.num_train)
    what = ", ".join(wanted.names) or "single images"
    weights = sum(p.numel() for p in original.parameters())
    lines = [
        f"forget   {wanted.scenario}: {what}, {forget} of {images.num_train} training images",
        f"retain   {retain} images, {used} of them to fine-tune on; {len(images.y) - images.num_train} test images",
        (
            f"model    {type(original).__name__}, {weights:,} weights, {images.num_classes} classes, images"
            f" {'x'.join(map(str, images.shape))}; names {100 * share:.0f} % of a sample of the training images right"
        ),
        f"method   {entry.title}"
        + (f", {recipe.epochs} epochs of batches of {recipe.batch}, learning rate {recipe.lr:g}" if recipe else ""),
        (
            f"guide    {guide.source}"
            + ("" if guide.matrix is not None else f", {settings.guide.exemplars} exemplars of each class")
            if entry.guided
            else "guide    none: this method asks none"
        ),
        (
            f"time     about {_spoken(total)} on {compute.device.type}, from {at_once} images measured; the guide's"
            " time is not in it"
        ),
    ]
    return Plan(tuple(lines), total)


def _spoken(seconds):
    return (
        f"{max(1, round(seconds))} s"
        if seconds < 90
        else f"{seconds / 60:.0f} minutes"
        if seconds < 5400
        else f"{seconds / 3600:.1f} hours"
    )


def seconds_of(original, images, index, compute):
    r"""(seconds of a training step, of a prediction), per image, on a copy; the first of three steps is not counted."""
    model, x, y, found = models.copy_of(original).train(), images.batch(index), images.y[index], []
    try:
        for _ in range(3):
            clock = Stopwatch()
            with clock("step"), compute.cast(), seeded(generator(0, "plan")):  # dropout draws from the global generator
                F.cross_entropy(model(x).float(), y).backward()
            found.append(clock.total)
        with clock("look"), torch.no_grad():
            model.eval()(x)
        return min(found[1:]) / len(index), clock.seconds["look"] / len(index)
    except torch.OutOfMemoryError:
        pass  # what the failed attempt holds is freed when this block ends
    too_big(1, len(index), "plan")
    return seconds_of(original, images, index[: len(index) // 2], compute)
