r"""Who says which of a user's classes are alike: a guide of the package, the model's own features, or a matrix."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from megu.datasets.folder import shown
from megu.guide import (
    SOURCES,
    Book,
    GuideUnavailableError,
    ask,
    draw_exemplars,
    draw_shots,
    heard,
    questions_for,
    to_ask,
)
from megu.measure.views import centroid_similarity, feature_table
from megu.perturbing_labels import similarity, transition_matrix
from megu.settings.errors import SettingsError
from megu.settings.values import closest

MODEL = "model"  # the similarity of the model's own class-mean features
NAMED = (
    *(name for name, source in SOURCES.items() if not getattr(source, "needs_model", False)),
    MODEL,
)  # what can be asked for by name


@dataclass(frozen=True)
class Choice:
    r"""A guide as asked for: ``source`` in `megu.guide.SOURCES`, ``model`` or ``matrix``; ``matrix``; whether another
    may stand in where it cannot work."""

    source: str
    matrix: np.ndarray | None = None
    free: bool = False


def choose_guide(guide, num_classes):
    r"""The `Choice` that ``guide`` means.

    Args:
        guide: a name, None (the composed guide, or what can stand in for it), a ``(K, K)`` transition matrix whose
            columns sum to 1, or the path of one as .csv or .npy.
        num_classes: K.
    Raises: SettingsError where it is none of these.
    """
    if guide is None:
        return Choice("composed", free=True)
    if isinstance(guide, str | Path) and str(guide).endswith((".csv", ".npy")):
        return Choice("matrix", checked(read_matrix(Path(guide)), num_classes, Path(guide).name))
    if isinstance(guide, str):
        if guide not in NAMED:
            raise SettingsError(closest(guide, NAMED, "guide") + "; or give a matrix, or a .csv or .npy file of one")
        return Choice(guide)
    return Choice("matrix", checked(guide, num_classes, "guide"))


def read_matrix(path):
    r"""A matrix from .npy or from comma-separated numbers.  Raises: SettingsError where it cannot be read."""
    try:
        return (
            np.load(path, allow_pickle=False)
            if path.suffix == ".npy"
            else np.loadtxt(path, delimiter=",", ndmin=2, encoding="utf-8")
        )
    except (OSError, ValueError, EOFError) as error:
        why = getattr(error, "strerror", None) or str(error).splitlines()[0][:100]
        raise SettingsError(
            f"{path.name} is no matrix of numbers ({why}): give K lines of K numbers with commas, or a .npy"
        ) from None


def checked(matrix, num_classes, what):
    r"""A transition matrix as ``(K, K)`` float64.  Raises: SettingsError where shape, sign or a column's sum is
    wrong."""
    try:
        matrix = np.asarray(matrix, float)
    except (TypeError, ValueError):
        raise SettingsError(
            f"{what} is a {type(matrix).__name__}: give the name of a guide, or a matrix of numbers"
        ) from None
    if matrix.shape != (num_classes, num_classes):
        raise SettingsError(
            f"{what} is a matrix of shape {matrix.shape}: give ({num_classes}, {num_classes}), one column for each"
            " class"
        )
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise SettingsError(f"{what} has entries that are negative or no numbers: give shares from 0 to 1")
    sums = matrix.sum(0)
    wrong = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[wrong] - 1) > 1e-4:
        raise SettingsError(
            f"column {wrong} of {what} sums to {sums[wrong]:.4g}: every column must sum to 1 (divide each by its sum)"
        )
    return matrix / sums


def matrix_of(choice, model, images, index, settings, device, path=None):
    r"""The transition matrix that a choice leads to.

    Args:
        choice: `Choice`.
        model: classifier, for ``model``.
        images: `megu.datasets.images.Images`.  index: training images that exemplars are drawn from.
        settings: `megu.settings.config.Guide`.  device: torch device.
        path: of the answers, or None for memory.
    Returns: (``(K, K)`` array, dictionary for the report: source, origin, answers, answers_sha256, matrix_sha256).
    Raises: SettingsError, or what the guide raises, where it cannot work and was asked for by name.
    """
    source, log = choice.source, logging.getLogger("megu")
    if choice.free and all(name.isdigit() for name in images.classes):
        source = "features"
        log.warning(
            "the classes have no names, only numbers: the guide without language (features) is asked instead of the"
            " composed one"
        )
    if source == "matrix":
        return choice.matrix, _about("matrix", "a matrix that was given", choice.matrix)
    if source != MODEL:
        try:
            return asked(source, images, index, settings, device, path)
        except GuideUnavailableError as missing:
            if not choice.free:
                raise
            log.warning(
                "the composed guide cannot be asked (%s): the model's own class-mean features stand in for it", missing
            )
    return of_model(model, images, index)


def asked(source, images, index, settings, device, path):
    r"""Matrix and report of a guide of the package, see `matrix_of`."""
    exemplars = draw_exemplars(images, index, settings.exemplars + 1, settings.exemplar_seed)
    small = shown(images, exemplars.to(images.x.device))
    drawn = (small, torch.arange(len(small.y)), settings.exemplars, settings.exemplar_seed)
    exemplars = draw_exemplars(*drawn)
    guide = SOURCES[source](small.classes, small, exemplars, settings, device)
    questions = list(questions_for(small, exemplars, draw_shots(*drawn) if getattr(guide, "shots", 0) else None))
    book = Book(settings.answers or path)
    if book.damaged:
        logging.getLogger("megu").warning(
            "%d lines of the answers do not carry their checksum (damaged or edited by hand): they are asked again",
            book.damaged,
        )
    known = sum(question.key(guide) in book.answers for question in questions)
    answers = ask(guide, to_ask(guide, questions, small.num_classes, settings.calibration), book)
    scores = heard(guide, answers, small.num_classes, settings.calibration)
    matrix = transition_matrix(
        similarity(scores, small.y.cpu().numpy()[exemplars.numpy()], small.num_classes, settings.calibration)
    )
    origin = (
        f"{len(questions)} answers of {guide.name} ({guide.version}), {len(questions) - known} asked now, {known} asked"
        " before"
    )
    digest = hashlib.sha256("\n".join(f"{answer.question} {answer.raw!r}" for answer in answers).encode()).hexdigest()
    return matrix, _about(source, origin, matrix, len(answers), digest)


def of_model(model, images, index):
    r"""Matrix and report of the model's own class-mean features: $S_{kl} = (1 + \cos(\mu_k - \mu, \mu_l - \mu)) /
    2$."""
    sim = centroid_similarity(feature_table(model, images, index), images.y[index].cpu().numpy(), images.num_classes)
    matrix = transition_matrix((1 + sim.clip(-1, 1)) / 2)
    return matrix, _about(MODEL, "the model's own class-mean features", matrix)


def _about(source, origin, matrix, answers=0, digest=None):
    return {
        "source": source, "origin": origin, "answers": answers, "answers_sha256": digest,
        "matrix_sha256": hashlib.sha256(np.ascontiguousarray(matrix, "<f8").tobytes()).hexdigest(),
    }  # fmt: skip
