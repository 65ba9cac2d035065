"""A served multimodal LLM that fails or is stopped while it is asked: nothing is lost, nothing invented; a real one."""

import importlib.util
import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter

import numpy as np
import pytest
from loopback import asked, changed, client, fine, first_token, odds_of, reply
from scipy import stats
from tiny_mllm import decided

from megu.guide import AnswersMissingError, AnswerStore, GuideContext, GuideUnavailableError, ask
from megu.guide.mllm import LocalMllm
from megu.settings.config import Guide


def test_what_is_under_way_when_a_silent_server_is_given_up_is_kept(serve):
    url, seen = serve(lambda body, number: (500, b"") if 2 < number <= 12 else fine(body))
    book = AnswerStore()
    with pytest.raises(AnswersMissingError, match=r"\(10 x the server says '' \(500\)\)|no JSON"):
        ask(client(url, concurrency=4), asked(50), book, at_once=10)
    assert seen["requests"] == 10 + len(book.answers) < 22  # what was answered is kept, and no more was asked


def test_a_refusal_keeps_what_was_under_way(serve, tmp_path):
    started = threading.Barrier(4)

    def later(body, number):
        if 2 < number <= 6:  # all four at once: one is refused while three are being answered
            started.wait(5)
            return (401, b"{}") if number == 6 else (time.sleep(0.3), fine(body))[1]
        return fine(body)

    url, seen = serve(later)
    with pytest.raises(GuideUnavailableError, match="the server says '{}' .401.: check guide.model"):
        ask(client(url, concurrency=4), asked(50), AnswerStore(tmp_path / "a.jsonl"))
    assert len(AnswerStore(tmp_path / "a.jsonl").answers) == 2 + 3 and seen["requests"] == 6


def test_an_interrupt_keeps_what_was_under_way(serve, monkeypatch):
    url, seen = serve(lambda body, number: (time.sleep(0.2), fine(body))[1])

    def interrupted(futures):
        time.sleep(0.1)  # all of the first four are with the server
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("megu.guide.served.as_completed", interrupted)
    book = AnswerStore()
    with pytest.raises(KeyboardInterrupt):
        ask(client(url, concurrency=4), asked(50), book)
    assert len(book.answers) == seen["requests"] == 2 + 4


def test_a_thousand_faults_lose_nothing_and_invent_nothing(serve, tmp_path):
    rng, faults, answered = np.random.default_rng(1), Counter(), Counter()

    def moody(body, number):
        kind = rng.choice(["fine", "429", "500", "cut", "garbage", "half", "neither"], p=[0.4, *[0.1] * 6])
        if kind == "fine" or faults.total() >= 1000:
            answered[json.dumps(body["messages"])] += 1
            return fine(body)
        faults[kind] += 1
        whole, well = reply(odds_of(body)), {"token": "Well", "logprob": -0.1}
        neither = changed(0.0, lambda whole: first_token(whole).update(well, top_logprobs=[well]))
        broken = {"429": (429, b"{}"), "500": (500, b"oops"), "cut": None, "garbage": (200, b"<html>")}
        return {**broken, "half": (200, whole[: len(whole) // 2]), "neither": neither}[kind]

    url, _ = serve(moody)
    one, questions, path, rounds, answers = client(url, concurrency=8), asked(350), tmp_path / "a.jsonl", 0, None
    while not answers:
        rounds += 1
        try:
            answers = ask(one, questions, AnswerStore(path))
        except (AnswersMissingError, GuideUnavailableError) as missing:
            assert re.search("The others are kept|the server|begins with|connection broke", str(missing))
    assert faults.total() >= 1000 and len(faults) == 6 and rounds > 3
    expected = [odds_of(client(url).body(question)) for question in questions]
    assert [answer.raw for answer in answers] == pytest.approx(expected, abs=1e-5)
    assert set(answered.values()) == {1}  # what was answered was never asked again
    assert len(AnswerStore(path).answers) == len(questions)


ABSENT = [name for name in ("fastapi", "uvicorn", "accelerate", "openai") if not importlib.util.find_spec(name)]
REPEATS = 20


@pytest.fixture
def transformers_serve(tmp_path):
    """(address, folder of the model) of `transformers serve`, whose tiny LLaVA says True and False by chance."""
    prompt = 'user: <image>Does this image show a photo of "shirt"? Answer True or False.\nassistant:'
    decided(tmp_path / "tiny", prompt)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = "-m transformers.cli.transformers serve tiny --device cpu --host 127.0.0.1 --default-seed 0 --port"
    with open(tmp_path / "log.txt", "w") as log:
        words = [sys.executable, *command.split(), str(port)]
        process = subprocess.Popen(words, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "log.txt").read_text()[-2000:]
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", tmp_path / "tiny"
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.skipif(bool(ABSENT), reason=f"needs {', '.join(ABSENT)}: pip install -e '.[test]'")
def test_a_real_server_says_what_the_model_says_here(transformers_serve):
    (url, folder), questions = transformers_serve, asked(6, labels=("shirt",))
    served = client(url, repeats=REPEATS, concurrency=1, timeout=20)
    answers = ask(served, questions, AnswerStore())
    # This server gives no log-probabilities.
    counts = np.array([(REPEATS + 1) / (1 + np.exp(-answer.raw)) - 0.5 for answer in answers])
    assert np.allclose(counts, counts.round(), atol=1e-3) and not served.failures
    local = LocalMllm(GuideContext(settings=Guide(path=str(folder), shots=0, dtype="float32", reuse=False)))
    p = 1 / (1 + np.exp(-np.array(list(local.score(questions)))))

    def by_chance(p):  # Pearson's test: are counts so far from p, or farther, likely?
        return stats.chi2.sf(((counts - REPEATS * p) ** 2 / (REPEATS * p * (1 - p))).sum(), len(p))

    assert by_chance(p) > 1e-3
    assert by_chance(np.roll(p, 1)) < 1e-4 and by_chance(np.full(6, 0.5)) < 1e-4  # nor another image, nor a coin
    assert served.cost.answers == 6 and served.cost.mass == pytest.approx(6) and served.cost.tokens > 6 * REPEATS * 70
