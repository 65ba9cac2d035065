r"""The guide protocol: questions about image and label, answers that are kept and asked only once."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from tqdm import tqdm

from megu.device import generator


class GuideUnavailableError(RuntimeError):
    """The guide's weights are not here; the message says what to install."""


@dataclass(frozen=True, eq=False)
class Question:
    r"""Does this image show a photo of ``label``?

    Attributes:
        image: ``(C, H, W)`` uint8, the exemplar.
        label: candidate class name.
        shots: worked examples put before the question: pairs (image, whether it shows ``label``); empty for zero-shot guides.
    """

    image: np.ndarray
    label: str
    shots: tuple[tuple[np.ndarray, bool], ...] = ()

    @cached_property
    def image_hash(self):
        """Sixteen hex digits over shape and pixels."""
        return _image_hash(self.image)

    def key(self, guide):
        """Sixteen hex digits over guide, its version, image, label and shots: what makes an answer reusable."""
        shots = [(_image_hash(image), holds) for image, holds in self.shots]
        return _digest(json.dumps([guide.name, guide.version, self.image_hash, self.label, shots]).encode())


@dataclass(frozen=True)
class Answer:
    """The raw score of one question, with what it came from."""

    question: str
    image: str
    label: str
    source: str
    version: str
    raw: float


class Guide(Protocol):
    r"""Anything that scores how well an image fits a label.

    ``name`` says what it is, ``version`` pins model, weights and prompt. `score` takes questions in any order and yields
    one raw number for each, in that order; higher = more alike; the scale is the guide's own.
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


@dataclass
class Book:
    r"""Answers as JSON lines, appended and flushed as they come; a half-written last line is ignored.

    Args:
        path: of the file; it need not exist.  None keeps the answers in memory.
    """

    path: Path | None = None
    answers: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.path is not None and Path(self.path).exists():
            for line in Path(self.path).read_text().splitlines():
                try:
                    answer = Answer(**json.loads(line))
                except (json.JSONDecodeError, TypeError):
                    continue
                self.answers[answer.question] = answer

    def add(self, answers):
        r"""Keep answers, in memory and on disk before this returns."""
        self.answers.update({answer.question: answer for answer in answers})
        if self.path is None:
            return
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                file.write(b"\n")  # after a crash in the middle of a line
            file.writelines((json.dumps(asdict(answer)) + "\n").encode() for answer in answers)
            file.flush()
            os.fsync(file.fileno())


def shipped(data_name):
    r"""The `Book` of answers that comes with the package for an embedded data set, or an empty one."""
    path = Path(str(files("megu") / "assets" / f"answers_{data_name.replace('-', '_')}.jsonl"))
    return Book(path if path.exists() else None)


def ask(guide, questions, book, *, at_once=100):
    r"""Answers to all questions: those in the book are read, the others asked, kept and returned.

    Args:
        guide: `Guide`.
        questions: list of `Question`, in any order.
        book: `Book`; grows while the guide works, so an interrupted call goes on where it stopped.
        at_once: questions between two writes.
    Returns: list of `Answer` in the order of ``questions``.
    Raises: GuideUnavailableError where a question is open and the guide's weights are missing; ValueError for an answer that is no number.
    """
    keys = [question.key(guide) for question in questions]
    open_ones = [(key, question) for key, question in zip(keys, questions, strict=True) if key not in book.answers]
    with tqdm(total=len(questions), initial=len(questions) - len(open_ones), desc=guide.name, unit="question", leave=False) as bar:
        for start in range(0, len(open_ones), at_once):
            chunk = open_ones[start : start + at_once]
            scores = list(guide.score([question for _, question in chunk]))
            if len(scores) != len(chunk) or not np.isfinite(scores).all():
                raise ValueError(f"{guide.name} gave {np.isfinite(scores).sum()} usable answers to {len(chunk)} questions; those before are kept")
            book.add([
                Answer(key, question.image_hash, question.label, guide.name, guide.version, round(float(score), 6))
                for (key, question), score in zip(chunk, scores, strict=True)
            ])  # fmt: skip
            bar.update(len(chunk))
    return [book.answers[key] for key in keys]


def draw_exemplars(images, allowed, count, seed=0):
    r"""Exemplars of each class, drawn once per data set (A1).

    Args:
        images: `megu.data.Images`.
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


def questions_for(images, exemplars) -> Iterator[Question]:
    r"""Every exemplar with every candidate label, exemplar by exemplar: m * K questions."""
    for image in images.x[exemplars.to(images.x.device)].cpu().numpy():
        for label in images.classes:
            yield Question(image, label)


def answer_matrix(answers, num_classes):
    r"""Raw scores of `questions_for` as an array ``(m, K)`` float64."""
    return np.array([answer.raw for answer in answers]).reshape(-1, num_classes)
