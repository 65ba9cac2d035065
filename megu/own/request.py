r"""A user's request, and its check: everything is read and nothing is trained or written."""

import logging
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from megu import methods
from megu.core import device
from megu.core.device import Compute, Stopwatch
from megu.core.loading import check_accuracy, check_and_copy
from megu.datasets.images import Images
from megu.own.forget_set import ForgetSet, forget_set
from megu.own.guide_choice import GuideChoice, choose_guide
from megu.own.inputs import read_inputs
from megu.settings.config import Part, Settings
from megu.settings.errors import SettingsError
from megu.settings.profiles import resolve
from megu.settings.values import nest

_UNPREFIXED = ("guide", "device", "threads", "autocast", "compile", "deterministic", "tf32")  # settings of no method


@dataclass(frozen=True)
class Request:
    r"""A classifier, the images that it knows, and what it shall forget.

    Attributes:
        model: ``nn.Module``, images ``(n, C, H, W)`` to logits ``(n, K)``, which stays as it is, bit for bit; or a
            `pathlib.Path` of weights as .safetensors, with ``arch``.
        data: the images that it was trained on, or a sample of the retained ones with all that go: a folder
            ``<class>/*.jpg`` (perhaps ``<class>/<sub-class>/*.jpg``), one with ``train`` and ``test`` (or ``val``)
            folders of this kind, or a torch Dataset of (image, class) pairs.
        forget: names of classes or of sub-classes (``"tops/shirt"``); or positions of training images; or a
            `pathlib.Path` of a file of them.
        arch: of a file of weights, see `megu.core.loading.read_model`.
        test: unseen images, a folder by class or a Dataset; without them no attack can be measured.
        classes: names in the order of the model's outputs, or a `pathlib.Path` of a text file of them; by default the
            sorted names of the folders, or ``data.classes``.
        subclasses: for a Dataset, the name of each image's sub-class.
        guide: who says which classes are alike: a name in `megu.guide.SOURCES`, ``"model"`` (its own features), a ``(K,
            K)`` transition matrix or its file; None for the composed guide, or what can stand in for it.
        method: name in `megu.methods.METHODS`.
        seed: of everything random.
        reference: a model that was retrained without the forget images, if there is one, given as ``model`` is.
        normalise: what the model expects of 8-bit images: ``imagenet``, ``unit`` ([0, 1]), ``half`` ([-1, 1]),
            ``cifar100`` (its moments), ``data`` (those of these images) or (mean, std).
        size: images of a folder are resized to size x size pixels; by default their own where all have one, else 224.
        retain_images: retain images to fine-tune on, at most; by default a fifth, at least 1,600.
        trained_on: how many images the model was trained on, where ``data`` holds only a sample of them.
        settings: dictionary of the method's settings (``"recipe.lr"``), of the guide's (``"guide.exemplars"``), or
            device, threads, autocast.
    """

    model: nn.Module | Path
    data: str | Path | Dataset
    forget: Any
    arch: str | None = None
    test: str | Path | Dataset | None = None
    classes: Sequence[str] | Path | None = None
    subclasses: Sequence[str] | None = None
    guide: Any = None
    method: str = "megu"
    seed: int = 0
    reference: nn.Module | Path | None = None
    normalise: Any = "imagenet"
    size: int | None = None
    retain_images: int | None = None
    trained_on: int | None = None
    settings: dict | None = None


@dataclass(frozen=True)
class CheckedRequest:
    r"""A request whose every part was read and fits: what `megu.own.unlearn.carry_out` needs.

    Attributes:
        original, reference: copies to work on.  ids: what each training image is called.
        parameters: of the method.  accuracy: share of a sample of the training images that the model names right.
        notices: what was said meanwhile.
    """

    request: Request
    given: nn.Module
    original: nn.Module
    reference: nn.Module | None
    images: Images
    ids: tuple[str, ...]
    forget: ForgetSet
    guide: GuideChoice
    parameters: Part
    settings: Settings
    compute: Compute
    accuracy: float
    notices: list[str] = field(repr=False)
    clock: Stopwatch = field(repr=False)


def check(request: Request) -> CheckedRequest:
    r"""Read and check everything; nothing is trained or written.  Raises: SettingsError where something is wrong."""
    method, clock, notices = methods.method(request.method), Stopwatch(), []
    if method.reference:
        raise SettingsError(f"method {request.method!r} is what unlearning is compared with: choose another, e.g. megu")
    settings = resolve("quick", request.seed, _overrides(request, method))
    compute = device.choose(settings, own=True)
    with clock("reading"), collect_notices(notices):
        given, reference, images, ids = read_inputs(request, compute.device)
        forget = forget_set(request.forget, images, ids)
        asked = settings.forget.model_copy(update={"scenario": forget.scenario, "classes": forget.names})
        settings = settings.model_copy(update={"forget": asked})
        parameters = methods.method_settings(request.method, settings)
        guide = choose_guide(request.guide, images.num_classes)
        original = check_and_copy(given, images)
        reference = None if reference is None else check_and_copy(reference, images, "reference")
    _check_count("trained_on", request.trained_on, images.num_train, images)
    _check_count("retain_images", request.retain_images, 1, images)
    retain_images = request.retain_images or max(1600, len(forget.split.retain) // 5)
    settings = settings.model_copy(update={"retain_images": retain_images})
    accuracy = check_accuracy(original, images, forget.split.train)
    return CheckedRequest(
        request, given, original, reference, images, ids, forget, guide, parameters, settings, compute, accuracy,
        notices, clock,
    )  # fmt: skip


def _overrides(request, method):
    """Settings of a run from the flat ones of a request, where those of the method need no prefix."""
    given = {} if request.settings is None else request.settings
    if not isinstance(given, dict):
        raise SettingsError(f"settings is {given!r}: give a dictionary such as {{'recipe.lr': 0.01}}")
    if "guide.source" in given:
        raise SettingsError(
            f"settings has guide.source={given['guide.source']!r}: say which guide by guide= (in the shell --guide)"
        )
    named = {
        name if name.partition(".")[0] in _UNPREFIXED else f"methods.{request.method}.{name}": value
        for name, value in given.items()
    }
    usual = {"data.name": "folder", "threads": 0, "autocast": "off", "compare": [request.method]}
    return {**usual, "forget.scenario": method.scenarios[0], **nest(named)}


def _check_count(name, value, least, images):
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise SettingsError(
            f"{name} is {value!r}, and data holds {images.num_train} training images: give an integer of at least"
            f" {least}"
        )


@contextmanager
def collect_notices(notices):
    r"""Collects what is said to the log "megu" inside the block; it is still said."""

    class Collector(logging.Handler):
        """Appends every message."""

        def emit(self, record):
            """One message."""
            notices.append(record.getMessage())

    log, handlers = logging.getLogger("megu"), (Collector(), logging.StreamHandler())
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
