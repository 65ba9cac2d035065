r"""Questions as an OpenAI batch file, to be run elsewhere, and its replies read back."""

import json
import math
from collections import Counter
from types import SimpleNamespace

from megu.guide.book import Answer
from megu.guide.served import GARBAGE, log_odds, log_odds_of_texts


def write_batch(guide, questions, path, sampled=False):
    r"""The requests of all questions as an OpenAI batch file (``vllm run-batch``, a hosted batch API).

    Args:
        guide: `megu.guide.served.ServedMllm`; needs no url.  questions: list of `megu.guide.base.Question`.  path: of the file.
        sampled: for servers without log-probabilities: ``repeats`` sampled replies to each question, which `read_batch` counts.
    """
    with open(path, "w") as file:
        for question in questions:
            body = guide.body(question, guide.settings.repeats if sampled else 0)
            file.write(json.dumps({"custom_id": question.key(guide), "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n")


def _odds(reply, repeats):
    # (log-odds or NaN, why there are none)
    try:
        choices = reply.response.body.choices
        odds = log_odds(choices)
        if odds is None and len(choices) < repeats:
            return math.nan, f"without log-probabilities and with fewer than {repeats} replies"
        odds = log_odds_of_texts(choices) if odds is None else odds
    except GARBAGE:
        return math.nan, "errors"
    return odds, "neither True nor False"


def read_batch(guide, questions, path, book):
    r"""Put the replies of a batch into a book.

    Replies without log-probabilities are counted where there are ``repeats`` of them; of several lines for one question the first
    that is an answer stands, and so does what the book holds already.

    Args:
        guide, questions: as the batch was written with.  path: of the replies.  book: `megu.guide.book.Book`.
    Returns: (answers put in, Counter of the lines that were left out by the reason).
    """
    asked, kept, left_out = {question.key(guide): question for question in questions}, {}, Counter()
    with open(path, "rb") as file:
        for line in file:
            try:
                reply = json.loads(line, object_hook=lambda values: SimpleNamespace(**values))
                key, question = reply.custom_id, asked[reply.custom_id]
            except GARBAGE:
                left_out["no reply to any of the questions"] += bool(line.strip())
                continue
            if key in kept or key in book.answers:
                left_out["answered before"] += 1
                continue
            odds, why = _odds(reply, guide.settings.repeats)
            if math.isnan(odds):
                left_out[why] += 1
                continue
            about = {"source": guide.name, "version": guide.version, "data": question.data, "scale": "log-odds"}
            kept[key] = Answer(key, question.image_hash, question.label, raw=round(odds, 6), **about)
    book.add(kept.values())
    return len(kept), +left_out
