"""A multimodal LLM behind an OpenAI-style server: vLLM, Ollama, llama.cpp or a hosted one."""

import base64
import io
import math
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cached_property
from itertools import islice

from megu.guide.base import Guide, need, require
from megu.guide.prompt import PROMPT_VERSION, Cost, conversation

LEAST = 1e-6  # probability of a word that a server rounds to nothing
WORDS = ("true", "false")
REFUSED, UNSUPPORTED = (401, 403, 404), (400, 422)  # statuses: key or model; what is asked for
GARBAGE = (ValueError, AttributeError, TypeError, LookupError, ArithmeticError)  # errors of a reply that is none


class ServedMllm(Guide, source="served"):
    r"""Log-odds of True against False as the first token of the reply.

    $s = \log \sum_{\mathrm{True}} p - \log \sum_{\mathrm{False}} p$ over the likely tokens, see `log_odds`; where the
    server gives no log-probabilities, or too few to tell, over ``repeats`` sampled replies, see `log_odds_of_texts`.

    The key comes from ``$MEGU_GUIDE_KEY`` or ``$OPENAI_API_KEY`` and is kept nowhere.
    Raises: GuideUnavailableError without a model; when asked, without url or client, or where key or model are refused.
    Source: arXiv 2602.17088 section 4.1.  Departs: A12.
    """

    log_odds = costly = True

    def __init__(self, context):
        super().__init__(context)
        s, self.shots, self.cost = self.settings, self.settings.shots, Cost()
        need(s.model, "served needs guide.model, the name that the server gives its model")
        self.name, how = f"{s.model} (served)", f"{self.shots}-shot, up to {s.repeats} replies"
        self.version = f"{s.revision or 'as served'}, {how}, prompt {PROMPT_VERSION}"
        # Does the server give log-probabilities, several replies at once?
        self._refused, self._tells, self._many = None, True, True

    @cached_property
    def _openai(self):
        return require("openai", "pip install 'megu[served]'")

    @cached_property
    def _client(self):
        s = self.settings
        need(s.url, "served needs guide.url or $MEGU_GUIDE_URL, e.g. http://localhost:8000/v1")
        key = os.environ.get("MEGU_GUIDE_KEY") or os.environ.get("OPENAI_API_KEY") or "none"
        return self._openai.OpenAI(base_url=s.url, api_key=key, timeout=s.timeout, max_retries=s.retries)

    def body(self, question, sampled=0):
        """The request for log-probabilities, or for so many ``sampled`` replies, JSON-like."""
        messages, images = conversation(question)
        urls = iter({"type": "image_url", "image_url": {"url": _data_url(image)}} for image in images)
        for message in messages:
            message["content"] = [next(urls) if part["type"] == "image" else part for part in message["content"]]
        how = {"max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 20}
        if sampled:
            how = {"n": sampled, "temperature": 1, "max_tokens": 4}
        return {"model": self.settings.model, "messages": messages, **how}

    def score(self, questions):
        """See `Guide.score`."""
        scores = dict(self.stream(questions))
        return [scores.get(at, math.nan) for at in range(len(questions))]

    def stream(self, questions):
        """See `Guide.stream`; what is under way when the server refuses, or at an interrupt, is still given."""
        _ = self._client  # before the threads
        pool, rest, under_way = ThreadPoolExecutor(self.settings.concurrency), iter(enumerate(questions)), {}
        self._stopped = False

        def take(future):
            at, (odds, why, cost) = under_way.pop(future), future.result()
            self.cost.add(**cost)
            self.failures.update([why] if math.isnan(odds) else [])
            return at, odds

        try:
            while True:  # asks the next question when a reply has been taken, and so kept
                free = 0 if self._refused or self._stopped else self.settings.concurrency - len(under_way)
                for at, question in islice(rest, free):
                    under_way[pool.submit(self._one, question)] = at
                if not under_way:
                    break
                yield take(next(as_completed(under_way)))
        except KeyboardInterrupt:
            for future in list(under_way):
                yield take(future)
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        refused = f"{self.name}: the server refuses ({self._refused})"
        need(not self._refused, f"{refused}: check guide.model, guide.url and the key")

    def _one(self, question):
        # (log-odds or NaN, why it is NaN, what the answer took)
        try:
            odds, replies, choices = self._answer(question)
            tokens = sum(one.usage.total_tokens for one in replies if one.usage)
            return odds, "neither True nor False", {"answers": 1, "tokens": tokens, "mass": mass(choices)}
        except (self._openai.OpenAIError, *GARBAGE) as error:
            why = type(error).__name__
            if getattr(error, "status_code", 0) in REFUSED:
                self._refused = why
            return math.nan, why, {}

    def _answer(self, question):
        # (log-odds, all replies, the choices it is from)
        replies, odds, tells = [], None, self._tells
        if tells:
            try:
                replies = [self._reply(question)]
                choices = replies[0].choices
                odds, tells = log_odds(choices), _likely(choices) is not None
            except self._openai.APIStatusError as error:
                if error.status_code not in UNSUPPORTED:
                    raise
                tells = False
        if odds is None:
            sampled = self._sampled(question)
            replies, choices = replies + sampled, [choice for one in sampled for choice in one.choices]
            odds, self._tells = log_odds_of_texts(choices), tells
        return odds, replies, choices

    def _sampled(self, question):
        # Some servers ignore n, some refuse it.
        replies, wanted = [], self.settings.repeats
        while len(replies) < wanted and (left := wanted - sum(len(one.choices) for one in replies)) > 0:
            try:
                replies.append(self._reply(question, left if self._many else 1))
            except self._openai.APIStatusError as error:
                if error.status_code not in UNSUPPORTED or left == 1 or not self._many:
                    raise
                self._many = False
        return replies

    def _reply(self, question, sampled=0):
        return self._client.chat.completions.create(**self.body(question, sampled))


def _data_url(image):
    image.save(content := io.BytesIO(), "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _word(text):
    # ▁ and Ġ: a space in raw tokens.
    return (text.strip(" \n\t.,!*\"'▁Ġ").split() or [""])[0].strip(".,!").lower()


def _likely(choices):
    # The likely first tokens, None without log-probabilities.
    content = getattr(getattr(choices[0], "logprobs", None), "content", None)
    return (getattr(content[0], "top_logprobs", None) or [content[0]]) if content else None


def _shares(likely):
    shares = Counter()
    for one in likely:
        shares[_word(one.token)] += math.exp(one.logprob)
    return shares


def _said(choices):
    return Counter(_word(one.message.content or "") for one in choices)


def log_odds(choices):
    """Log-odds from the first token's log-probabilities; None where they are missing or do not tell, NaN without either
    word.

    A word that is missing counts what it has at most: the probability of the least likely token, or what all leave over
    (1e-6 at least); that does not tell where the other word has no more.
    Raises: ValueError for what is no probability.
    """
    if (likely := _likely(choices)) is None:
        return None
    if not all(one.logprob < 0.01 for one in likely):
        raise ValueError("a log-probability above 0")
    shares, each = _shares(likely), [math.exp(one.logprob) for one in likely]
    if not (given := [word for word in WORDS if word in shares]):
        return math.nan
    left = max(LEAST, min(*each, 1 - sum(each)))
    true, false = (max(LEAST, shares[word]) if word in given else left for word in WORDS)
    return None if len(given) == 1 and left >= max(true, false) else math.log(true) - math.log(false)


def mass(choices):
    """Probability of True or False at all: of the first token, without log-probabilities of a reply."""
    likely = _likely(choices)
    words, whole = (_said(choices), len(choices)) if likely is None else (_shares(likely), 1)
    return sum(words[word] for word in WORDS) / whole


def log_odds_of_texts(choices):
    """Log-odds from sampled replies, half a reply added to either side; NaN where none says True or False."""
    said = _said(choices)
    return math.log(said["true"] + 0.5) - math.log(said["false"] + 0.5) if said["true"] + said["false"] else math.nan
