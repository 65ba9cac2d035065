"""A served multimodal LLM: a server on loopback, what it may say, and faults that lose and invent nothing."""

import base64
import io
import json
import math
import threading
import time
from collections import Counter

import numpy as np
import pytest
from loopback import asked, client, odds_of, reply
from PIL import Image
from tiny_mllm import llava

from megu.guide import AnswersMissingError, AnswerStore, GuideContext, GuideUnavailableError, Question, ask
from megu.guide.mllm import LocalMllm
from megu.settings.config import Guide


def changed(odds, change, **more):
    """A reply whose JSON was changed in place."""
    whole = json.loads(reply(odds, **more))
    change(whole)
    return 200, json.dumps(whole).encode()


def first_token(whole):
    return whole["choices"][0]["logprobs"]["content"][0]


def test_retries_are_the_clients(serve):
    url, seen = serve(lambda body, number: (200, reply(0.5)) if number == 3 else (500, b"oops"))
    assert list(client(url, retries=3, concurrency=1).score(asked(1)[:1])) == pytest.approx([0.5])
    assert seen["requests"] == 3


def test_a_refused_key_or_model_ends_it_at_once_and_the_key_is_nowhere(serve, monkeypatch, tmp_path):
    monkeypatch.setenv("MEGU_GUIDE_KEY", "sk-secret")
    url, seen = serve(lambda body, number: (401, b"{}"))
    with pytest.raises(GuideUnavailableError, match="refuses .AuthenticationError.") as refused:
        ask(client(url, concurrency=1), asked(100), AnswerStore(tmp_path / "a.jsonl"))
    assert "sk-secret" not in str(refused.value) and seen["requests"] <= 2


def test_a_slow_server_times_out_and_is_no_answer(serve):
    release = threading.Event()
    url, _ = serve(lambda body, number: (release.wait(3), (200, reply(0.0)))[1])
    slow = client(url, timeout=0.3)
    assert all(map(math.isnan, list(slow.score(asked(1))))) and slow.failures == {"APITimeoutError": 2}
    release.set()


def test_without_log_probabilities_replies_are_counted(serve):
    url, seen = serve(lambda body, number: (200, reply(math.log(0.7 / 0.3), with_probabilities=False)))
    one = client(url)
    assert list(one.score(asked(1)[:1])) == pytest.approx([math.log(7.5 / 3.5)]) and seen["requests"] == 2
    assert (one.cost.answers, one.cost.tokens, one.cost.mass) == (1, 22, 1)  # of both requests


def test_a_server_that_ignores_n_is_asked_until_there_are_enough_replies(serve):
    def one_at_a_time(body, number):
        message = {"role": "assistant", "content": "True" if number % 4 else "False"}
        single = lambda whole: whole.update(choices=[{**whole["choices"][0], "message": message}])  # noqa: E731
        return changed(0.0, single, with_probabilities=False)

    url, seen = serve(one_at_a_time)
    # Requests 4 and 8 of 2 to 9 say False.
    assert list(client(url, repeats=8).score(asked(1)[:1])) == pytest.approx([math.log(6.5 / 2.5)])
    assert seen["requests"] == 1 + 8


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_log_probabilities_and_n_is_asked_one_by_one(serve, status):
    def strict(body, number):
        if "logprobs" in body or body["n"] > 1:
            return status, b'{"error": "not supported"}'
        return changed(3.0, lambda whole: whole["choices"].__delitem__(slice(1, None)), with_probabilities=False)

    url, seen = serve(strict)
    one = client(url, repeats=4, concurrency=1)
    assert list(one.score(asked(2)[:3])) == pytest.approx([math.log(4.5 / 0.5)] * 3)
    assert seen["requests"] == 2 + 3 * 4 and not one.failures  # refused twice, and then it is known


def test_a_request_that_is_wrong_in_itself_is_no_answer(serve):
    one = client(serve(lambda body, number: (400, b"{}"))[0])
    assert np.isnan(list(one.score(asked(2)))).all() and one.failures == {"BadRequestError": 4}


def test_a_server_that_gives_nothing_is_not_asked_for_ever(serve):
    def silent(body, number):
        return changed(0.0, lambda whole: number > 1 and whole["choices"].clear(), with_probabilities=False)

    url, seen = serve(silent)
    one = client(url, repeats=5)
    assert np.isnan(list(one.score(asked(1)[:1]))).all() and seen["requests"] == 1 + 5 and one.failures.total() == 1


def test_log_probabilities_that_do_not_tell_are_followed_by_samples(serve):
    def first_token_only(body, number):
        if body.get("n"):
            return 200, reply(math.log(3 / 7), with_probabilities=False)
        return changed(math.log(3 / 7), lambda whole: first_token(whole).pop("top_logprobs"))  # one token alone, at .3

    url, seen = serve(first_token_only)
    assert list(client(url).score(asked(1)[:1])) == pytest.approx([math.log(3.5 / 7.5)]) and seen["requests"] == 2


