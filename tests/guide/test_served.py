"""A served multimodal LLM: what servers may say, how they are asked otherwise, what is refused after one question."""

import json
import math
import re
import time
from dataclasses import replace

import numpy as np
import pytest
from loopback import asked, changed, client, fine, first_token, odds_of, reply
from refusals import refused

from megu.guide import AnswerStore, GuideUnavailableError, ask

log = math.log


def error(message, status=400, **more):
    return status, json.dumps({"error": {"message": message, **more}}).encode()


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


def first_token_only(body, number):
    if body.get("n"):
        return 200, reply(log(3 / 7), with_probabilities=False)
    return changed(log(3 / 7), lambda whole: first_token(whole).pop("top_logprobs"))  # one token alone, at .3


def made_up(body, number):
    odd = [[{"token": "True", "logprob": value}] for value in (1e4, "high", None, [1])] + [7]
    given = {"top_logprobs": odd[number - 3]} if 3 <= number <= 7 else {}
    return changed(0.5, lambda whole: first_token(whole).update(given))


def at_most(count):
    def answer(body, number):
        few = body.get("top_logprobs", 0) <= count
        return (200, reply(0.5)) if few else error(f"top_logprobs must be at most {count}")

    return answer


def renamed(body, number):
    if "max_tokens" in body:
        return error("Unsupported parameter: 'max_tokens' is not supported: use 'max_completion_tokens' instead.")
    if body.get("temperature") == 0:
        return error("Unsupported value: 'temperature' does not support 0 with this model.", 422)
    return 200, reply(0.5)


def in_parts(body, number):
    parts = [{"type": "text", "text": "True"}]
    said = {"content": parts}
    return changed(9.0, lambda whole: [one.update(message=said) for one in whole["choices"]], with_probabilities=False)


def down_later(body, number):
    return (200, reply(0.5)) if number <= 2 else error("no slot", 500)


