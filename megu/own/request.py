"""A user's request, and its check: all is read, nothing trained or written."""

import logging
import os
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.data import Dataset

from megu import methods
from megu.core import device, models
from megu.core.keymap import same_weights, say_hooks, say_other_kind
from megu.core.loading import check_accuracy, check_and_copy, weights_digest
from megu.core.splits import forgotten_classes, tenth
from megu.core.train import predict
from megu.datasets.images import first_copies
from megu.methods.task import Task
from megu.own.class_order import check_class_order, check_known, check_whole_class, header
from megu.own.guide_choice import choose_guide
from megu.own.inputs import forget_set, read_inputs
from megu.own.tuning import MOST, check_tune, scaled
from megu.settings.config import Recipe
from megu.settings.errors import SettingsError
from megu.settings.files import hash_bytes
from megu.settings.known import SHARED, check_method
from megu.settings.machine import check_alone
from megu.settings.profiles import resolve
from megu.settings.progress import collect_notices
from megu.settings.values import closest, nest

LOG = logging.getLogger("megu")
WHAT = {"class": "whole classes", "subclass": "sub-classes", "random": "single images"}


@dataclass(frozen=True)
class Request:
    """A classifier, the images that it knows, and what it shall forget.

    Attributes:
        model: images ``(n, C, H, W)`` to logits ``(n, K)``, never altered; or its .safetensors, with ``arch``.
        data: its training images, or those that go and a sample of the others: a folder, see
            `megu.datasets.folder.find_classes`, a .csv, or a Dataset of (image, class).
        forget: see `megu.own.inputs.forget_set`.  arch: see `megu.core.architectures.read_model`.
        test: unseen images, given as ``data`` is; without them no attack can be measured.
        classes: names in the order of the outputs, or a text file of them; by default the folders, sorted, or
            ``data.classes``.  subclasses: of each image of a Dataset.
        duplicates: what becomes of retained images with the pixels of single forgotten ones: forget, keep, or refuse.
        guide: see `megu.own.guide_choice.choose_guide`.  method: in `megu.methods.METHODS`.  seed: of all randomness.
        reference: a model retrained without the forget images, given as ``model`` is.
        retrain: whether to make it here, from new weights, by the recipe ``training`` of ``settings``.
        normalise: of 8-bit images alone, see `megu.datasets.user_images.moments`; by default imagenet.
        size: pixels that images of a folder are resized to; by default their own where all have one, else 224.
        retain_images: to fine-tune on, at most; by default a fifth, at least 1,600.
        tune: trials of a search of the method's settings before it, see `megu.own.tuning.settled`; each takes as long
            as the unlearning.  0: the defaults, scaled to the request.
        trained_on: how many images the model was trained on, where ``data`` is a sample.
        settings: of the method (``"recipe.lr"``), guide, training (``"training.epochs"``), or device, threads.
    """

    model: nn.Module | Path
    data: str | Path | Dataset
    forget: Any
    arch: str | None = None
    test: str | Path | Dataset | None = None
    classes: Sequence[str] | Path | None = None
    subclasses: Sequence[str] | None = None
    duplicates: Literal["forget", "keep"] | None = None
    guide: Any = None
    method: str = "megu"
    seed: int = 0
    reference: nn.Module | Path | None = None
    retrain: bool = False
    normalise: Any = None
    size: int | None = None
    retain_images: int | None = None
    trained_on: int | None = None
    tune: int = 0
    settings: dict | None = None

    @classmethod
    def of(cls, given: dict) -> "Request":
        """A request of these arguments.  Raises: SettingsError for an unknown one, or where one lacks that it needs."""
        known = {field.name: field.default is MISSING for field in fields(cls)}
        for name in given:
            if name not in known:
                raise SettingsError(closest(name, known, "the argument"))
        if lacking := [name for name, needed in known.items() if needed and given.get(name) is None]:
            raise SettingsError(f"{' and '.join(lacking)} is None: say which, or give a config that does")
        return cls(**{name: _plain(name, value) for name, value in given.items()})


