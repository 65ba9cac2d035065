r"""The guide protocol: questions about image and label, answers that are kept and asked only once."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from tqdm import tqdm

from megu.core.device import generator
from megu.guide.book import Answer, shipped
from megu.settings.errors import MeguError, SettingsError


class AnswersMissingError(MeguError, RuntimeError):
    """Some questions have no usable answer; the message says which, and the others are kept."""


class GuideUnavailableError(MeguError, RuntimeError):
    """The guide's weights are not here; the message says what to install."""


@dataclass(frozen=True, eq=False)
class Question:
    r"""Does this image show a photo of ``label``?

    Attributes:
        image: ``(C, H, W)`` uint8, the exemplar.
        label: candidate class name.
        shots: worked examples put before the question: pairs (image, whether it shows ``label``); empty for zero-shot
            guides.
        data: name of the data set, kept with the answer.
    """

    image: np.ndarray
    label: str
    shots: tuple[tuple[np.ndarray, bool], ...] = ()
    data: str = ""

    @cached_property
    def image_hash(self):
        """Sixteen hex digits over shape and pixels."""
        return _image_hash(self.image)

    @cached_property
    def shots_hash(self):
        """List of (hash of the image, True or False), one for each worked example."""
        return [(_image_hash(image), holds) for image, holds in self.shots]

    def key(self, guide):
        """Sixteen hex digits over guide, its version, image, label and shots: what makes an answer reusable."""
        return _digest(json.dumps([guide.name, guide.version, self.image_hash, self.label, self.shots_hash]).encode())


class Guide(Protocol):
    r"""Anything that scores how well an image fits a label.

    ``name`` says what it is, ``version`` pins model, weights and prompt. `score` takes questions in any order and
    yields one raw number for each, in that order; higher = more alike; the scale is the guide's own.  No number (NaN)
    where it got no answer.
    A guide that yields each score when it has it loses none of them to an interrupt.

    A guide may say more: ``shots``, worked examples that each question needs (0); ``log_odds``, whether a raw score is
        that of a probability (False); ``shared(question)``, text that is equal where questions are cheaper together;
        ``cost``, what answers took;
    ``any_image``, whether it can be asked about images other than exemplars (True); ``slow``, whether answers that come
    with the package are read rather than asked again (False); ``needs_model``, whether it is made with ``model``, the
    original, and ``held_out``, validation images (False).
    ``dear``, whether each answer is written at once, as one that was paid for (False); ``as_they_come(questions)``,
    which yields pairs (position of the question, score) in any order, each as soon as it is known; ``stop()``, after
    which it asks no more
    but gives what is under way.
    """

    name: str
    version: str

    def score(self, questions: list[Question]) -> Iterable[float]:
        """One raw score for each question."""
        ...


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


def _image_hash(image):
    return _digest(str(image.shape).encode() + np.ascontiguousarray(image).tobytes())


def ask(guide, questions, book, *, at_once=100):
    r"""Answers to all questions: those in the book are read, the others asked, kept and returned.

    Args:
        guide: `Guide`.
        questions: list of `Question`, in any order.
        book: `megu.guide.book.Book`; grows while the guide works, so an interrupted call goes on where it stopped.
        at_once: answers between two writes; after as many questions in a row without an answer no more are asked.
    Returns: list of `megu.guide.book.Answer` in the order of ``questions``.
    Raises: GuideUnavailableError where a question is open and the guide's weights are missing; AnswersMissingError
        where some answers are no numbers: those are never replaced, and the others are kept.
    """
    keys = [question.key(guide) for question in questions]
    if any(key not in book.answers for key in keys):
        with book.turn():
            _ask_open(
                guide,
                {key: question for key, question in zip(keys, questions, strict=True) if key not in book.answers},
                book,
                at_once,
            )
    if missing := [question for key, question in zip(keys, questions, strict=True) if key not in book.answers]:
        some = ", ".join(f"image {question.image_hash} with {question.label!r}" for question in missing[:3])
        why = f" ({failures})" if (failures := dict(getattr(guide, "failures", {}))) else ""
        raise AnswersMissingError(
            f"{len(missing)} of {len(questions)} answers of {guide.name} are missing{why}:"
            f" {some}{' ...' * (len(missing) > 3)}.  The others are kept: ask again for these"
        )
    return [book.answers[key] for key in keys]


