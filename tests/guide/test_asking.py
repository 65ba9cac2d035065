"""Asking: once, in any order, through crashes, several processes and kill -9; nothing lost, nothing invented."""

import gzip
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from loopback import asked, client, odds_of, reply
from refusals import refused

from megu.guide import Answer, AnswersMissingError, AnswerStore, Guide, GuideContext, ImageGuide, Question, ask
from megu.settings.errors import StageError


class Constant(Guide):
    """Answers with the mean of the image and the length of the label, and counts."""

    name, version = "constant", "1"

    def __init__(self, answered=lambda number: True, fail_after=None):
        super().__init__(GuideContext())
        self.asked, self.answered, self.fail_after = 0, answered, fail_after

    def score(self, questions):
        for question in questions:
            if self.asked == self.fail_after:
                raise KeyboardInterrupt
            self.asked += 1
            score = float(question.image.mean()) + len(question.label)
            yield score if self.answered(self.asked) else float("nan")


ANSWER = Answer("q" * 16, "i", "shirt", "s", "v", 1.0)
OLDER = (  # without data and scale
    '{"question": "5aedf10e7964f1cd", "image": "836289bb509342cc", "label": "t-shirt", "source": "efficientnet-lite0'
    ' words x all-MiniLM-L6-v2", "version": "lite0 57934424, minilm 53aa5117, 40 words, T 4, names e811dfa8", "raw":'
    ' 0.388766, "time": "", "check": "b9dc528a"}'
)


@pytest.fixture
def path(tmp_path):
    """Of an answers file."""
    return tmp_path / "a.jsonl"


def raw(answers):
    return [answer.raw for answer in answers]


class Slow(ImageGuide):
    """Needs long for its weights and 40 ms for two images."""

    name, version, costly, at_once, loaded = "slow", "1", True, 2, False

    def score_images(self, images):
        time.sleep(0.04 if self.loaded else 0.3)
        self.loaded = True
        return torch.zeros(len(images), 2)


def test_what_the_rest_takes_is_estimated_without_what_is_needed_once(capsys):
    ask(Slow(GuideContext(("shirt", "coat"))), asked(20), AnswerStore())
    seconds = re.fullmatch(r"slow: 35 more questions take about (\S+) s\n", capsys.readouterr().err)[1]
    assert 0.32 / 1.5 < float(seconds) < 0.32 * 2  # eight times two images


def test_asked_once_in_any_order(path):
    one, questions = Constant(), asked(100)
    first = ask(one, questions, AnswerStore(path))
    again = ask(one, questions[::-1], AnswerStore(path))
    assert one.asked == 200 == len(path.read_text().splitlines()) and again == first[::-1]
    assert raw(first) == pytest.approx([question.image.mean() + len(question.label) for question in questions])


def test_an_interrupt_loses_nothing(path):
    questions, rest = asked(100), Constant()
    with pytest.raises(KeyboardInterrupt):
        ask(Constant(fail_after=50), questions, AnswerStore(path), at_once=20)
    assert len(path.read_text().splitlines()) == 50
    with open(path, "a") as file:  # killed in the middle of a line
        file.write('{"question": "abc", "ima')
    answers = ask(rest, questions, AnswerStore(path), at_once=20)
    assert rest.asked == 150 and raw(answers) == raw(ask(Constant(), questions, AnswerStore()))
    assert len(AnswerStore(path).answers) == 200


def test_another_guide_version_image_label_or_shot_never_reuses_an_answer():
    one, named, two, (first, second, *_) = Constant(), Constant(), Constant(), asked(1)
    named.name, two.version = "another", "2"
    others = [Question(first.image, first.label, ((first.image, holds),)) for holds in (True, False)]
    others += [second, Question(255 - first.image, first.label)]
    assert len({first.key(guide) for guide in (one, named, two)} | {q.key(one) for q in others}) == 7


def test_a_guide_that_stays_silent_is_given_up_and_the_rest_stays_open(path):
    questions, store = asked(200), AnswerStore(path)
    silent = Constant(lambda number: number <= 50)
    with pytest.raises(AnswersMissingError, match="350 of 400 .* The others are kept"):
        ask(silent, questions, store)
    assert silent.asked == 150 and len(AnswerStore(path).answers) == 50
    now_and_then = Constant(lambda number: number % 100 == 0)  # 99 in a row without one are not enough
    with pytest.raises(AnswersMissingError):
        ask(now_and_then, questions, store)
    assert now_and_then.asked == 350
    ask(whole := Constant(), questions, store)
    assert len(store.answers) == 400 and whole.asked == 347  # what was answered is not asked again


