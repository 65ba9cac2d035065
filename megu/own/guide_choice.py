"""Who says which classes are alike: a guide of the package, the model's own features, or a matrix."""

import logging
from pathlib import Path

import numpy as np
import torch

from megu.core.device import Stopwatch
from megu.datasets.user_images import as_pictures
from megu.guide import SOURCES, GuideSession, GuideUnavailableError, codes, draw_exemplars
from megu.perturbing_labels import similarity, transition_matrix
from megu.settings.errors import SettingsError
from megu.settings.files import hash_bytes, ordinary
from megu.settings.values import closest

NAMED = (*(name for name, source in SOURCES.items() if not source.needs_model), "model")  # "model": its features
_log = logging.getLogger("megu")


def choose_guide(guide, classes):
    """What a request's ``guide`` means: (name in `NAMED` or ``matrix``, the ``(K, K)`` float64 matrix or None).

    Args: guide: a name in `NAMED`, None (the composed guide, or what can stand in for it), a transition matrix whose
        columns sum to 1 up to 1e-4, or its path (.csv, .npy).  classes: names; a guide of words cannot read `codes`.
    Raises: SettingsError where it is none of these.
    """
    what = "guide"
    if isinstance(guide, str | Path) and str(guide).endswith((".csv", ".npy")):
        what, guide = Path(guide).name, _read_matrix(ordinary(Path(guide)))
    if guide is None:
        if coded := codes(classes):
            remedy = "give their names in words (classes=) to have a guide of words asked"
            said = "classes are called e.g. %r: the guide without language (features) is asked; %s"
            _log.warning(said, coded, remedy)
        return "features" if coded else "composed", None
    if not isinstance(guide, str):
        return "matrix", _check_matrix(guide, classes, what)
    if guide not in NAMED:
        raise SettingsError(closest(guide, NAMED, what) + "; or give a matrix, or its .csv or .npy")
    return guide, None


def _read_matrix(path):
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        return np.loadtxt(path, delimiter=",", ndmin=2, encoding="utf-8")
    except (OSError, ValueError, EOFError) as error:
        why = getattr(error, "strerror", None) or str(error).splitlines()[0][:100]
        raise SettingsError(f"{path.name} is no matrix ({why}): give K lines of K numbers with commas") from None


def _check_matrix(matrix, classes, what):
    num_classes = len(classes)
    try:
        if hasattr(matrix, "loc"):  # a DataFrame says which class is where
            matrix = matrix.loc[list(classes), list(classes)]
        array = np.asarray(matrix, float)
        why = f"is a matrix of shape {array.shape}"
    except KeyError:
        array, why = np.zeros(0), "is a DataFrame whose rows and columns are not called as the classes"
    except (TypeError, ValueError, RuntimeError):  # the last: a tensor that takes a gradient
        array, why = np.zeros(0), f"is a {type(matrix).__name__}"
    if array.shape == (num_classes, num_classes):
        why = "has entries that are negative or no numbers"
        if np.isfinite(array).all() and (array >= 0).all():
            sums = array.sum(0)
            wrong = np.abs(sums - 1).argmax()
            if abs(sums[wrong] - 1) <= 1e-4:
                return array / sums
            why = f"has a column, number {wrong}, that sums to {sums[wrong]:.4g}"
    raise SettingsError(f"{what} {why}: give a name, or a {num_classes} x {num_classes} matrix whose columns sum to 1")


def transition(checked, store):
    """``(K, K)`` transition matrix of a `megu.own.request.CheckedRequest`, and facts; two None where none is asked.

    Args: store: `megu.runs.store.RunDirectory`, or what stands for it.
    Raises: what a guide raises that was asked for by name; StageError where the store's matrix was another.
    """
    if not checked.method.guided:
        return None, None
    clock = Stopwatch()
    with clock("guide"):
        matrix, about = _chosen(checked, store.path and store.path / "answers.jsonl")
    store.same("transition matrix", about["matrix_sha256"][:16])  # else the kept model would be another guide's
    # Origin and seconds stay those of the first call, which asked.
    first = store.manifest["notes"].get("guide", {"about": about, "seconds": clock.seconds})
    store.note("guide", first)
    checked.clock.seconds.update(first["seconds"])
    return matrix, {**about, "origin": first["about"]["origin"]}


def _chosen(checked, path):
    source, free = checked.guide, checked.request.guide is None
    if source == "matrix":
        return _described(source, "a matrix that was given", checked.matrix)
    if source != "model":
        try:
            return _of_guide(source, checked, path)
        except GuideUnavailableError as missing:
            if not free:
                raise
            _log.warning("guide %s cannot be asked (%s): the model's own features stand in for it", source, missing)
    return _of_features(checked.original, checked.images, checked.split.train)


def session_of(source, checked, path) -> GuideSession:
    """What a guide of `SOURCES` is asked about a request.  Args: path: of the answers, or None.
    Raises: GuideUnavailableError where it would look at images that are no pictures."""
    guide = checked.settings.guide.model_copy(update={"source": source})
    settings, images = checked.settings.model_copy(update={"guide": guide}), checked.images
    if (channels := images.shape[0]) not in (1, 3) and SOURCES[source].any_image and source != "replay":
        what = f"guide {source} looks at pictures of 1 or 3 channels, and these have {channels}"
        raise GuideUnavailableError(f"{what}: choose guide names or model, or give a matrix")
    pool = draw_exemplars(images, checked.split.train, guide.exemplars + 1, guide.exemplar_seed)
    pictures = as_pictures(images, pool.to(images.x.device))
    how = {"answers": guide.answers or path, "allowed": torch.arange(len(pictures.y))}
    return GuideSession(settings, pictures, checked.compute.device, **how)


def _of_guide(source, checked, path):
    scores = session_of(source, checked, path).scores()
    classes = checked.images.num_classes
    matrix = transition_matrix(similarity(scores.values, scores.of_class, classes, scores.calibration))
    guide, count, new = scores.guide, len(scores.answers), scores.new
    origin = f"{count} answers of {guide.name} ({guide.version}), {new} asked now, {count - new} asked before"
    lines = "\n".join(f"{answer.question} {answer.raw!r}" for answer in scores.answers)
    return _described(source, origin, matrix, count, hash_bytes(lines))


def _of_features(model, images, index):
    r"""$S_{kl} = (1 + \cos(\mu_k - \mu, \mu_l - \mu)) / 2$ of class-mean features."""
    from megu.measure.views import centroid_similarity, feature_table  # noqa: PLC0415  (a refusal waits for no sklearn)

    sim = centroid_similarity(feature_table(model, images, index), images.y[index].cpu().numpy(), images.num_classes)
    return _described("model", "the model's own class-mean features", transition_matrix((1 + sim.clip(-1, 1)) / 2))


def _described(source, origin, matrix, answers=0, digest=None):
    if np.ptp(matrix) < 1e-9:
        _log.warning("guide %s tells no classes apart: the labels follow the order of the classes alone", source)
    about = {"source": source, "origin": origin, "answers": answers, "answers_sha256": digest}
    return matrix, {**about, "matrix_sha256": hash_bytes(np.ascontiguousarray(matrix, "<f8").tobytes())}