def test_what_a_server_makes_up_is_no_answer_and_stops_nothing(serve):
    def made_up(body, number):
        odd = [[{"token": "True", "logprob": value}] for value in (1e4, "high", None, [1])] + [7]
        given = {"top_logprobs": odd[number - 1]} if number <= 5 else {}
        return changed(0.5, lambda whole: first_token(whole).update(given))

    one = client(serve(made_up)[0], concurrency=1)
    scores = list(one.score(asked(3)))
    assert np.isnan(scores[:5]).all() and scores[5] == pytest.approx(0.5)
    assert one.failures.total() == 5 and one.cost.answers == 1


def test_what_is_under_way_when_a_silent_server_is_given_up_is_kept(serve, tmp_path):
    def late(body, number):
        return (500, b"") if number <= 10 else (200, reply(odds_of(body)))

    url, seen = serve(late)
    questions, book = asked(50), AnswerStore(tmp_path / "a.jsonl")
    with pytest.raises(AnswersMissingError):
        ask(client(url, concurrency=4), questions, book, at_once=10)
    assert seen["requests"] == 10 + len(book.answers) < 20  # what was answered is kept, and no more was asked


def test_a_refusal_keeps_what_was_under_way(serve, tmp_path):
    started = threading.Barrier(4)

    def later(body, number):
        if number <= 4:  # all four at once: one is refused while three are being answered
            started.wait(5)
            return (401, b"{}") if number == 4 else (time.sleep(0.3), (200, reply(odds_of(body))))[1]
        return 200, reply(odds_of(body))

    url, seen = serve(later)
    with pytest.raises(GuideUnavailableError, match="refuses"):
        ask(client(url, concurrency=4), asked(50), AnswerStore(tmp_path / "a.jsonl"))
    assert len(AnswerStore(tmp_path / "a.jsonl").answers) == 3 and seen["requests"] == 4


def test_an_interrupt_keeps_what_was_under_way(serve, monkeypatch):
    url, seen = serve(lambda body, number: (time.sleep(0.2), (200, reply(odds_of(body))))[1])

    def interrupted(futures):
        time.sleep(0.1)  # all of the first four are with the server
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("megu.guide.served.as_completed", interrupted)
    book = AnswerStore()
    with pytest.raises(KeyboardInterrupt):
        ask(client(url, concurrency=4), asked(50), book)
    assert len(book.answers) == seen["requests"] == 4


def test_the_same_model_says_the_same_locally_and_served(serve, tmp_path):
    llava(tmp_path / "llava")
    local = LocalMllm(GuideContext(settings=Guide(path=str(tmp_path / "llava"), shots=0, dtype="float32")))

    def ask_local(body, number):
        content = body["messages"][0]["content"]
        image = Image.open(io.BytesIO(base64.b64decode(content[0]["image_url"]["url"].partition(",")[2])))
        label = content[1]["text"].split('"')[1]
        return 200, reply(list(local.score([Question(np.asarray(image).transpose(2, 0, 1), label)]))[0])

    url, _ = serve(ask_local)
    questions = asked(2)
    assert list(client(url, concurrency=1).score(questions)) == pytest.approx(list(local.score(questions)), abs=1e-4)


def test_a_thousand_faults_lose_nothing_and_invent_nothing(serve, tmp_path):
    rng, faults, answered = np.random.default_rng(1), Counter(), Counter()

    def moody(body, number):
        kind = rng.choice(["fine", "429", "500", "cut", "garbage", "half", "neither"], p=[0.4, *[0.1] * 6])
        if kind == "fine" or faults.total() >= 1000:
            answered[json.dumps(body["messages"])] += 1
            return 200, reply(odds_of(body))
        faults[kind] += 1
        whole, well = reply(odds_of(body)), {"token": "Well", "logprob": -0.1}
        neither = changed(0.0, lambda whole: first_token(whole).update(well, top_logprobs=[well]))
        broken = {"429": (429, b"{}"), "500": (500, b"oops"), "cut": None, "garbage": (200, b"<html>")}
        return {**broken, "half": (200, whole[: len(whole) // 2]), "neither": neither}[kind]

    url, _ = serve(moody)
    questions, path, rounds = asked(350), tmp_path / "a.jsonl", 0
    while True:
        rounds += 1
        try:
            answers = ask(client(url, concurrency=8), questions, AnswerStore(path))
            break
        except AnswersMissingError as missing:
            assert "The others are kept" in str(missing)
    assert faults.total() >= 1000 and len(faults) == 6 and rounds > 3
    expected = [odds_of(client(url).body(question)) for question in questions]
    assert [answer.raw for answer in answers] == pytest.approx(expected, abs=1e-5)
    assert set(answered.values()) == {1}  # what was answered was never asked again
    assert len(AnswerStore(path).answers) == len(questions)
