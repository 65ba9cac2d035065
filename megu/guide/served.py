r"""A multimodal LLM behind an OpenAI-style server: vLLM, Ollama, llama.cpp or a hosted one."""

import base64
import io
import math
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cached_property
from itertools import islice

from megu.guide.base import GuideUnavailableError
from megu.guide.prompt import PROMPT_VERSION, Cost, conversation

LEAST = 1e-6  # probability of a word that a server leaves out or rounds to nothing
WORDS = ("true", "false")
GARBAGE = (ValueError, AttributeError, TypeError, LookupError, ArithmeticError)  # what a reply that is none ends in


class ServedMllm:
    r"""Log-odds of True against False as the first token of the reply.

    Where the server gives log-probabilities, $s = \log \sum_{\mathrm{True}} p - \log \sum_{\mathrm{False}} p$ over the
    spellings among its most likely tokens; for a word that is not among them see `log_odds`.  Where it gives none, or
    too few to tell,
    the same over ``repeats`` sampled replies, half a reply added to either side.  A reply that is neither is no answer.
    Sampling is the server's: one that takes the most likely token at temperature 1 as well gives the same reply over
    and over, and its counts say nothing.

    Args:
        class_names, images, exemplars, device: not used; every source is built by the same call.
        settings: `megu.settings.config.Guide`: model, url, shots, concurrency, timeout, retries, repeats.
    The key comes from ``$MEGU_GUIDE_KEY`` or ``$OPENAI_API_KEY`` and is kept nowhere.
    Raises: GuideUnavailableError where there is no model, and before the first request where there is no url, the
        client is not installed, or the server refuses key or model.
    Source: arXiv 2602.17088 section 4.1.  Departs: A12.
    """

    log_odds = dear = True

    def __init__(self, class_names=(), images=None, exemplars=None, settings=None, device=None):
        if not settings.model:
            raise GuideUnavailableError(
                "guide.source=served needs guide.model, the name that the server gives its model"
            )
        self.settings, self.shots, self.cost, self.failures = settings, settings.shots, Cost(), Counter()
        self.name = f"{settings.model} (served)"
        self.version = (
            f"{settings.revision or 'as served'}, {self.shots}-shot, up to {settings.repeats} replies, prompt"
            f" {PROMPT_VERSION}"
        )
        self._refused, self._tells, self._many = (
            None,
            True,
            True,
        )  # whether the server gives log-probabilities, and several replies at once

    @cached_property
    def _client(self):
        if not self.settings.url:
            raise GuideUnavailableError(
                "guide.source=served needs guide.url (or $MEGU_GUIDE_URL), e.g. http://localhost:8000/v1"
            )
        try:
            import openai  # noqa: PLC0415  (needed by this guide alone)
        except ImportError:
            raise GuideUnavailableError("the client is not installed: `pip install openai`") from None
        key = os.environ.get("MEGU_GUIDE_KEY") or os.environ.get("OPENAI_API_KEY") or "none"
        return openai.OpenAI(
            base_url=self.settings.url, api_key=key, timeout=self.settings.timeout, max_retries=self.settings.retries
        )

    def body(self, question, sampled=0):
        r"""The request of a question as a JSON-like dictionary: its log-probabilities, or so many ``sampled``
        replies."""
        messages, images = conversation(question)
        urls = iter({"type": "image_url", "image_url": {"url": data_url(image)}} for image in images)
        for message in messages:
            message["content"] = [next(urls) if part["type"] == "image" else part for part in message["content"]]
        how = (
            {"n": sampled, "temperature": 1, "max_tokens": 4}
            if sampled
            else {"max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 20}
        )
        return {"model": self.settings.model, "messages": messages, **how}

    def score(self, questions):
        r"""Log-odds of True for every question, NaN where there is no answer."""
        found = dict(self.as_they_come(questions))
        return [found.get(at, math.nan) for at in range(len(questions))]

    def as_they_come(self, questions):
        r"""Pairs (position of the question, log-odds or NaN) in the order of the replies; at most ``concurrency``
        requests at a time.

        What is under way when the server refuses, or at an interrupt, is waited for and given; the rest is not asked.
        """
        _ = self._client  # made once, before the threads
        pool, rest, under_way = ThreadPoolExecutor(self.settings.concurrency), iter(enumerate(questions)), {}
        self._enough = False

        def take(future):
            at = under_way.pop(future)
            if (odds := self._counted(*future.result())) is not None:
                yield at, odds

        try:
            # The next question is asked when a reply has been taken, and so kept: a process that dies loses no more
            # than was under way.
            while True:
                for at, question in islice(
                    rest, 0 if self._refused or self._enough else self.settings.concurrency - len(under_way)
                ):
                    under_way[pool.submit(self._one, question)] = at
                if not under_way:
                    break
                yield from take(next(as_completed(under_way)))
        except KeyboardInterrupt:
            for future in list(under_way):
                yield from take(future)
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        if self._refused:
            raise GuideUnavailableError(
                f"{self.name}: the server refuses ({self._refused}): check guide.model, guide.url and the key"
            )

    def stop(self):
        """Ask no more; what is under way is still given."""
        self._enough = True

    def _counted(self, odds, failure, tokens, share):
        if odds is not None and math.isnan(odds):
            self.failures[failure or "neither True nor False"] += 1
        if odds is not None and not failure:
            self.cost.answers += 1
            self.cost.tokens += tokens
            self.cost.mass += share
        return odds

    def _reply(self, question, sampled=0):
        return self._client.chat.completions.create(**self.body(question, sampled))

    def _sampled(self, question):
        # Some servers ignore n, some refuse it: ask until there are enough, at most once for each reply.
        import openai  # noqa: PLC0415

        replies, wanted = [], self.settings.repeats
        while len(replies) < wanted and (left := wanted - sum(len(reply.choices) for reply in replies)) > 0:
            try:
                replies.append(self._reply(question, left if self._many else 1))
            except (openai.BadRequestError, openai.UnprocessableEntityError):
                if left == 1 or not self._many:
                    raise
                self._many = False
        return replies

    def _one(self, question):
        # (log-odds, NaN for no answer, None where it was not asked; why there is none; tokens; probability of either
        # word)
        import openai  # noqa: PLC0415

        if self._refused:
            return None, "", 0, 0.0
        replies, odds, tells = [], None, self._tells
        try:
            if tells:
                try:
                    replies = [self._reply(question)]
                    choices = replies[0].choices
                    odds, tells = log_odds(choices), _likely(choices) is not None
                except (
                    openai.BadRequestError,
                    openai.UnprocessableEntityError,
                ):  # some refuse to give log-probabilities
                    tells = False
            if odds is None:
                sampled = self._sampled(question)
                replies, choices = replies + sampled, [choice for reply in sampled for choice in reply.choices]
                odds, self._tells = log_odds_of_texts(choices), tells
            return odds, "", sum(reply.usage.total_tokens for reply in replies if reply.usage), mass(choices)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            self._refused = type(error).__name__
            return None, "", 0, 0.0
        except (openai.OpenAIError, *GARBAGE) as error:  # of the connection, or in the reply
            return math.nan, type(error).__name__, 0, 0.0


def data_url(image):
    r"""An image as PNG in a data URL."""
    content = io.BytesIO()
    image.save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _word(text):
    # ▁ and Ġ stand for a space in raw tokens.
    return (text.strip(" \n\t.,!*\"'▁Ġ").split() or [""])[0].strip(".,!").lower()


def _likely(choices):
    # The most likely first tokens, or None where the server gives no log-probabilities.
    found = getattr(choices[0], "logprobs", None)
    if found is None or not getattr(found, "content", None):
        return None
    return getattr(found.content[0], "top_logprobs", None) or [found.content[0]]


def log_odds(choices):
    r"""Log-odds from the first token's log-probabilities; None where they are not given or do not tell, NaN where
    neither word is among them.

    A word that is not among the given tokens has at most the probability of the least likely one, at most what the
    given ones leave over, and at least 1e-6: that much it counts, so that s errs towards 0.  Where this is not less
    than what the other word has, nothing is known.

    Raises: ValueError for what is no probability.

    >>> from types import SimpleNamespace
    >>> token = lambda text, p: SimpleNamespace(token=text, logprob=math.log(p))
    >>> top = SimpleNamespace(top_logprobs=[token("True", 0.5), token(" true", 0.1), token("False", 0.3)])
    >>> round(math.exp(log_odds([SimpleNamespace(logprobs=SimpleNamespace(content=[top]))])), 6)
    2.0
    """
    if (likely := _likely(choices)) is None:
        return None
    if not all(one.logprob < 0.01 for one in likely):
        raise ValueError("a log-probability above 0")
    given = {word: [one.logprob for one in likely if _word(one.token) == word] for word in WORDS}
    if not any(given.values()):
        return math.nan
    left = max(
        LEAST, min(math.exp(min(one.logprob for one in likely)), 1 - sum(math.exp(one.logprob) for one in likely))
    )
    has = {word: max(LEAST, sum(map(math.exp, found))) if found else left for word, found in given.items()}
    if not all(given.values()) and left >= max(has.values()):
        return None
    return math.log(has["true"]) - math.log(has["false"])


def mass(choices):
    r"""Probability of True or False at all: of the first token where log-probabilities are given, else their share of
    the replies."""
    if (likely := _likely(choices)) is not None:
        return sum(math.exp(one.logprob) for one in likely if _word(one.token) in WORDS)
    return sum(_word(choice.message.content or "") in WORDS for choice in choices) / len(choices)


def log_odds_of_texts(choices):
    r"""Log-odds from sampled replies, NaN where none says True or False.

    >>> from types import SimpleNamespace
    >>> reply = lambda text: SimpleNamespace(message=SimpleNamespace(content=text))
    >>> round(math.exp(log_odds_of_texts([reply("True"), reply(" true."), reply("False"), reply("Well")])), 6)
    1.666667
    """
    said = Counter(_word(choice.message.content or "") for choice in choices)
    return math.log(said["true"] + 0.5) - math.log(said["false"] + 0.5) if said["true"] + said["false"] else math.nan