class CheckedRequest:
    """A request, read and checked.  Raises: SettingsError.

    Attributes:
        method, parameters: the method and its settings.  settings: all others; ``forget`` says what goes.
        given: the user's model.  original, reference: copies to work on.  weights: `weights_digest` of that.
        images, ids: see `megu.own.inputs.read_inputs`.  split: without validation images.  digest: of what goes.
        guide, matrix: see `megu.own.guide_choice.choose_guide`.  accuracy: see `megu.core.loading.check_accuracy`.
        clock, notices: seconds by stage and what was said, so far.
    """

    @device.usual_torch()
    def __init__(self, request: Request):
        check_alone()
        check_method(request.method, {name: entry.reference for name, entry in methods.METHODS.items()})
        self.request, self.method = request, methods.method(request.method)
        self.clock, self.notices = device.Stopwatch(), []
        _check_integer("size", request.size, 2, 4096)
        _check_integer("tune", request.tune, 0, 10_000)
        if not isinstance(request.retrain, bool):
            raise SettingsError(f"retrain is {request.retrain!r}: give True or False")
        settings = resolve("quick", request.seed, _overrides(request, self.method))
        methods.method_settings(request.method, settings, where="")
        self.compute = device.choose(settings, own=True)
        with self.clock("reading"), collect_notices(self.notices):
            self.given, reference, self.images, self.ids = read_inputs(request, self.compute.device)
            _check_integer("trained_on", request.trained_on, self.images.num_train)
            _check_integer("retain_images", request.retain_images, 1)
            forget, self.split = forget_set(request, self.images, self.ids)
            retain = request.retain_images or max(1600, len(self.split.retain) // 5)
            self.settings = settings.model_copy(update={"forget": forget, "retain_images": retain})
            if forget.scenario not in self.method.scenarios:
                takes = " or ".join(WHAT[one] for one in self.method.scenarios)
                what = f"method {request.method!r} forgets {takes}, and {WHAT[forget.scenario]} are asked for"
                raise SettingsError(f"{what}: choose another method")
            self.parameters = methods.method_settings(request.method, self.settings, where="")
            asked = self.method.guided or request.guide is not None
            self.guide, self.matrix = choose_guide(request.guide, self.images.classes) if asked else (None, None)
            batch = max((part.batch for _, part in scaled(self) if isinstance(part, Recipe)), default=0)
            self.original = check_and_copy(self.given, self.images, batch=batch)
            say_hooks(self.given)
            self.method.fits(self.original, self.images)
            self.reference = None if reference is None else check_and_copy(reference, self.images, "reference")
            if self.reference is not None:
                say_other_kind(self.original, self.reference)
            if request.retrain:
                _check_retrain(self.original, reference)
            elif self.reference is not None and same_weights(self.reference, self.original):
                what = "reference has the weights of the model itself"
                raise SettingsError(f"{what}: give a model retrained without the forgotten images, or none")
            _say_idle(request, self.method)
        check_tune(self)
        unseen = torch.cat([self.split.test_retain, self.split.test_forget])
        with collect_notices(self.notices):
            check_class_order(self, self.split.train, "training")
            check_class_order(self, unseen, "test")
            if self.reference is not None:
                check_class_order(self, self.split.retain, "reference", self.reference)
                check_whole_class(self)
            self.accuracy = check_accuracy(self.original, self.images, self.split.train, unseen=unseen)
            check_known(self)
            self.digest = hash_bytes("\n".join(sorted(self.ids[i] for i in self.split.forget.tolist())))
            if isinstance(request.reference, Path):
                _check_reference(request.reference, self.digest)
        self.parameters, self.weights = scaled(self), weights_digest(self.given)

    @cached_property
    def held_out(self) -> tuple[Int64[Tensor, " n"], Float[Tensor, "n K"], Int64[Tensor, " m"]]:
        """Retained training images that no method sees, see `tenth`, the original's logits on them, and the retained
        images without these and their copies."""
        retain = self.split.retain
        first = first_copies(self.images, retain)
        held = tenth(self.images, retain[first == retain], MOST, self.settings.seed)
        return held, predict(self.original, self.images, held), retain[~torch.isin(first, held)]

    def task(self, split, matrix, seed) -> Task:
        """The request as a method receives it, with a ``split`` of its own."""
        settings, gone = self.settings, forgotten_classes(self.images, split, self.settings)
        given = self.original, self.images, split, gone, matrix, settings.retain_images, None, settings.training
        return Task(*given, seed, self.compute)


def _plain(name, value):
    # As it comes from a notebook: numbers of numpy, paths as text.
    if name == "classes" and isinstance(value, bool | int | float):
        raise SettingsError(f"classes is {value!r}: give their names, in the order of the model's outputs")
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str):
        folder = name in ("model", "reference") and os.path.isdir(os.path.expanduser(value))  # of weights
        value = Path(value) if folder or name == "classes" or value.endswith(".safetensors") else value
    return value.expanduser() if isinstance(value, Path) else value


