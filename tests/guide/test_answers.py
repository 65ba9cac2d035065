"""The store of answers: kept once under several processes and kill -9, exported, imported, replayed."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from loopback import asked, client, odds_of, reply

from megu import guide
from megu.guide import Answer, Book
from megu.guide.table import export_answers, import_answers
from megu.settings.config import Guide
from megu.settings.errors import SettingsError


class Constant:
    """Answers with the length of the label, and counts."""

    name, version, log_odds = "constant", "1", True

    def __init__(self, answered=lambda number: True):
        self.asked, self.answered = 0, answered

    def score(self, questions):
        for question in questions:
            self.asked += 1
            yield float(len(question.label)) if self.answered(self.asked) else float("nan")


def test_a_guide_that_stays_silent_is_given_up_and_the_rest_stays_open(tmp_path):
    questions, book = asked(200), Book(tmp_path / "a.jsonl")
    silent = Constant(lambda number: number <= 50)
    with pytest.raises(guide.AnswersMissingError, match="350 of 400 .* The others are kept"):
        guide.ask(silent, questions, book)
    assert silent.asked == 150 and len(Book(tmp_path / "a.jsonl").answers) == 50
    now_and_then = Constant(lambda number: number % 100 == 0)  # 99 in a row without one are not enough
    with pytest.raises(guide.AnswersMissingError):
        guide.ask(now_and_then, questions, book)
    assert now_and_then.asked == 350


def test_the_first_answer_stands_in_memory_and_in_the_file(tmp_path):
    one, other = Answer("q" * 16, "i", "shirt", "s", "v", 1.0), Answer("q" * 16, "i", "shirt", "s", "v", 2.0)
    book, late = Book(tmp_path / "a.jsonl"), Book(tmp_path / "a.jsonl")
    book.add([one, other])
    book.add([other])
    late.add([other])  # a process that has not read the first one
    assert book.answers[one.question].raw == 1.0 and Book(tmp_path / "a.jsonl").answers[one.question].raw == 1.0
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 2


def test_an_interrupt_in_the_middle_of_the_file_leaves_the_answers_to_be_added_again(tmp_path, monkeypatch):
    book, answer = Book(tmp_path / "a.jsonl"), Answer("q" * 16, "i", "shirt", "s", "v", 1.0)

    def interrupted(file):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fsync", interrupted)
        book.add([answer])
    book.add([answer])
    assert Book(tmp_path / "a.jsonl").answers[answer.question].raw == 1.0


OLDER = (
    '{"question": "5aedf10e7964f1cd", "image": "836289bb509342cc", "label": "t-shirt", "source": "efficientnet-lite0'
    ' words x all-MiniLM-L6-v2", "version": "lite0 57934424, minilm 53aa5117, 40 words, T 4, names e811dfa8", "raw":'
    ' 0.388766, "time": "", "check": "b9dc528a"}'
)


def test_answers_of_an_older_file_are_read(tmp_path):
    (tmp_path / "a.jsonl").write_text(OLDER)
    (answer,) = Book(tmp_path / "a.jsonl").answers.values()
    assert (answer.raw, answer.scale) == (0.388766, "")


ASK = """
import sys
from loopback import asked, client
from megu import guide
guide.ask(client(sys.argv[1], concurrency=4), asked(60), guide.Book(sys.argv[2]))
"""


def test_kill_9_loses_nothing_and_another_process_that_waits_asks_only_the_rest(serve, tmp_path):
    path, answered, some, many = tmp_path / "a.jsonl", Counter(), threading.Event(), threading.Event()

    def answer(body, number):
        answered[json.dumps(body["messages"])] += 1
        some.set() if number == 20 else many.set() if number == 50 else None
        time.sleep(0.02)
        return 200, reply(odds_of(body))

    url, seen = serve(answer)
    one, questions = client(url, concurrency=4), asked(60)
    messages = {question.key(one): json.dumps(one.body(question)["messages"]) for question in questions}
    where = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    first = subprocess.Popen(
        [sys.executable, "-c", ASK, url, str(path)],
        env=where,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert some.wait(60), first.communicate(timeout=1)[0]
    with ThreadPoolExecutor(1) as waiting:
        second = waiting.submit(
            guide.ask, one, questions, Book(path)
        )  # waits until no other process asks for this file
        assert many.wait(60)
        first.kill()
        first.communicate()
        kept = Book(path)
        answers = second.result(60)
    assert 40 <= len(kept.answers) < 120 and kept.damaged <= 1
    assert [answer.raw for answer in answers] == pytest.approx(
        [odds_of(one.body(question)) for question in questions], abs=1e-5
    )
    assert Book(path).answers.keys() == messages.keys() and set(answered) == set(messages.values())
    assert all(answered[messages[key]] == 1 for key in kept.answers)  # what was kept was never asked again
    # Asked twice: what was under way when the process died, at most one question for each of its four threads.
    assert seen["requests"] <= 120 + 4 and max(answered.values()) <= 2


@pytest.fixture
def book():
    """Answers of two guides, with names that are hard on a table."""
    kept = Book()
    questions = asked(3, labels=("null", 'a, "b"', "naïve"))
    guide.ask(Constant(), questions, kept)
    other = Constant()
    other.name = "another"
    guide.ask(other, questions[:2], kept)
    return kept


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_exported_answers_come_back_as_they_were(book, kind, tmp_path):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    file = tmp_path / f"out.{kind}"
    export_answers(book, file)
    back = Book(tmp_path / "back.jsonl")
    assert import_answers(file, back) == (11, {}) and back.answers == book.answers
    assert Book(tmp_path / "back.jsonl").answers == book.answers  # with checksums of their own
    assert import_answers(file, back) == (0, {"answered before": 11})


def test_the_columns_are_those_of_an_answer(book, tmp_path):
    export_answers(book, tmp_path / "out.csv")
    assert list(pd.read_csv(tmp_path / "out.csv").columns) == [
        "question",
        "image",
        "label",
        "source",
        "version",
        "raw",
        "time",
        "data",
        "scale",
    ]


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_rows_that_are_no_answers_are_refused_and_counted(book, kind, tmp_path):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    rows = [asdict(answer) for answer in book.answers.values()]
    wrong = [
        ("question", "xyz"),
        ("image", rows[1]["image"] + "0"),
        ("label", ""),
        ("raw", np.inf),
        ("raw", np.nan),
        ("time", "yesterday"),
        ("scale", "percent"),
    ]
    for row, (column, value) in zip(rows, wrong, strict=False):
        row[column] = value
    table = pd.DataFrame(rows)
    (
        table.to_csv(tmp_path / "in.csv", index=False)
        if kind == "csv"
        else table.to_parquet(tmp_path / "in.parquet", index=False)
    )
    back = Book(tmp_path / "back.jsonl")
    kept, left_out = import_answers(tmp_path / f"in.{kind}", back)
    assert kept == 11 - len(wrong) == len(Book(tmp_path / "back.jsonl").answers)
    assert left_out == {
        **{f"no answer ({column})": 1 for column in ("question", "image", "label", "time", "scale")},
        "no answer (raw)": 2,
    }
    table.drop(columns="source").assign(more=1).to_csv(tmp_path / "other.csv", index=False)
    assert import_answers(tmp_path / "other.csv", Book())[0] == 0


def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    (tmp_path / "a.csv").write_bytes(b"")
    for name, message in (
        ("a.parquet", "cannot be read|needs pyarrow"),
        ("a.csv", "cannot be read"),
        ("b.csv", "does not exist"),
        ("a.xls", "is no .parquet"),
    ):
        with pytest.raises(SettingsError, match=message) as refused:
            import_answers(tmp_path / name, Book())
        assert "\n" not in str(refused.value) and str(tmp_path) not in str(refused.value)


def test_answers_are_replayed_without_the_guide(book, tmp_path):
    export_answers(book, tmp_path / "a.jsonl")
    path, questions = str(tmp_path / "a.jsonl"), asked(3, labels=("null", 'a, "b"', "naïve"))
    with pytest.raises(
        guide.GuideUnavailableError, match="answers of 2 guides: set guide.model to one of 'another', 'constant'"
    ):
        guide.ReplayGuide(settings=Guide(path=path))
    one = guide.ReplayGuide(settings=Guide(path=path, model="constant"))
    assert one.log_odds and one.name == "constant (replayed)"
    corrected = Book(tmp_path / "b.jsonl")
    corrected.add([replace(answer, raw=answer.raw + 1) for answer in book.answers.values()])
    other = guide.ReplayGuide(settings=Guide(path=str(tmp_path / "b.jsonl"), model="constant"))
    assert questions[0].key(one) != questions[0].key(other)  # answers of another file are other answers
    found = guide.ask(one, questions[::-1], Book())
    assert [answer.raw for answer in found] == [float(len(question.label)) for question in questions[::-1]]
    part = guide.ReplayGuide(settings=Guide(path=path, model="another"))
    assert np.isnan(part.score(questions)).tolist() == [False] * 2 + [True] * 7
    kept = Book()
    with pytest.raises(guide.AnswersMissingError, match=r"7 of 9 .*not in a\.jsonl"):
        guide.ask(guide.ReplayGuide(settings=Guide(path=path, model="another")), questions[::-1], kept)
    assert len(kept.answers) == 2
    wanted = "has no answers of the guide that is asked for, but of 'another', 'constant'"
    for settings, message in (
        ({"path": path, "model": "nobody"}, wanted),
        ({"path": path + "x"}, "is none"),
        ({}, "needs guide.path"),
    ):
        with pytest.raises(guide.GuideUnavailableError, match=message):
            guide.ReplayGuide(settings=Guide(**settings))


def test_a_replay_takes_one_version_and_one_answer_to_a_question(tmp_path):
    book, (question, *_) = Book(tmp_path / "a.jsonl"), asked(1)
    guide.ask(Constant(), [question], book)
    (answer,) = book.answers.values()
    book.add([replace(answer, question="0" * 16, version="2", raw=9.0)])
    with pytest.raises(guide.GuideUnavailableError, match="set guide.revision to one of '1', '2'"):
        guide.ReplayGuide(settings=Guide(path=str(tmp_path / "a.jsonl")))
    assert guide.ReplayGuide(settings=Guide(path=str(tmp_path / "a.jsonl"), revision="2")).score([question]) == [9.0]
    book.add([replace(answer, question="1" * 16)])  # as with other worked examples
    with pytest.raises(guide.GuideUnavailableError, match="1 questions answered twice"):
        guide.ReplayGuide(settings=Guide(path=str(tmp_path / "a.jsonl"), revision="1"))