# What a server answers, settings, the scores, requests, whether replies are sampled, why answers are missing.
SAID = {
    "retries are the client's": (
        lambda body, number: (200, reply(0.5)) if number == 3 else (500, b"oops"), {"retries": 3}, [0.5], 3, False),
    "without log-probabilities replies are counted": (
        lambda body, number: (200, reply(log(7 / 3), with_probabilities=False)), {}, [log(7.5 / 3.5)], 2, True),
    # Requests 4 and 8 of 2 to 9 say False.
    "n is ignored: asked until there are enough": (ignores_n, {"repeats": 8}, [log(6.5 / 2.5)], 1 + 8, True),
    # Five times fewer log-probabilities, n, and then it is known.
    "log-probabilities and n are refused, 400": (strict(400), {"repeats": 4}, [log(9)] * 3, 5 + 1 + 3 * 4, True),
    "log-probabilities and n are refused, 422": (strict(422), {"repeats": 4}, [log(9)] * 3, 5 + 1 + 3 * 4, True),
    "too little to tell is followed by samples": (first_token_only, {}, [log(3.5 / 7.5)], 2, True),
    "fewer log-probabilities are exact": (at_most(5), {}, [0.5] * 6, 2 + 6, False),
    "two log-probabilities are exact": (at_most(2), {}, [0.5] * 6, 4 + 6, False),
    "no log-probability is not": (at_most(0), {}, [log(6.5 / 4.5)] * 2, 5 + 2, True),
    "what has another name": (renamed, {}, [0.5] * 3, 2 + 3, False),
    "a content of parts": (in_parts, {}, [log(21)], 2, True),
    "what is made up stops nothing": (made_up, {}, [0.5] * 2 + [math.nan] * 5 + [0.5], 8, False,
        "the server answers with a log-probability above 0", "the server answers with what is no reply"),
    "the server's own words": (down_later, {}, [0.5] * 2 + [math.nan] * 2, 4, False, "the server says 'no slot' (500)"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_what_a_server_may_say(serve, case):
    answer, settings, expected, requests, sampled, *missing = SAID[case]
    url, seen = serve(answer)
    one = client(url, **{"concurrency": 1, **settings})
    scores = list(one.score(asked(4)[: len(expected)]))
    assert scores == pytest.approx(expected, nan_ok=True, abs=1e-6) and seen["requests"] == requests
    assert one.sampling == sampled and one.failures.total() == np.isnan(scores).sum()
    assert all(any(reason.startswith(words[:40]) for words in missing) for reason in one.failures)
    assert one.cost.answers == np.isfinite(scores).sum() and one.cost.mass == pytest.approx(one.cost.answers)


WITH_SHOTS = {"shots": 2}
REFUSED = {
    "a request that is wrong in itself": (lambda body, number: (400, b"{}"), {}, 7, "says '{}' .400.: check guide."),
    "a key that is refused": (lambda body, number: error("Wrong key: sk-secret", 401), {}, 1, r"key: \*\*\*' .401"),
    "no reply in time": (lambda body, number: time.sleep(1), {"timeout": 0.3}, 1, "within 0.3 s: raise guide.timeout"),
    "a cut connection": (lambda body, number: None, {}, 1, "the connection broke"),
    "one image at most": (
        lambda body, number: error("At most 1 image(s) may be provided") if body["messages"][1:] else fine(body),
        WITH_SHOTS, 1, r"'At most 1 image\(s\) may be provided' .400.: set guide.shots=0, which shows one image"),
    "one picture, said otherwise": (
        lambda body, number: error("only one attachment", 413), WITH_SHOTS, 1, "' .413.: .*or set guide.shots=0"),
    "no image": (lambda body, number: error("no image input"), {}, 1, ": choose a model that is shown images"),
    "no log-probabilities of a model of vision": (
        lambda body, number: error("tiny-vision has no logprobs" if "logprobs" in body else "no n"), {}, 7, "'no n'"),
    "another first word": (
        lambda body, number: changed(0.0, lambda whole: first_token(whole).update(top_logprobs=[
            {"token": " The", "logprob": -0.001}, {"token": "True", "logprob": -8.0}])),
        {}, 1, r"begins with ' The' \(100%\).*: choose a model that answers with True or False"),
    "thoughts": (
        lambda body, number: changed(0.0, lambda whole: whole["choices"][0]["message"].update(
            content="", reasoning_content="Let me look"), with_probabilities=False),
        {}, 1, "it thinks before it answers: switch that off at the server"),
    "nothing": (
        lambda body, number: changed(0.0, lambda whole: whole["choices"].clear() if number > 1 else None, False),
        {"repeats": 5}, 2, "no reply"),
    "a quota": (lambda body, number: error("used up", 429), {}, 1, "'used up' .429.: wait, or raise the quota"),
    "an error in a 200": (lambda body, number: error("no credits", 200, code=402), {}, 1, "'no credits' .402."),
    "a page": (lambda body, number: (200, b"<html><b>Web UI"), {}, 1, "a page of HTML: 'Web UI': check guide.model"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_question_can_be_asked_of_is_refused_after_one(serve, case, monkeypatch):
    monkeypatch.setenv("MEGU_GUIDE_KEY", "sk-secret")
    answer, settings, requests, words = REFUSED[case]
    url, seen = serve(answer)
    image = asked(1)[0].image
    questions = [
        replace(one, shots=((image, True), (image, False)) if settings.get("shots") else ()) for one in asked(9)
    ]
    with refused(words, GuideUnavailableError) as said:
        ask(client(url, model="tiny-vision", **settings), questions, AnswerStore())
    assert seen["requests"] == requests and "sk-secret" not in str(said)


NOWHERE = {
    "nobody listens": ("http://127.0.0.1:9/v1", "key", "nobody listens at guide.url, .*refused"),
    "no scheme": ("localhost:8000/v1", "key", "no http:// or https://"),
    "a key in two lines": ("http://127.0.0.1:9/v1", "sk-a\nb", "MEGU_GUIDE_KEY has characters that no key has"),
    "a key of other letters": ("http://127.0.0.1:9/v1", "sk-äöü", "MEGU_GUIDE_KEY has characters that no key has"),
}


@pytest.mark.parametrize("case", NOWHERE)
def test_where_nobody_can_be_asked_it_is_said_soon(case, monkeypatch):
    url, key, words = NOWHERE[case]
    monkeypatch.setenv("MEGU_GUIDE_KEY", key)
    start, settings = time.monotonic(), {"retries": 4, "timeout": 60}
    with refused(words, GuideUnavailableError):
        ask(client(url, **settings), asked(9), AnswerStore())
    assert time.monotonic() - start < 10


def test_an_address_may_be_the_whole_endpoint_and_a_key_may_end_in_a_line_break(serve, monkeypatch):
    monkeypatch.setenv("MEGU_GUIDE_KEY", "sk-secret\n")
    url, seen = serve(fine_whatever := lambda body, number: fine(body))
    for end in ("/", "/chat/completions"):
        assert len(ask(client(url + end), asked(2), AnswerStore())) == 4
    assert seen["requests"] == 8 and fine_whatever


def test_sampled_answers_are_never_taken_for_exact_ones(serve, caplog):
    exact = serve(lambda body, number: fine(body))[0]
    url, seen = serve(lambda body, number: (200, reply(odds_of(body), with_probabilities=False)))
    store, questions = AnswerStore(), asked(3)
    sampled = ask(client(url), questions, store)
    assert {(one.source, one.version) for one in sampled} == {("tiny (served, sampled)", client(None).versions[1])}
    assert "tiny: the server gives too few log-probabilities: 10 sampled replies are counted" in caplog.text
    count = seen["requests"]
    assert ask(client(None), questions, store) == sampled  # all are known: nobody is asked
    # What was begun goes on as it was; other questions are asked exactly where the server can.
    more = ask(client(url), asked(4), store)
    assert more[:6] == sampled and {one.source for one in more} == {"tiny (served, sampled)"}
    assert seen["requests"] == count + 2
    others = ask(client(exact), asked(3, labels=("bag",)), store)
    assert {one.source for one in others} == {"tiny (served)"} and len(store.answers) == 8 + 3


def test_a_server_that_does_not_sample_is_told(serve, caplog):
    def greedy(body, number):
        word = {"message": {"content": "True" if odds_of(body) > 0 else "False"}}
        return changed(0.0, lambda whole: whole.update(choices=[word] * 10), with_probabilities=False)

    by_chance = lambda body, number: (200, reply(odds_of(body), with_probabilities=False))  # noqa: E731
    for answer, told in ((by_chance, False), (greedy, True)):
        ask(client(serve(answer)[0]), asked(6), AnswerStore())
        assert ("are equal: does the server sample at temperature 1?" in caplog.text) == told


def test_the_time_is_estimated_from_the_first_questions(serve, capsys):
    begun = []

    def slow(body, number):
        begun.append(time.monotonic())
        time.sleep(0.5 if number == 1 else 0.2)
        return fine(body)

    ask(client(serve(slow)[0], concurrency=2), asked(10), AnswerStore())
    took, said = time.monotonic() - begun[2], capsys.readouterr().err
    about = re.search("18 more questions take about (.*) s if 2 are answered at once, else up to", said)
    assert took / 2 < float(about[1]) < took * 2
