r"""The store of answers: JSON lines with a checksum each, safe under several writers and sudden death."""

import gzip
import json
import os
import zlib
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from filelock import FileLock


@dataclass(frozen=True)
class Answer:
    r"""The raw score of one question, with what it came from.

    Attributes:
        question: `megu.guide.Question.key`, over everything that the answer depends on.
        image: hash of the image.  label: the candidate.
        source, version: of the guide: model, revision or weights, prompt.
        raw: the score, on the guide's own scale.
        time: when it was kept, UTC, to the second.
        data: name of the data set that the image was asked about from; the hash, not the name, says which image it is.
        scale: ``log-odds`` where the score is that of a probability, else empty.
    """

    question: str
    image: str
    label: str
    source: str
    version: str
    raw: float
    time: str = ""
    data: str = ""
    scale: str = ""


@dataclass
class Book:
    r"""Answers as JSON lines, appended and flushed as they come.

    A line whose checksum does not hold, e.g. a half-written one, is left out and counted.

    Args:
        path: of the file; it need not exist.  None keeps the answers in memory.
    Attributes: answers, question -> `Answer`; damaged, number of lines that were left out.
    """

    path: Path | None = None
    answers: dict = field(default_factory=dict)
    damaged: int = 0

    def __post_init__(self):
        self._read()

    def _read(self):
        self.damaged = 0
        if self.path is not None and Path(self.path).exists():
            content = Path(self.path).read_bytes()
            for line in (gzip.decompress(content) if Path(self.path).suffix == ".gz" else content).splitlines():
                try:
                    values = json.loads(line)
                    if values.pop("check") != _check(values):
                        raise ValueError("checksum")
                    answer = Answer(**values)
                except (ValueError, TypeError, KeyError, AttributeError):
                    self.damaged += 1
                    continue
                self.answers.setdefault(
                    answer.question, answer
                )  # where two writers asked the same, the first answer stands

    def _lock(self, what):
        path = Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path.with_name(f".{path.name}{what}.lock"))

    @contextmanager
    def turn(self):
        r"""Wait until no other process asks for this file, and read what the others have added: nothing is asked
        twice."""
        with nullcontext() if self.path is None else self._lock(".turn"):
            self._read()
            yield

    def add(self, answers):
        r"""Keep answers, in memory and on disk before this returns; what was answered before stands as it is."""
        now, kept = datetime.now(UTC).isoformat(timespec="seconds"), {}
        for answer in answers:
            if answer.question not in self.answers:
                kept.setdefault(answer.question, replace(answer, time=answer.time or now))
        if kept and self.path is not None:
            self._append(kept.values())
        self.answers.update(kept)  # last: an interrupt in the middle of the file leaves them to be added again

    def _append(self, answers):
        with self._lock(""), open(self.path, "a+b") as file:
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                file.write(b"\n")  # after a crash in the middle of a line
            file.writelines(map(_line, answers))
            file.flush()
            os.fsync(file.fileno())


def _check(values):
    return f"{zlib.crc32(json.dumps(values, sort_keys=True).encode()):08x}"


def _line(answer):
    values = asdict(answer)
    return (json.dumps({**values, "check": _check(values)}) + "\n").encode()


@lru_cache
def shipped(data_name):
    r"""The `Book` of answers that comes with the package for an embedded data set, or an empty one; read once, and
    never added to."""
    path = Path(str(files("megu.guide") / "assets" / f"answers_{data_name.replace('-', '_')}.jsonl.gz"))
    return Book(path if path.exists() else None)