def test_a_damaged_line_is_left_out_counted_and_asked_again(path):
    questions, again = asked(20), Constant()
    first = ask(Constant(), questions, AnswerStore(path))
    path.write_text(path.read_text().replace('"raw": ', '"raw": 9', 1))  # a bit that fell over
    store = AnswerStore(path)
    assert store.damaged == 1 and len(store.answers) == 39
    assert raw(ask(again, questions, store)) == raw(first) and again.asked == 1


def test_answers_of_an_older_file_are_read(path):
    path.write_text(OLDER)
    (answer,) = AnswerStore(path).answers.values()
    assert (answer.raw, answer.scale) == (0.388766, "")


def test_a_file_that_cannot_be_read_or_added_to_is_refused(tmp_path):
    packed, half = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(OLDER.encode()))
    half.write_bytes(packed.read_bytes()[:40])
    (tmp_path / "text.gz").write_text(OLDER)
    for path in (half, tmp_path / "text.gz", tmp_path):
        with refused("cannot be read .*: name JSON lines of answers"):
            AnswerStore(path)
    store = AnswerStore(packed)
    with refused("nothing can be added to 'a.jsonl.gz': unpack it"):
        store.add([ANSWER])
    assert len(AnswerStore(packed).answers) == 1
    with refused("could not be written", StageError):
        AnswerStore(packed / "a.jsonl").add([ANSWER])


def test_the_first_answer_stands_in_memory_and_in_the_file(path):
    other, store, late = replace(ANSWER, raw=2.0), AnswerStore(path), AnswerStore(path)
    store.add([ANSWER, other])
    store.add([other])
    late.add([other])  # a process that has not read the first one
    assert raw([store.answers[ANSWER.question], AnswerStore(path).answers[ANSWER.question]]) == [1.0, 1.0]
    assert len(path.read_text().splitlines()) == 2


def test_an_interrupt_in_the_middle_of_the_file_leaves_the_answers_to_be_added_again(path, monkeypatch):
    store = AnswerStore(path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(KeyboardInterrupt))
        store.add([ANSWER])
    store.add([ANSWER])
    assert AnswerStore(path).answers[ANSWER.question].raw == 1.0


def test_several_writers_lose_no_answer(path):
    answers = ask(Constant(), asked(100), AnswerStore())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda answer: AnswerStore(path).add([answer]), answers))
    store = AnswerStore(path)
    assert len(store.answers) == 200 and not store.damaged


ASK = """
import sys
from loopback import asked, client
from megu.guide import AnswerStore, ask
ask(client(sys.argv[1], concurrency=4), asked(60), AnswerStore(sys.argv[2]))
"""


def test_kill_9_loses_nothing_and_another_process_that_waits_asks_only_the_rest(serve, path):
    answered, some, many = Counter(), threading.Event(), threading.Event()

    def answer(body, number):
        answered[json.dumps(body["messages"])] += 1
        some.set() if number == 20 else many.set() if number == 50 else None
        time.sleep(0.02)
        return 200, reply(odds_of(body))

    url, seen = serve(answer)
    one, questions = client(url, concurrency=4), asked(60)
    messages = {question.key(one): json.dumps(one.body(question)["messages"]) for question in questions}
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    first = subprocess.Popen([sys.executable, "-c", ASK, url, str(path)], env=where, **streams)
    assert some.wait(60), first.communicate(timeout=1)[0]
    with ThreadPoolExecutor(1) as waiting:  # waits until no other process asks for this file
        second = waiting.submit(ask, one, questions, AnswerStore(path))
        assert many.wait(60)
        first.kill()
        first.communicate()
        stored = AnswerStore(path)
        answers = second.result(60)
    assert 40 <= len(stored.answers) < 120 and stored.damaged <= 1
    assert raw(answers) == pytest.approx([odds_of(one.body(question)) for question in questions], abs=1e-5)
    assert AnswerStore(path).answers.keys() == messages.keys() and set(answered) == set(messages.values())
    assert all(answered[messages[key]] == 1 for key in stored.answers)  # what was stored was never asked again
    # Asked twice: what was under way when the process died, at most one question for each of its four threads.
    assert seen["requests"] <= 120 + 4 and max(answered.values()) <= 2