def _overrides(request, method):
    given = {} if request.settings is None else request.settings
    if not isinstance(given, dict):
        raise SettingsError(f"settings is {given!r}: give e.g. {{'recipe.lr': 0.01}}")
    given = nest(given)
    if isinstance(given.get("guide"), dict) and "source" in given["guide"]:
        raise SettingsError(f"guide.source is {given['guide']['source']!r}: say which guide by guide= (--guide)")
    if own := given.keys() & {field.name for field in fields(Request)} - {"guide"}:
        name = min(own)
        raise SettingsError(f"setting {name!r} is {given[name]!r}: give it as {name}= (--{name.replace('_', '-')})")
    usual = {"data.name": "folder", "threads": 0, "autocast": "off", "compare": [request.method]}
    usual["forget.scenario"], prefix = method.scenarios[0], f"methods.{request.method}."
    for name, value in given.items():
        usual[name if name.partition(".")[0] in SHARED else prefix + name] = value
    return usual


def _check_reference(path, digest):
    r"""What a reference that was written here says of its making; ``digest``: of what is to be forgotten.

    Raises: SettingsError where it was not retrained; that others were left out of its training is said.
    """
    said = header(path)
    if (method := said.get("method", "retrain")) != "retrain":
        what = f"reference {path.name!r} says that it was not retrained, but made by {method}"
        raise SettingsError(f"{what}: give a model that was trained without the forgotten images, or none")
    if said.get("forget", digest) != digest:
        told = "reference %r says that other images than those that are to be forgotten now were left out of its"
        LOG.warning(f"{told} training: if it was trained on these, it is no measure", path.name)


def _say_idle(request, method):
    of = {} if request.retrain else {"training": "the recipe of retrain (--retrain), which is not asked for"}
    of |= {} if method.guided else {"guide": f"of a guide, and {request.method} asks none"}
    for name in sorted(of.keys() & nest(request.settings or {})):  # a set has another order in each process
        LOG.warning(f"{name}.* is {of[name]}: it is not used")


def _check_retrain(original, reference):
    if reference is not None:
        raise SettingsError("retrain and reference are both given: give one of them")
    try:
        if frozen := sum(weight.numel() for weight in original.parameters() if not weight.requires_grad):
            raise SettingsError(f"{frozen} of its weights are frozen, and would stay as they are drawn")
        models.reset(original, 0, "retrained")
    except SettingsError as error:
        what = f"the model cannot be retrained here ({str(error).partition(':')[0]})"
        raise SettingsError(f"{what}: retrain it yourself, and give reference") from None


def _check_integer(name, value, least, most=None):
    if value is not None and (type(value) is not int or not least <= value <= (most or value)):
        wanted = f"from {least} to {most}" if most else f"of at least {least}"
        raise SettingsError(f"{name} is {value!r}: give an integer {wanted}")
