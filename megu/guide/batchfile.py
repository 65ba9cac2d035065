r"""Questions as an OpenAI batch file, to be run elsewhere, and its replies read back."""

import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

from tqdm import tqdm

from megu.guide.book import Answer
from megu.guide.served import GARBAGE, log_odds, log_odds_of_texts
from megu.settings.files import atomic

REQUESTS, BYTES = 50_000, 200_000_000  # in one file, at most: what OpenAI's service takes


def write_batch(guide, questions, path, sampled=False):
    r"""The requests of all questions as OpenAI batch files (``vllm run-batch``, a hosted batch API).

    Args:
        guide: `megu.guide.served.ServedMllm`; needs no url.  questions: list of `megu.guide.base.Question`.
        path: of the file; what is too much for one goes on in ``<stem>-2``, ``<stem>-3`` and so on beside it.
        sampled: for servers without log-probabilities: ``repeats`` sampled replies to each question, which `read_batch`
            counts.
    Returns: list of the paths that were written.
    """
    repeats, written = guide.settings.repeats if sampled else 0, []
    requests = (
        json.dumps(
            {
                "custom_id": question.key(guide),
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": guide.body(question, repeats),
            }
        ).encode()
        + b"\n"
        for question in tqdm(questions, desc="requests", unit="request", leave=False)
    )
    request = next(requests, None)
    while request is not None:
        target = Path(path) if not written else Path(path).with_stem(f"{Path(path).stem}-{len(written) + 1}")
        with atomic(target) as part, open(part, "wb") as file:
            count = 0
            while request is not None and (not count or (count < REQUESTS and file.tell() + len(request) <= BYTES)):
                file.write(request)
                count, request = count + 1, next(requests, None)
        written.append(target)
    return written


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

    Replies without log-probabilities are counted where there are ``repeats`` of them; of several lines for one question
    the first that is an answer stands, and so does what the book holds already.

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
