r"""A multimodal LLM behind an OpenAI-style server: vLLM, Ollama, llama.cpp or a hosted one."""

import base64
import io
import json
import math
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from types import SimpleNamespace

from megu.guide.base import GuideUnavailableError
from megu.guide.book import Answer
from megu.guide.prompt import PROMPT_VERSION, Cost, conversation

LEAST = 1e-6  # probability of a word that a server leaves out or rounds to nothing


class ServedMllm:
    r"""Log-odds of True against False as the first token of the reply.

    Where the server gives log-probabilities, $s = \log \sum_{\mathrm{True}} p - \log \sum_{\mathrm{False}} p$ over the spellings among its most
    likely tokens; for a word that is not among them see `log_odds`.  Where it gives none, or too few to tell,
    the same over ``repeats`` sampled replies, half a reply added to either side.  A reply that is neither is no answer.

    Args:
        class_names, images, exemplars, device: not used; every source is built by the same call.
        settings: `megu.config.Guide`: model, url, shots, concurrency, timeout, retries, repeats.
    The key comes from ``$MEGU_GUIDE_KEY`` or ``$OPENAI_API_KEY`` and is kept nowhere.
    Raises: GuideUnavailableError where there is no url or model, the client is not installed, or the server refuses key or model.
    Source: arXiv 2602.17088 section 4.1.  Departs: A12.
    """

    log_odds = True

    def __init__(self, class_names=(), images=None, exemplars=None, settings=None, device=None):
        if not (settings.model and settings.url):
            raise GuideUnavailableError("guide.source=served needs guide.model and guide.url (or $MEGU_GUIDE_URL), e.g. http://localhost:8000/v1")
        self.settings, self.shots, self.cost, self.failures = settings, settings.shots, Cost(), Counter()
        self.name = f"{settings.model} (served)"
        self.version = f"{settings.revision or 'as served'}, {self.shots}-shot, up to {settings.repeats} replies, prompt {PROMPT_VERSION}"
        self._refused = None

    @cached_property
    def _client(self):
        try:
            import openai  # noqa: PLC0415  (needed by this guide alone)
        except ImportError:
            raise GuideUnavailableError("the client is not installed: `pip install openai`") from None
        key = os.environ.get("MEGU_GUIDE_KEY") or os.environ.get("OPENAI_API_KEY") or "none"
        return openai.OpenAI(base_url=self.settings.url, api_key=key, timeout=self.settings.timeout, max_retries=self.settings.retries)

    def body(self, question):
        r"""The request of a question as a JSON-like dictionary."""
        messages, images = conversation(question)
        urls = iter({"type": "image_url", "image_url": {"url": data_url(image)}} for image in images)
        for message in messages:
            message["content"] = [next(urls) if part["type"] == "image" else part for part in message["content"]]
        return {"model": self.settings.model, "messages": messages, "max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 20}

    def score(self, questions):
        r"""Log-odds of True for every question, NaN where there is no answer; at most ``concurrency`` requests at a time."""
        _ = self._client  # made once, before the threads
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            under_way = self.settings.concurrency  # answers that were when the server refused are kept
            for odds in pool.map(self._one, questions):
                yield odds
                under_way -= bool(self._refused)
                if not under_way:
                    break
        if self._refused:
            raise GuideUnavailableError(f"{self.name}: the server refuses ({self._refused}): check guide.model, guide.url and the key")

    def _sampled(self, question):
        # Some servers ignore n: ask until there are enough, at most once for each reply.
        choices = []
        for _ in range(self.settings.repeats):
            more = {"n": self.settings.repeats - len(choices), "temperature": 1, "max_tokens": 4, "logprobs": False, "top_logprobs": None}
            choices += self._client.chat.completions.create(**{**self.body(question), **more}).choices
            if len(choices) >= self.settings.repeats:
                break
        return log_odds_of_texts(choices)

    def _one(self, question):
        import openai  # noqa: PLC0415

        if self._refused:
            return math.nan
        try:
            reply = self._client.chat.completions.create(**self.body(question))
            odds = log_odds(reply.choices)
            if odds is None:
                odds = self._sampled(question)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            self._refused = type(error).__name__
            return math.nan
        except (openai.OpenAIError, ValueError, AttributeError, TypeError, IndexError) as error:  # of the connection, or garbage in the reply
            self.failures[type(error).__name__] += 1
            return math.nan
        if math.isnan(odds):
            self.failures["neither True nor False"] += 1
        self.cost.answers += 1
        self.cost.tokens += getattr(reply.usage, "total_tokens", 0) or 0
        return odds


def data_url(image):
    r"""An image as PNG in a data URL."""
    content = io.BytesIO()
    image.save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _word(text):
    # ▁ and Ġ stand for a space in raw tokens.
    return (text.strip(" \n\t.,!*\"'▁Ġ").split() or [""])[0].strip(".,!").lower()


def log_odds(choices):
    r"""Log-odds from the first token's log-probabilities; None where they are not given or do not tell, NaN where neither word is among them.

    A word that is not among the given tokens has at most the probability of the least likely one, at most what the given ones leave over, and at least 1e-6:
    that much it counts, so that s errs towards 0.  Where this is not less than what the other word has, nothing is known.

    >>> token = lambda text, p: SimpleNamespace(token=text, logprob=math.log(p))
    >>> top = SimpleNamespace(top_logprobs=[token("True", 0.5), token(" true", 0.1), token("False", 0.3)])
    >>> round(math.exp(log_odds([SimpleNamespace(logprobs=SimpleNamespace(content=[top]))])), 6)
    2.0
    """
    found = choices[0].logprobs
    if found is None or not found.content:
        return None
    likely = found.content[0].top_logprobs or [found.content[0]]
    given = {word: [one.logprob for one in likely if _word(one.token) == word] for word in ("true", "false")}
    if not any(given.values()):
        return math.nan
    left = max(LEAST, min(math.exp(min(one.logprob for one in likely)), 1 - sum(math.exp(one.logprob) for one in likely)))
    mass = {word: max(LEAST, sum(map(math.exp, found))) if found else left for word, found in given.items()}
    if not all(given.values()) and left >= max(mass.values()):
        return None
    return math.log(mass["true"]) - math.log(mass["false"])


def log_odds_of_texts(choices):
    r"""Log-odds from sampled replies, NaN where none says True or False.

    >>> reply = lambda text: SimpleNamespace(message=SimpleNamespace(content=text))
    >>> round(math.exp(log_odds_of_texts([reply("True"), reply(" true."), reply("False"), reply("Well")])), 6)
    1.666667
    """
    said = Counter(_word(choice.message.content or "") for choice in choices)
    return math.log(said["true"] + 0.5) - math.log(said["false"] + 0.5) if said["true"] + said["false"] else math.nan


def write_batch(guide, questions, path):
    r"""The requests of all questions as an OpenAI batch file, to be run elsewhere (``vllm run-batch``, a hosted batch API)."""
    with open(path, "w") as file:
        for question in questions:
            line = {"custom_id": question.key(guide), "method": "POST", "url": "/v1/chat/completions", "body": guide.body(question)}
            file.write(json.dumps(line) + "\n")


def read_batch(guide, questions, path, book):
    r"""Put the replies of a batch into a book.

    Args:
        guide, questions: as the batch was written with.  path: of the replies.  book: `megu.guide.book.Book`.
    Returns: (answers put in, lines that were no answer to any of the questions).
    """
    asked, kept, lost = {question.key(guide): question for question in questions}, [], 0
    for line in open(path):
        try:
            reply = json.loads(line, object_hook=lambda values: SimpleNamespace(**values))
            question, odds = asked[reply.custom_id], log_odds(reply.response.body.choices)
        except (ValueError, AttributeError, KeyError, TypeError, IndexError):
            odds = None
        if odds is None or math.isnan(odds):
            lost += 1
            continue
        kept.append(Answer(reply.custom_id, question.image_hash, question.label, guide.name, guide.version, round(odds, 6)))
    book.add(kept)
    return len(kept), lost
