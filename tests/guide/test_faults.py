"""Faults of server, connection and asking process: nothing lost, nothing invented, nothing asked twice."""

import json
from collections import Counter

import numpy as np
import pytest
from loopback import asked, client, odds_of, reply

from megu import guide


def test_a_thousand_faults_lose_nothing_and_invent_nothing(serve, tmp_path):
    rng, faults, answered = np.random.default_rng(1), Counter(), Counter()

    def moody(body, number):
        kind = rng.choice(
            ["fine", "429", "500", "cut", "garbage", "half", "neither"], p=[0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
        )
        if kind == "fine" or faults.total() >= 1000:
            answered[json.dumps(body["messages"])] += 1
            return 200, reply(odds_of(body))
        faults[kind] += 1
        whole = reply(odds_of(body))
        odd = {
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Well"},
                    "finish_reason": "stop",
                    "logprobs": {
                        "content": [
                            {"token": "Well", "logprob": -0.1, "top_logprobs": [{"token": "Well", "logprob": -0.1}]}
                        ]
                    },
                }
            ]
        }
        return {
            "429": (429, b"{}"),
            "500": (500, b"oops"),
            "cut": None,
            "garbage": (200, b"<html>"),
            "half": (200, whole[: len(whole) // 2]),
            "neither": (200, json.dumps(odd).encode()),
        }[kind]

    url, _ = serve(moody)
    questions, path, rounds = asked(350), tmp_path / "a.jsonl", 0
    while True:
        rounds += 1
        try:
            answers = guide.ask(client(url, concurrency=8), questions, guide.Book(path))
            break
        except guide.AnswersMissingError as missing:
            assert "The others are kept" in str(missing)
    assert faults.total() >= 1000 and len(faults) == 6 and rounds > 3
    expected = [odds_of(client(url).body(question)) for question in questions]
    assert [answer.raw for answer in answers] == pytest.approx(expected, abs=1e-5)
    assert set(answered.values()) == {1}  # what was answered was never asked again
    assert len(guide.Book(path).answers) == len(questions)
