"""A served multimodal LLM: a server on loopback, what it may say, faults that lose nothing; and a real one."""

import importlib.util
import json
import math
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter

import numpy as np
import pytest
from loopback import asked, client, odds_of, reply
from scipy import stats
from tiny_mllm import decided

from megu.guide import AnswersMissingError, AnswerStore, GuideContext, GuideUnavailableError, ask
from megu.guide.mllm import LocalMllm
from megu.settings.config import Guide


def fine(body, number=0):
    return 200, reply(odds_of(body))


def changed(odds, change, **more):
    """A reply whose JSON was changed in place."""
    whole = json.loads(reply(odds, **more))
    change(whole)
    return 200, json.dumps(whole).encode()


def first_token(whole):
    return whole["choices"][0]["logprobs"]["content"][0]


def ignores_n(body, number):
    message = {"role": "assistant", "content": "True" if number % 4 else "False"}
    single = lambda whole: whole.update(choices=[{**whole["choices"][0], "message": message}])  # noqa: E731
    return changed(0.0, single, with_probabilities=False)


def strict(status):
    def answer(body, number):
        if "logprobs" in body or body["n"] > 1:
            return status, b'{"error": "not supported"}'
        return changed(3.0, lambda whole: whole["choices"].__delitem__(slice(1, None)), with_probabilities=False)

    return answer


def silent(body, number):
    return changed(0.0, lambda whole: number > 1 and whole["choices"].clear(), with_probabilities=False)


def first_token_only(body, number):
    if body.get("n"):
        return 200, reply(math.log(3 / 7), with_probabilities=False)
    return changed(math.log(3 / 7), lambda whole: first_token(whole).pop("top_logprobs"))  # one token alone, at .3


def made_up(body, number):
    odd = [[{"token": "True", "logprob": value}] for value in (1e4, "high", None, [1])] + [7]
    given = {"top_logprobs": odd[number - 1]} if number <= 5 else {}
    return changed(0.5, lambda whole: first_token(whole).update(given))


# What a server answers, settings, the scores, requests, why answers are missing.
SAID = {
    "retries are the client's": (
        lambda body, number: (200, reply(0.5)) if number == 3 else (500, b"oops"), {"retries": 3}, [0.5], 3, {}),
    "too slow": (lambda body, number: time.sleep(1), {"timeout": 0.3}, [math.nan] * 2, 2, {"APITimeoutError": 2}),
    "without log-probabilities replies are counted": (
        lambda body, number: (200, reply(math.log(7 / 3), with_probabilities=False)), {}, [math.log(7.5 / 3.5)], 2, {}),
    # Requests 4 and 8 of 2 to 9 say False.
    "n is ignored: asked until there are enough": (ignores_n, {"repeats": 8}, [math.log(6.5 / 2.5)], 1 + 8, {}),
    # Refused twice, and then it is known.
    "log-probabilities and n are refused, 400": (strict(400), {"repeats": 4}, [math.log(4.5 / 0.5)] * 3, 2 + 3 * 4, {}),
    "log-probabilities and n are refused, 422": (strict(422), {"repeats": 4}, [math.log(4.5 / 0.5)] * 3, 2 + 3 * 4, {}),
    "a request that is wrong in itself": (
        lambda body, number: (400, b"{}"), {}, [math.nan] * 4, 9, {"BadRequestError": 4}),
    "nothing is not asked for ever": (silent, {"repeats": 5}, [math.nan], 1 + 5, 1),
    "too little to tell is followed by samples": (first_token_only, {}, [math.log(3.5 / 7.5)], 2, {}),
    "what is made up stops nothing": (made_up, {}, [math.nan] * 5 + [0.5], 6, 5),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_what_a_server_may_say(serve, case):
    answer, settings, expected, requests, missing = SAID[case]
    url, seen = serve(answer)
    one = client(url, **{"concurrency": 1, **settings})
    scores = list(one.score(asked(3)[: len(expected)]))
    assert scores == pytest.approx(expected, nan_ok=True) and seen["requests"] == requests
    assert one.failures.total() == missing if isinstance(missing, int) else one.failures == missing
    assert one.cost.answers == np.isfinite(scores).sum()
    if requests == 2 and not missing:
        assert (one.cost.tokens, one.cost.mass) == (22, 1)  # of both requests


def test_a_refused_key_or_model_ends_it_at_once_and_the_key_is_nowhere(serve, monkeypatch, tmp_path):
    monkeypatch.setenv("MEGU_GUIDE_KEY", "sk-secret")
    url, seen = serve(lambda body, number: (401, b"{}"))
    with pytest.raises(GuideUnavailableError, match="refuses .AuthenticationError.") as refused:
        ask(client(url, concurrency=1), asked(100), AnswerStore(tmp_path / "a.jsonl"))
    assert "sk-secret" not in str(refused.value) and seen["requests"] <= 2


def test_what_is_under_way_when_a_silent_server_is_given_up_is_kept(serve):
    url, seen = serve(lambda body, number: (500, b"") if number <= 10 else fine(body))
    book = AnswerStore()
    with pytest.raises(AnswersMissingError):
        ask(client(url, concurrency=4), asked(50), book, at_once=10)
    assert seen["requests"] == 10 + len(book.answers) < 20  # what was answered is kept, and no more was asked


def test_a_refusal_keeps_what_was_under_way(serve, tmp_path):
    started = threading.Barrier(4)

    def later(body, number):
        if number <= 4:  # all four at once: one is refused while three are being answered
            started.wait(5)
            return (401, b"{}") if number == 4 else (time.sleep(0.3), fine(body))[1]
        return fine(body)

    url, seen = serve(later)
    with pytest.raises(GuideUnavailableError, match="refuses"):
        ask(client(url, concurrency=4), asked(50), AnswerStore(tmp_path / "a.jsonl"))
    assert len(AnswerStore(tmp_path / "a.jsonl").answers) == 3 and seen["requests"] == 4


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
    assert len(book.answers) == seen["requests"] == 4


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
    questions, path, rounds, answers = asked(350), tmp_path / "a.jsonl", 0, None
    while not answers:
        rounds += 1
        try:
            answers = ask(client(url, concurrency=8), questions, AnswerStore(path))
        except AnswersMissingError as missing:
            assert "The others are kept" in str(missing)
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