def _ask_open(guide, questions, book, at_once):
    questions = list(questions.items())
    if hasattr(guide, "shared"):
        questions.sort(key=lambda one: guide.shared(one[1]))
    fresh, silent, scale = [], 0, "log-odds" if getattr(guide, "log_odds", False) else ""
    asked = [question for _, question in questions]
    try:
        # A guide that stops early leaves the rest open, which is then said.
        scores = guide.as_they_come(asked) if hasattr(guide, "as_they_come") else enumerate(guide.score(asked))
        with tqdm(total=len(questions), desc=guide.name, unit="question", leave=False) as bar:
            for at, score in scores:
                bar.update()
                silent = 0 if math.isfinite(score) else silent + 1
                if math.isfinite(score):
                    key, question = questions[at]
                    about = {"source": guide.name, "version": guide.version, "data": question.data, "scale": scale}
                    fresh.append(Answer(key, question.image_hash, question.label, raw=round(float(score), 6), **about))
                if len(fresh) >= (1 if getattr(guide, "dear", False) else at_once):
                    book.add(fresh)
                    fresh = []
                if silent >= at_once and not hasattr(guide, "stop"):
                    break
                if silent >= at_once:
                    guide.stop()  # what is under way still comes
    finally:
        book.add(fresh)  # also after an interrupt or an error in the guide


def replayed(guide, questions, data_name):
    r"""The answers that come with the package, in the order of ``questions``; None where one of them is not among
    those."""
    known, keys = shipped(data_name).answers, [question.key(guide) for question in questions]
    return [known[key] for key in keys] if all(key in known for key in keys) else None


def draw_exemplars(images, allowed, count, seed=0):
    r"""Exemplars of each class, drawn once per data set (A1).

    Args:
        images: `megu.datasets.images.Images`.
        allowed: ``(n,)`` int64, images that may be drawn; training images without validation.
        count: exemplars of each class, fewer where a class is smaller.
        seed: of the draw.
    Returns: ``(m,)`` int64 on the CPU, class by class.
    """
    allowed = allowed.cpu()
    y = images.y.cpu()[allowed]
    gen = generator(seed, images.name, "exemplars", *images.classes)
    chosen = []
    for k in range(images.num_classes):
        members = allowed[y == k]
        chosen.append(members[torch.randperm(len(members), generator=gen)[:count]])
    return torch.cat(chosen)


def exemplar_images(images, exemplars):
    r"""What a guide that is built from exemplars knows of them: (pixels ``(m, C, H, W)`` uint8 array, classes ``(m,)``
    int64, eight hex digits over both)."""
    x, y = images.x[exemplars.to(images.x.device)].cpu().numpy(), images.y[exemplars.to(images.y.device)].cpu()
    return x, y, hashlib.sha256(x.tobytes() + y.numpy().tobytes()).hexdigest()[:8]


def draw_shots(images, allowed, count, seed=0):
    r"""Two worked examples for every label: an image of it (True) and one of some other class (False).

    Args: as of `draw_exemplars`; the images are those that come next in the same draw, so no exemplar is shown with its
        own answer (unless a class has no more images).
    Returns: dictionary, label -> ((image, True), (image, False)).
    Source: arXiv 2602.17088 section 4.1.
    """
    drawn = draw_exemplars(images, allowed, count + 1, seed)
    y = images.y.cpu()[drawn]
    example = {k: images.x[drawn[y == k][-1].item()].cpu().numpy() for k in range(images.num_classes)}
    other = (
        torch.arange(images.num_classes)
        + torch.randint(1, images.num_classes, (images.num_classes,), generator=generator(seed, "shots"))
    ) % images.num_classes
    return {label: ((example[k], True), (example[int(other[k])], False)) for k, label in enumerate(images.classes)}


def questions_for(images, exemplars, shots=None) -> Iterator[Question]:
    r"""Every exemplar with every candidate label, exemplar by exemplar: m * K questions; ``shots``: see `draw_shots`,
    None for none."""
    for image in images.x[exemplars.to(images.x.device)].cpu().numpy():
        for label in images.classes:
            yield Question(image, label, shots[label] if shots else (), images.name)


def to_ask(guide, questions, num_classes, calibration):
    r"""``questions`` of `questions_for`, and with ``content-free`` calibration K more after them: about an image that
    shows nothing, all of one grey.

    Raises: SettingsError where the guide cannot be asked about such an image.
    """
    if calibration != "content-free":
        return questions
    if not (getattr(guide, "log_odds", False) and getattr(guide, "any_image", True)):
        raise SettingsError(
            f"guide.calibration is 'content-free', but {guide.name} cannot be asked about an image without content: set"
            " it to 'column'"
        )
    return questions + [
        replace(question, image=np.full_like(question.image, 127)) for question in questions[:num_classes]
    ]


def heard(guide, answers, num_classes, calibration):
    r"""What `megu.perturbing_labels.similarity` takes of the answers to `to_ask`: array ``(m, K)``.

    Raw scores for ``column`` calibration; else probabilities $\sigma(s)$ of a guide whose scores s are log-odds, for
    ``content-free`` after subtraction of what it says of the label about an image that shows nothing.
    """
    scores = answer_matrix(answers, num_classes)
    if calibration == "content-free":
        scores = scores[:-1] - scores[-1]
    return 1 / (1 + np.exp(-scores)) if getattr(guide, "log_odds", False) and calibration != "column" else scores


def answer_matrix(answers, num_classes):
    r"""Raw scores of `questions_for` as an array ``(m, K)`` float64."""
    return np.array([answer.raw for answer in answers]).reshape(-1, num_classes)
