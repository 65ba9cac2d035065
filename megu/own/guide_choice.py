r"""Who says which of a user's classes are alike: a guide of the package, the model's own features, or a matrix."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from megu.datasets.user_images import as_pictures
from megu.guide import SOURCES, GuideSession, GuideUnavailableError, draw_exemplars
from megu.measure.views import centroid_similarity, feature_table
from megu.perturbing_labels import similarity, transition_matrix
from megu.settings.errors import SettingsError
from megu.settings.files import hash_bytes
from megu.settings.values import closest

MODEL = "model"  # the similarity of the model's own class-mean features
NAMED = (*(name for name, source in SOURCES.items() if not source.needs_model), MODEL)  # what can be asked for by name


@dataclass(frozen=True)
class GuideChoice:
    r"""A guide as asked for: ``source`` in `megu.guide.SOURCES`, ``model`` or ``matrix``; ``matrix``; whether another
    may stand in where it cannot work."""

    source: str
    matrix: np.ndarray | None = None
    free: bool = False


def choose_guide(guide, num_classes):
    r"""The `GuideChoice` that ``guide`` means.

    Args:
        guide: a name, None (the composed guide, or what can stand in for it), a ``(K, K)`` transition matrix whose
            columns sum to 1, or the path of one as .csv or .npy.
        num_classes: K.
    Raises: SettingsError where it is none of these.
    """
    if guide is None:
        return GuideChoice("composed", free=True)
    if isinstance(guide, str | Path) and str(guide).endswith((".csv", ".npy")):
        return GuideChoice("matrix", checked(read_matrix(Path(guide)), num_classes, Path(guide).name))
    if isinstance(guide, str):
        if guide not in NAMED:
            raise SettingsError(closest(guide, NAMED, "guide") + "; or give a matrix, or a .csv or .npy file of one")
        return GuideChoice(guide)
    return GuideChoice("matrix", checked(guide, num_classes, "guide"))


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


def transition_of(checked, path=None):
    r"""The transition matrix that the choice of a `megu.own.request.CheckedRequest` leads to.

    Args:
        path: of the answers, or None for memory.
    Returns: (``(K, K)`` array, dictionary for the report: source, origin, answers, answers_sha256, matrix_sha256).
    Raises: SettingsError, or what the guide raises, where it cannot work and was asked for by name.
    """
    choice, images, index, log = checked.guide, checked.images, checked.forget.split.train, logging.getLogger("megu")
    source = choice.source
    if source == "matrix":
        return choice.matrix, _about(source, "a matrix that was given", choice.matrix)
    if choice.free and all(name.isdigit() for name in images.classes):
        source = "features"
        log.warning(
            "the classes have no names, only numbers: the guide without language (features) is asked instead of the"
            " composed one"
        )
    if source != MODEL:
        try:
            return of_guide(source, images, index, checked.settings, checked.compute.device, path)
        except GuideUnavailableError as missing:
            if not choice.free:
                raise
            log.warning(
                "the composed guide cannot be asked (%s): the model's own class-mean features stand in for it", missing
            )
    return of_features(checked.original, images, index)


def of_guide(source, images, index, settings, device, path):
    r"""Matrix and report of a guide of the package, see `transition_of`."""
    settings = settings.model_copy(update={"guide": settings.guide.model_copy(update={"source": source})})
    pool = draw_exemplars(images, index, settings.guide.exemplars + 1, settings.guide.exemplar_seed)
    pictures = as_pictures(images, pool.to(images.x.device))
    answers, allowed = settings.guide.answers or path, torch.arange(len(pictures.y))
    scores = GuideSession(settings, pictures, device, answers=answers, allowed=allowed).scores()
    matrix = transition_matrix(similarity(scores.values, scores.of_class, pictures.num_classes, scores.calibration))
    guide, count = scores.guide, len(scores.answers)
    origin = (
        f"{count} answers of {guide.name} ({guide.version}), {scores.new} asked now, {count - scores.new} asked before"
    )
    lines = "\n".join(f"{answer.question} {answer.raw!r}" for answer in scores.answers)
    return matrix, _about(source, origin, matrix, count, hash_bytes(lines))


def of_features(model, images, index):
    r"""Matrix and report of the model's own class-mean features: $S_{kl} = (1 + \cos(\mu_k - \mu, \mu_l - \mu)) /
    2$."""
    sim = centroid_similarity(feature_table(model, images, index), images.y[index].cpu().numpy(), images.num_classes)
    matrix = transition_matrix((1 + sim.clip(-1, 1)) / 2)
    return matrix, _about(MODEL, "the model's own class-mean features", matrix)


def _about(source, origin, matrix, answers=0, digest=None):
    return {
        "source": source, "origin": origin, "answers": answers, "answers_sha256": digest,
        "matrix_sha256": hash_bytes(np.ascontiguousarray(matrix, "<f8").tobytes()),
    }  # fmt: skip
