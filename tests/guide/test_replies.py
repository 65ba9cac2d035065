"""What a reply says: log-odds from log-probabilities or counted replies, alone and in a batch file."""

import json
import math
from types import SimpleNamespace

import pytest
from loopback import asked, client, odds_of, reply

from megu import guide
from megu.guide import batchfile
from megu.guide.served import LEAST, log_odds


def top(**likely):
    """Choices whose first token is one of ``likely``, word -> log-probability."""
    tokens = [SimpleNamespace(token=word, logprob=logprob) for word, logprob in likely.items()]
    return [SimpleNamespace(logprobs=SimpleNamespace(content=[SimpleNamespace(top_logprobs=tokens)]))]


def test_a_word_that_is_not_among_the_likely_ones_counts_at_most_what_is_left():
    # One token alone: the other word has at most the rest of the probability ...
    assert log_odds(top(**{"True": math.log(0.9)})) == pytest.approx(math.log(0.9 / 0.1))
    assert log_odds(top(**{"False": math.log(0.9)})) == pytest.approx(math.log(0.1 / 0.9))
    # ... and no more than the least likely token that is given.
    assert log_odds(top(**{"True": math.log(0.6), "Well": math.log(0.05)})) == pytest.approx(math.log(0.6 / 0.05))
    # A server that says "none" by -9999, or leaves nothing over, does not make it infinite.
    assert log_odds(top(**{"True": 0.0, "False": -9999.0})) == pytest.approx(math.log(1 / LEAST))
    assert log_odds(top(**{"True": 0.0})) == pytest.approx(math.log(1 / LEAST))


def test_what_tells_nothing_is_no_score():
    assert math.isnan(log_odds(top(Well=math.log(0.6), Yes=math.log(0.4))))  # neither word
    assert log_odds(top(**{"True": math.log(0.3)})) is None  # False may have .3 or .7 or nothing
    assert log_odds(top(**{"True": math.log(0.2), "Well": math.log(0.7)})) == pytest.approx(math.log(0.2 / 0.1))
    assert log_odds(top(**{"True": math.log(0.1), "Well": math.log(0.1)})) is None
    assert log_odds([SimpleNamespace(logprobs=None)]) is None
    for odd in (5.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="above 0"):
            log_odds(top(**{"True": odd, "False": -1.0}))


def batch_of(lines, **more):
    """The replies to the lines of a batch file, as a file's text."""
    done = [
        {
            "custom_id": line["custom_id"],
            "response": {"status_code": 200, "body": json.loads(reply(odds_of(line["body"]), **more))},
        }
        for line in lines
    ]
    return "\n".join(map(json.dumps, done)) + "\n"


@pytest.mark.parametrize("sampled", [False, True])
def test_a_batch_written_here_and_run_elsewhere_is_read_back(sampled, tmp_path):
    one, questions = client(None), asked(3)  # no address: it is run elsewhere
    guide.write_batch(one, questions, tmp_path / "in.jsonl", sampled)
    lines = [json.loads(line) for line in open(tmp_path / "in.jsonl")]
    assert len({line["custom_id"] for line in lines}) == len(questions) and {line["url"] for line in lines} == {
        "/v1/chat/completions"
    }
    assert (
        {line["body"].get("n") for line in lines} == {10 if sampled else None}
        and "logprobs" not in lines[0]["body"]
        or not sampled
    )
    (tmp_path / "out.jsonl").write_text(batch_of(lines[::-1], with_probabilities=not sampled))
    book = guide.Book(tmp_path / "a.jsonl")
    assert guide.read_batch(one, questions, tmp_path / "out.jsonl", book) == (6, {})
    expected = [odds_of(line["body"]) for line in lines]
    if sampled:
        said = [round(10 / (1 + math.exp(-odds))) for odds in expected]
        expected = [math.log((n + 0.5) / (10 - n + 0.5)) for n in said]
    answers = guide.ask(one, questions, guide.Book(tmp_path / "a.jsonl"))  # nothing is open: there is no server to ask
    assert [answer.raw for answer in answers] == pytest.approx(expected, abs=1e-5)
    assert guide.read_batch(one, questions, tmp_path / "out.jsonl", book) == (0, {"answered before": 6})


@pytest.mark.parametrize("limit", ["REQUESTS", "BYTES"])
def test_what_is_too_much_for_one_batch_file_goes_on_in_the_next(limit, monkeypatch, tmp_path):
    one, questions = client(None), asked(3)
    (whole,) = guide.write_batch(one, questions, tmp_path / "whole.jsonl")
    monkeypatch.setattr(batchfile, limit, {"REQUESTS": 4, "BYTES": len(whole.read_bytes()) - 1}[limit])
    parts = guide.write_batch(one, questions, tmp_path / "in.jsonl")
    assert [part.name for part in parts] == ["in.jsonl", "in-2.jsonl"] and b"".join(
        part.read_bytes() for part in parts
    ) == whole.read_bytes()
    monkeypatch.setattr(batchfile, "BYTES", 1)  # a request that is too large is still sent, alone
    assert len(guide.write_batch(one, questions, tmp_path / "one.jsonl")) == 6
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".jsonl"] * 9  # nothing half-written


def test_lines_of_a_batch_that_are_no_answer_are_counted_by_reason(tmp_path):
    one, questions = client(None), asked(4)
    guide.write_batch(one, questions, tmp_path / "in.jsonl")
    lines = [json.loads(line) for line in open(tmp_path / "in.jsonl")]
    ids = [line["custom_id"] for line in lines]
    well = json.loads(reply(0.0))
    well["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = [{"token": "Well", "logprob": -0.1}]
    one_reply = {
        **json.loads(reply(0.0, with_probabilities=False)),
        "choices": json.loads(reply(0.0, with_probabilities=False))["choices"][:1],
    }
    odd = [
        {
            "custom_id": ids[0],
            "response": {"status_code": 500, "body": {"error": {"message": "overloaded"}}},
            "error": None,
        },
        {"custom_id": ids[1], "response": None, "error": {"code": "batch_expired"}},
        {"custom_id": ids[2], "response": {"body": well}},
        {
            "custom_id": ids[3],
            "response": {"body": one_reply},
        },  # greedy and alone: a count of one would be no probability
        {"custom_id": "other", "response": {"body": json.loads(reply(0.0))}},
        {"custom_id": [1]},
        17,
    ]
    first, again = batch_of(lines[4:5]), batch_of(lines[4:5]).replace("-0.", "-1.")
    (tmp_path / "out.jsonl").write_text(
        "\n".join(map(json.dumps, odd)) + "\n\nhalf\n" + first + again + batch_of(lines[:1])
    )
    book = guide.Book()
    kept, left_out = guide.read_batch(one, questions, tmp_path / "out.jsonl", book)
    assert kept == 2 and book.answers[ids[0]].raw == pytest.approx(
        odds_of(lines[0]["body"]), abs=1e-5
    )  # an error first, an answer later
    assert book.answers[ids[4]].raw == pytest.approx(
        odds_of(lines[4]["body"]), abs=1e-5
    )  # of two lines the first stands
    assert left_out == {
        "errors": 2, "neither True nor False": 1, "without log-probabilities and with fewer than 10 replies": 1,
        "no reply to any of the questions": 4, "answered before": 1,
    }  # fmt: skip
