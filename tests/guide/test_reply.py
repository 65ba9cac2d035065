"""What a reply of an OpenAI-style server tells: exact log-odds, counted replies, or whose words it is refused with."""

import json
import math

import pytest

from megu.guide.reply import LEAST, ReplyError, choices_of, log_odds, log_odds_of_texts, mass, quoted, read

log = math.log


def reply(content="True", likely=None, n=1, **message):
    """JSON of a reply whose first token is one of ``likely``, word -> log-probability."""
    top = [{"token": word, "logprob": logprob} for word, logprob in (likely or {}).items()]
    said = {"content": [{**top[0], "top_logprobs": top}]} if top else None
    return {"choices": [{"message": {"content": content, **message}, "logprobs": said}] * n}


@pytest.mark.parametrize(
    ("likely", "odds"),
    [
        # A word that is missing has at most the rest, and no more than the least likely one.
        ({"True": log(0.6), "Well": log(0.05)}, 0.6 / 0.05), ({"True": log(0.2), "Well": log(0.7)}, 0.2 / 0.1),
        ({"True": log(0.6), " true": log(0.1), "False": log(0.3)}, 0.7 / 0.3),
        # A server that says "none", or leaves nothing over.
        ({"True": 0.0, "False": -9999.0}, 1 / LEAST), ({"True": 0.0}, 1 / LEAST),
        ({"False": log(0.995)}, 0.005 / 0.995),
        # One token alone does not tell what the other has; nor do none.
        ({"True": log(0.9)}, None), ({"True": log(0.3)}, None), ({}, None),
        # Neither word, or so seldom that something else is meant; the likeliest token is named.
        ({"Well": log(0.6), "Yes": log(0.4)}, r"begins with 'Well' \(60%\), neither True nor False$"),
        ({" The": log(0.99), "True": log(0.006), "False": log(0.003)}, "' The' .99%., True and False had 0.009 of"),
        ({"\n": log(0.999), "True": log(0.0006)}, r"begins with '\\n' \(100%\)"),
        ({"True": log(0.1), "Well": log(0.1)}, "too seldom with True or False to tell"),
        ({"<think>": log(0.9), "True": log(0.05), "False": log(0.04)}, "it thinks before it answers"),
        # What is made up.
        *(({"True": odd, "False": -1.0}, "a log-probability above 0") for odd in (5.0, math.inf, math.nan, True)),
        ({"True": -0.1, "False": -0.1}, "a sum above 1"), ({"True": "high"}, "is no reply"),
    ],
)  # fmt: skip
def test_what_the_likely_tokens_tell(likely, odds):
    if isinstance(odds, str):
        with pytest.raises(ReplyError, match=odds):
            log_odds(choices_of(reply(likely=likely)))
    else:
        choices = choices_of(reply(likely=likely))
        assert log_odds(choices) == (odds and pytest.approx(log(odds), abs=1e-6))
        if odds and len(likely) > 1:
            assert mass(choices) == pytest.approx(sum(math.exp(p) for word, p in likely.items() if word != "Well"))


PARTS = [{"type": "text", "text": "Fal"}, "se."]
THOUGHTS = ({"reasoning_content": "Let me look"}, {"reasoning": "Let me look"}, {"content": "<think>\nTrue"})
THOUGHTS += ({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "True"}]},)


def test_what_sampled_replies_tell():
    counted = choices_of(
        {"choices": [reply(word)["choices"][0] for word in ("True", "**false**", '"True".', "Well", "")]}
    )
    assert log_odds_of_texts(counted) == pytest.approx(log(2.5 / 1.5)) and mass(counted) == pytest.approx(0.6)
    assert log_odds_of_texts(choices_of(reply(PARTS, n=4))) == pytest.approx(log(0.5 / 4.5))
    # Replies with log-probabilities too are counted by what they say.
    assert log_odds_of_texts(choices_of(reply("False", {"True": log(0.9)}, n=2))) == pytest.approx(log(0.5 / 2.5))
    for content, words in (
        (None, "begins with nothing, neither"),
        (" The image", "begins with 'The image'"),
        ("Yes", "Yes"),
    ):
        with pytest.raises(ReplyError, match=words):
            log_odds_of_texts(choices_of(reply(content, n=3)))
    with pytest.raises(ReplyError, match="begins with 'I cannot help'"):
        log_odds_of_texts(choices_of(reply(None, refusal="I cannot help")))


@pytest.mark.parametrize("message", THOUGHTS)
def test_a_model_that_thinks_first_is_refused(message):
    for likely in ({"True": log(0.9), "False": log(0.1)}, {}):  # the first token may be that of a thought
        choices = choices_of(reply(**{"content": "", "likely": likely, **message}))
        for told in (log_odds, log_odds_of_texts):
            with pytest.raises(ReplyError, match="it thinks before it answers"):
                told(choices)


NONE = {
    "no JSON": ("half {", "no JSON: 'half {'"),
    "a page": ("<!doctype html><head><title>x</title></head><b>Web UI</b>", "a page of HTML: 'Web UI'$"),
    "an error object": ('{"error": {"message": "no\\ncredits", "code": 402}}', r"'no credits' \(402\)"),
    "an error's text": ('{"error": "overloaded"}', "the server says 'overloaded'$"),
    "no choices": ('{"choices": []}', "no reply"), "null": ('{"choices": null}', "no reply"),
    "a list": ("[1]", "no reply"),
    "no message": ('{"choices": [{}]}', "no reply"), "a number": ("7", "no reply"),
    "content": ('{"choices": [{"message": {"content": 3}}]}', "no reply"),
}  # fmt: skip


@pytest.mark.parametrize("case", NONE)
def test_what_is_no_reply_is_refused_in_its_own_words(case):
    text, words = NONE[case]
    with pytest.raises(ReplyError, match=words):
        choices_of(read(text))


@pytest.mark.parametrize(
    "error",
    [{"error": {"message": "too many"}}, {"error": "too many"}, {"detail": "too many"}, {"message": "too many"},
     {"detail": [{"loc": ["body"], "msg": "too many"}]}, {"errors": [{"message": "too many"}]}],
)  # fmt: skip
def test_the_words_of_an_error_are_found_wherever_they_are(error):
    with pytest.raises(ReplyError, match=r"the server says 'too many' \(422\)") as refused:
        read(json.dumps(error), 422)
    assert refused.value.status == 422


def test_quoted_words_are_short_and_hold_no_key(monkeypatch):
    monkeypatch.setenv("MEGU_GUIDE_KEY", "plain-key\n")
    for secret in ("plain-key", "sk-abc123", "Bearer xyz", "hf_abcdef", "eyJhbGciOiJIUzI1.abc", "sk-a***bc", "a" * 40):
        said = quoted(f"Incorrect: {secret}, see\nthe page" + " and so on" * 50)
        assert secret not in said and "***" in said and "see the page" in said and len(said) <= 152
    assert "letmein" not in quoted("Incorrect API key provided: letmein.")
    kept = "meta-llama/Llama-3.2-11B-Vision-Instruct takes at most 1 image(s)"
    assert quoted(kept) == repr(kept)  # the control: what is no secret stays
