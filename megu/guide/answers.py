"""Answers and their store: JSON lines with a checksum each, safe under several writers and sudden death."""

import gzip
import json
import math
import os
import sys
import zlib
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated

from filelock import FileLock
from pydantic import ConfigDict, Field, FiniteFloat

from megu.guide.base import AnswersMissingError, Guide
from megu.guide.questions import Question
from megu.settings.errors import SettingsError
from megu.settings.files import ordinary, writing
from megu.settings.progress import Bar

Hash = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
Text = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class Answer:
    """The raw score of one question; `megu.guide.import_answers` checks the annotations.

    Attributes:
        question: `megu.guide.Question.key`.  image: its hash.  source, version: of the guide.
        raw: on the guide's own scale.  scale: ``log-odds`` where it is that of a probability.
        time: when it was stored, UTC.  data: name of the data set.
    """

    question: Hash
    image: Hash
    label: Text
    source: Text
    version: Text
    raw: FiniteFloat
    time: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00)?$")] = ""
    data: str = ""
    scale: Annotated[str, Field(pattern="^(log-odds)?$")] = ""

    __pydantic_config__ = ConfigDict(extra="forbid")

    @classmethod
    def of(cls, guide: Guide, question: Question, score: float) -> "Answer":
        """What a guide says to a `megu.guide.Question`."""
        asked, scale = (question.key(guide), question.image_hash, question.label), "log-odds" if guide.log_odds else ""
        return cls(*asked, guide.name, guide.version, round(float(score), 6), data=question.data, scale=scale)


@dataclass
class AnswerStore:
    """Answers (question -> `Answer`) as JSON lines in the file ``path``, which need not exist, or in memory if None.
    Lines whose checksum does not hold are left out and counted as ``damaged``."""

    path: Path | None = None
    answers: dict = field(default_factory=dict)
    damaged: int = 0

    def __post_init__(self):
        self.path = self.path and Path(self.path)
        self._read()

    def _read(self):
        self.damaged = 0
        if not self.path or not self.path.exists():
            return
        ordinary(self.path)
        try:
            content = self.path.read_bytes()
            lines = (gzip.decompress(content) if self.path.suffix == ".gz" else content).splitlines()
        except (OSError, EOFError, zlib.error) as error:
            why = f"{self.path.name!r} cannot be read ({getattr(error, 'strerror', None) or error})"
            raise SettingsError(f"{why}: name JSON lines of answers, or none") from None
        for line in lines:
            try:
                values = json.loads(line)
                if values.pop("check") != checksum(values):
                    raise ValueError("checksum")
                answer = Answer(**values)
            except (ValueError, TypeError, KeyError, AttributeError):
                self.damaged += 1
            else:
                self.answers.setdefault(answer.question, answer)  # the first of two writers stands

    def _lock(self, what=""):
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return FileLock(self.path.with_name(f".{self.path.name}{what}.lock")).acquire()

    @contextmanager
    def turn(self):
        """Wait until no other process asks for this file, and read what they added."""
        with self._lock(".turn") if self.path else nullcontext():
            self._read()
            yield

    def add(self, answers):
        """Store answers, on disk before this returns; what was answered before stands."""
        now, fresh = datetime.now(UTC).isoformat(timespec="seconds"), {}
        for answer in answers:
            if answer.question not in self.answers:
                fresh.setdefault(answer.question, replace(answer, time=answer.time or now))
        if fresh and self.path:
            if self.path.suffix == ".gz":
                raise SettingsError(f"nothing can be added to {self.path.name!r}: unpack it, and name what comes out")
            with writing(self.path), self._lock(), open(self.path, "a+b") as file:
                if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    file.write(b"\n")  # after a crash in the middle of a line
                for values in map(vars, fresh.values()):
                    file.write(json.dumps({**values, "check": checksum(values)}).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        self.answers.update(fresh)  # last: after an interrupt above they are added again


def checksum(values: dict) -> str:
    """Eight hex digits over the values of an answer."""
    return f"{zlib.crc32(json.dumps(values, sort_keys=True).encode()):08x}"


@cache
def _shipped(data_name):
    file = f"answers_{data_name.replace('-', '_')}.jsonl.gz"
    return AnswerStore(Path(__file__).parent / "assets" / file).answers


def shipped_answers(guide: Guide, questions: list[Question]) -> list[Answer] | None:
    """The answers that come with the package, in the order of ``questions``; None where one is missing."""
    known, keys = _shipped(questions[0].data), [one.key(guide) for one in questions]
    return [known[key] for key in keys] if all(key in known for key in keys) else None


def ask(guide: Guide, questions: list[Question], store: AnswerStore, *, at_once: int = 100) -> list[Answer]:
    """Answers to all questions in their order, from the store or asked and stored now.

    ``at_once``: answers between two writes; after as many questions in a row without an answer no more are asked.
    Raises: GuideUnavailableError where the weights are missing; AnswersMissingError where some have no finite answer:
        the others are kept.
    """
    guide.recall(questions, store.answers)
    guide.failures.clear()
    name = None
    while guide.name != name:  # a guide may have to go on under another name
        name, keys = guide.name, [one.key(guide) for one in questions]
        if open_questions(keys, questions, store):
            with store.turn():
                fresh = open_questions(keys, questions, store)
                _ask_open(guide, sorted(fresh, key=guide.shared), store, at_once)
    if missing := open_questions(keys, questions, store):
        some = ", ".join(f"image {one.image_hash} with {one.label!r}" for one in missing[:3])
        why = "; ".join(f"{count} x {reason}" for reason, count in guide.failures.most_common(2))
        counted = f"{len(missing)} of {len(questions)} answers of {guide.name} are missing{f' ({why})' if why else ''}"
        raise AnswersMissingError(f"{counted}, e.g. {some}.  The others are kept: ask again")
    return [store.answers[key] for key in keys]


def open_questions(keys: list[str], questions: list[Question], store: AnswerStore) -> list[Question]:
    """Those whose keys have no answer in the store, each once."""
    return [one for key, one in dict(zip(keys, questions, strict=True)).items() if key not in store.answers]


def _ask_open(guide, questions, store, at_once):
    fresh, silent, told = [], 0, False
    try:
        stream = guide.stream(questions)
        bar = Bar(stream, total=len(questions), desc=guide.name, unit="question")
        for done, (at, score) in enumerate(bar, 1):
            silent = 0 if math.isfinite(score) else silent + 1
            if not silent:
                fresh.append(Answer.of(guide, questions[at], score))
            if len(fresh) >= (1 if guide.costly else at_once):
                store.add(fresh)
                fresh = []
            if silent >= at_once:
                guide.stop()  # what is under way still comes
            if guide.seconds_each and not told:
                told = True
                _estimate(guide, len(questions) - done, bar.disable)
    finally:
        store.add(fresh)  # also after an interrupt or an error in the guide


def _estimate(guide, left, quiet):
    def about(seconds):
        return f"{seconds:.2g} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"

    alone = guide.seconds_each * left
    if left and (guide.costly or alone >= 10 and not quiet):
        took, n = about(alone / guide.parallel), guide.parallel
        one_by_one = f" if {n} are answered at once, else up to {about(alone)}" if n > 1 else ""
        Bar.write(f"{guide.name}: {left} more questions take about {took}{one_by_one}", file=sys.stderr)
