"""A served multimodal LLM: a real server on loopback, with a tiny model behind it, and what it may say."""

import base64
import io
import json
import math
import threading
import time

import numpy as np
import pytest
from loopback import asked, client, odds_of, reply
from PIL import Image
from tiny_mllm import llava

from megu import guide
from megu.guide import Question, ServedMllm
from megu.settings.config import Guide


def test_retries_are_the_clients(serve):
    url, seen = serve(lambda body, number: (200, reply(0.5)) if number == 3 else (500, b"oops"))
    assert list(client(url, retries=3, concurrency=1).score(asked(1)[:1])) == pytest.approx([0.5])
    assert seen["requests"] == 3


def test_a_refused_key_or_model_ends_it_at_once_and_the_key_is_nowhere(serve, monkeypatch, tmp_path):
    monkeypatch.setenv("MEGU_GUIDE_KEY", "sk-secret")
    url, seen = serve(lambda body, number: (401, b"{}"))
    with pytest.raises(guide.GuideUnavailableError, match="refuses .AuthenticationError.") as refused:
        guide.ask(client(url, concurrency=1), asked(100), guide.Book(tmp_path / "a.jsonl"))
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
        whole = json.loads(reply(0.0, with_probabilities=False))
        whole["choices"] = [
            {**whole["choices"][0], "message": {"role": "assistant", "content": "True" if number % 4 else "False"}}
        ]
        return 200, json.dumps(whole).encode()

    url, seen = serve(one_at_a_time)
    assert list(client(url, repeats=8).score(asked(1)[:1])) == pytest.approx(
        [math.log(6.5 / 2.5)]
    )  # requests 4 and 8 of 2 to 9 say False
    assert seen["requests"] == 1 + 8


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_log_probabilities_and_n_is_asked_one_by_one(serve, status):
    def strict(body, number):
        if "logprobs" in body or body["n"] > 1:
            return status, b'{"error": "not supported"}'
        whole = json.loads(reply(3.0, with_probabilities=False))
        return 200, json.dumps({**whole, "choices": whole["choices"][:1]}).encode()

    url, seen = serve(strict)
    one = client(url, repeats=4, concurrency=1)
    assert list(one.score(asked(2)[:3])) == pytest.approx([math.log(4.5 / 0.5)] * 3)
    assert seen["requests"] == 2 + 3 * 4 and not one.failures  # refused twice, and then it is known


def test_a_request_that_is_wrong_in_itself_is_no_answer(serve):
    one = client(serve(lambda body, number: (400, b"{}"))[0])
    assert np.isnan(list(one.score(asked(2)))).all() and one.failures == {"BadRequestError": 4}


def test_a_server_that_gives_nothing_is_not_asked_for_ever(serve):
    nothing = {**json.loads(reply(0.0)), "choices": []}

    def silent(body, number):
        return 200, reply(0.0, with_probabilities=False) if number == 1 else json.dumps(nothing).encode()

    url, seen = serve(silent)
    one = client(url, repeats=5)
    assert np.isnan(list(one.score(asked(1)[:1]))).all() and seen["requests"] == 1 + 5 and one.failures.total() == 1


def test_log_probabilities_that_do_not_tell_are_followed_by_samples(serve):
    def first_token_only(body, number):
        whole = json.loads(reply(math.log(3 / 7), with_probabilities=not body.get("n")))
        for choice in whole["choices"]:
            if choice["logprobs"]:
                del choice["logprobs"]["content"][0]["top_logprobs"]  # the chosen token alone, at .3
        return 200, json.dumps(whole).encode()

    url, seen = serve(first_token_only)
    assert list(client(url).score(asked(1)[:1])) == pytest.approx([math.log(3.5 / 7.5)]) and seen["requests"] == 2


def test_what_a_server_makes_up_is_no_answer_and_stops_nothing(serve):
    def made_up(body, number):
        whole = json.loads(reply(0.5))
        first = whole["choices"][0]["logprobs"]["content"][0]
        odd = [{"top_logprobs": [{"token": "True", "logprob": value}]} for value in (1e4, "high", None, [1])]
        first.update({"top_logprobs": 7} if number == 5 else odd[number - 1] if number < 5 else {})
        return 200, json.dumps(whole).encode()

    one = client(serve(made_up)[0], concurrency=1)
    scores = list(one.score(asked(3)))
    assert (
        np.isnan(scores[:5]).all()
        and scores[5] == pytest.approx(0.5)
        and one.failures.total() == 5
        and one.cost.answers == 1
    )


def test_what_is_under_way_when_a_silent_server_is_given_up_is_kept(serve, tmp_path):
    def late(body, number):
        return (500, b"") if number <= 10 else (200, reply(odds_of(body)))

    url, seen = serve(late)
    questions, book = asked(50), guide.Book(tmp_path / "a.jsonl")
    with pytest.raises(guide.AnswersMissingError):
        guide.ask(client(url, concurrency=4), questions, book, at_once=10)
    assert seen["requests"] == 10 + len(book.answers) < 20  # what was answered is kept, and no more was asked


def test_a_refusal_keeps_what_was_under_way(serve, tmp_path):
    started = threading.Barrier(4)

    def later(body, number):
        if number <= 4:  # all four at once: one is refused while three are being answered
            started.wait(5)
            return (401, b"{}") if number == 4 else (time.sleep(0.3), (200, reply(odds_of(body))))[1]
        return 200, reply(odds_of(body))

    url, seen = serve(later)
    with pytest.raises(guide.GuideUnavailableError, match="refuses"):
        guide.ask(client(url, concurrency=4), asked(50), guide.Book(tmp_path / "a.jsonl"))
    assert len(guide.Book(tmp_path / "a.jsonl").answers) == 3 and seen["requests"] == 4


def test_an_interrupt_keeps_what_was_under_way(serve, monkeypatch):
    url, seen = serve(lambda body, number: (time.sleep(0.2), (200, reply(odds_of(body))))[1])

    def interrupted(futures):
        time.sleep(0.1)  # all of the first four are with the server
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("megu.guide.served.as_completed", interrupted)
    book = guide.Book()
    with pytest.raises(KeyboardInterrupt):
        guide.ask(client(url, concurrency=4), asked(50), book)
    assert len(book.answers) == seen["requests"] == 4


def test_the_same_model_says_the_same_locally_and_served(serve, tmp_path):
    llava(tmp_path / "llava")
    local = guide.LocalMllm((), settings=Guide(path=str(tmp_path / "llava"), shots=0, dtype="float32"))

    def ask_local(body, number):
        content = body["messages"][0]["content"]
        image = Image.open(io.BytesIO(base64.b64decode(content[0]["image_url"]["url"].partition(",")[2])))
        label = content[1]["text"].split('"')[1]
        return 200, reply(list(local.score([Question(np.asarray(image).transpose(2, 0, 1), label)]))[0])

    url, _ = serve(ask_local)
    questions = asked(2)
    assert list(client(url, concurrency=1).score(questions)) == pytest.approx(list(local.score(questions)), abs=1e-4)


def test_what_is_missing_is_said_in_one_line():
    with pytest.raises(guide.GuideUnavailableError, match="needs guide.model"):
        ServedMllm(settings=Guide(url="http://localhost:1/v1"))
    with pytest.raises(guide.GuideUnavailableError, match="needs guide.url"):
        guide.ask(ServedMllm(settings=Guide(model="tiny", url=None)), asked(1), guide.Book())
