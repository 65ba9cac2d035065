"""A multimodal LLM behind an OpenAI-style server: vLLM, Ollama, llama.cpp or a hosted one."""

import base64
import io
import logging
import math
import re
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cached_property
from itertools import islice

from megu.guide import reply
from megu.guide.base import Guide, need, require
from megu.guide.prompt import PROMPT_VERSION, Cost, conversation
from megu.guide.reply import SEES, ReplyError
from megu.settings.known import guide_lacks

TOP = (20, 10, 5, 3, 2)  # log-probabilities that are asked for, fewer where the server refuses
LISTENING = 5  # seconds in which a server takes a connection
UNANIMOUS = 10  # sampled answers, of which one at least has replies that differ
TRIAL = 2  # questions that are asked one by one before the others
REFUSED, UNSUPPORTED = (401, 402, 403, 404), (400, 422)  # statuses: key or model; what is asked for


class ServedMllm(Guide, source="served"):
    r"""Log-odds of True against False as the first token of the reply.

    $s = \log \sum_{\mathrm{True}} p - \log \sum_{\mathrm{False}} p$ over the likely tokens, see `megu.guide.reply`.
    ``sampling``: the server gives no such probabilities; ``repeats`` sampled replies are counted instead, under another
    name.

    Two questions are tried first: what the server refuses of a request is left out, and fewer log-probabilities are
    asked for before there is sampling.
    The key comes from ``$MEGU_GUIDE_KEY`` or ``$OPENAI_API_KEY`` and is kept nowhere.
    Raises: GuideUnavailableError without a model; when asked, without url or client, where nobody listens, or the
        server or its model does not answer, in its own words.
    Source: arXiv 2602.17088 section 4.1.  Departs: A12.
    """

    log_odds = costly = True
    sampling = False

    def __init__(self, context):
        super().__init__(context)
        self.shots, self.parallel, self.cost = self.settings.shots, self.settings.concurrency, Cost()
        need(not (lacking := guide_lacks("served", self.settings)), lacking)
        self._took, self._refused, self._heard, self._mixed = [], None, False, False
        self._limit, self._top, self._temperature, self._many = "max_tokens", TOP[0], True, True

    @property
    def name(self):
        """The model's, and whether its replies are sampled."""
        return f"{self.settings.model} (served{', sampled' if self.sampling else ''})"

    @property
    def versions(self):
        """Of exact and of sampled answers."""
        s, ways = self.settings, ("first token", f"{self.settings.repeats} replies")
        return tuple(f"{s.revision or 'as served'}, {self.shots}-shot, {how}, prompt {PROMPT_VERSION}" for how in ways)

    @property
    def version(self):
        """What a score depends on."""
        return self.versions[self.sampling]

    def recall(self, questions, known):
        """Go on as most of these were answered before."""
        counts = []
        for self.sampling in (False, True):
            counts.append(sum(one.key(self) in known for one in questions))
        self.sampling = counts[True] > counts[False]

    @cached_property
    def _openai(self):
        return require("openai", "served")

    @cached_property
    def _client(self):
        s, url, key = self.settings, self.settings.url or "", reply.given_key()
        need(url, "served needs guide.url or $MEGU_GUIDE_URL, e.g. http://localhost:8000/v1")
        need(re.match("https?://", url), "guide.url has no http:// or https:// at its beginning")
        odd = not key.isascii() or not key.isprintable() or " " in key
        need(not odd, "the key in $MEGU_GUIDE_KEY has characters that no key has (a line break?): set it again")
        where = {"base_url": url.rstrip("/").removesuffix("/chat/completions"), "api_key": key or "none"}
        timeout = self._openai.Timeout(s.timeout, connect=min(LISTENING, s.timeout))
        return self._openai.OpenAI(**where, timeout=timeout, max_retries=s.retries)

    def body(self, question, limit="max_completion_tokens"):
        """A request, JSON-like: for log-probabilities, or where there is ``sampling`` for so many replies.

        limit: name of the largest number of tokens; that of OpenAI, unless the server is asked here.
        """
        messages, images = conversation(question)
        urls = iter({"type": "image_url", "image_url": {"url": _data_url(image)}} for image in images)
        for message in messages:
            message["content"] = [next(urls) if part["type"] == "image" else part for part in message["content"]]
        if self.sampling:
            how = {"n": self.settings.repeats, limit: 4, "temperature": 1}
        else:
            how = {limit: 1, "temperature": 0, "logprobs": True, "top_logprobs": self._top}
        if not self._temperature:
            del how["temperature"]
        return {"model": self.settings.model, "messages": messages, **how}

    def score(self, questions):
        """See `Guide.score`."""
        name, scores = self.name, dict(self.stream(questions))
        if name != self.name:
            return self.score(questions)
        return [scores.get(at, math.nan) for at in range(len(questions))]

    def stream(self, questions):
        """See `Guide.stream`; what is under way when the server refuses, or at an interrupt, is still given.  It ends
        without an answer where there must be ``sampling``: other questions, by their keys."""
        _ = self._client  # before the clock and the threads
        self._stopped, rest, under_way = False, iter(enumerate(questions)), {}
        for at, question in islice(rest, max(0, TRIAL - len(self._took))):
            sampled = self.sampling
            odds = self._try(question)
            if sampled != self.sampling:
                return
            yield at, odds

        def take(future):
            at, (odds, why, cost) = under_way.pop(future), future.result()
            self.cost.add(**cost)
            self.failures.update([why] if math.isnan(odds) else [])
            return at, odds

        pool = ThreadPoolExecutor(self.settings.concurrency)
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
        need(not self._refused, self._refused)
        if self.sampling and self.cost.answers >= UNANIMOUS and not self._mixed:
            said = "%s: all replies to each of %d questions are equal: does the server sample at temperature 1?"
            logging.getLogger("megu").warning(said, self.name, self.cost.answers)

    def _one(self, question):
        # (log-odds or NaN, why it is NaN, what the answer took)
        try:
            odds, cost = self._answer(question)
            return (math.nan, "too few log-probabilities to tell", {}) if odds is None else (odds, "", cost)
        except ReplyError as error:
            if error.status in REFUSED:
                self._refused = self._refusal(error)
            return math.nan, str(error), {}

    def _try(self, question):
        # The answer to one of the first questions; None where there must be sampling from now on.
        sampled, start, odds = self.sampling, time.perf_counter(), None
        try:
            odds, cost = self._answer(question)
            self.sampling, why = sampled or odds is None, "the server gives too few log-probabilities"
        except ReplyError as error:
            need(self._asks_less(error), self._refusal(error))
            why = str(error)
        if odds is not None:
            self._took.append(time.perf_counter() - start)
            if len(self._took) == TRIAL:  # the first may have waited for the model
                self.took(min(self._took))
            self.cost.add(**cost)
            return odds
        if self.sampling == sampled:
            return self._try(question)
        how = f"{self.settings.repeats} sampled replies are counted for each question, apart from exact answers"
        logging.getLogger("megu").warning("%s: %s: %s", self.settings.model, why, how)
        return None

    def _asks_less(self, error):
        # Leaves out of a request what the server does not take; False where nothing is left to leave out.
        words = str(error)
        if error.status not in UNSUPPORTED or SEES in self._refusal(error):
            return False
        if self._limit == "max_tokens" and re.search("max_(completion_)?tokens", words):
            self._limit = "max_completion_tokens"
        elif self._temperature and "temperature" in words:
            self._temperature = False
        elif not self.sampling:
            fewer = [count for count in TOP if count < self._top]
            self._top, self.sampling = (fewer or TOP)[0], not fewer
        elif self._many and self.settings.repeats > 1:
            self._many = False
        else:
            return False
        return True

    def _refusal(self, error):
        return f"{self.name}: {error}: {reply.remedy(error, self.settings.model, self.shots)}"

    def _answer(self, question):
        # (log-odds, or None where the first token does not tell; what it took).  Raises: ReplyError.
        replies = [self._reply(question)]
        if self.sampling:  # some servers ignore n, some refuse it
            while (left := self.settings.repeats - sum(len(choices) for choices, _ in replies)) > 0:
                replies.append(self._reply(question, left))
        choices = [choice for some, _ in replies for choice in some]
        odds = reply.log_odds_of_texts(choices) if self.sampling else reply.log_odds(choices)
        self._mixed |= len({one.text for one in choices}) > 1
        return odds, {"answers": 1, "tokens": sum(tokens for _, tokens in replies), "mass": reply.mass(choices)}

    def _reply(self, question, left=None):
        # (choices, tokens)
        body = self.body(question, self._limit)
        if self.sampling:
            body["n"] = (left or body["n"]) if self._many else 1
        try:
            whole = reply.read(self._raw(body).text)
        except self._openai.APIStatusError as error:
            whole = reply.read(error.response.text, error.status_code)  # raises
        except self._openai.APITimeoutError:
            raise ReplyError(f"no reply within {self.settings.timeout:g} s") from None
        except self._openai.OpenAIError as error:
            raise ReplyError(f"the connection broke, {reply.quoted(error.__cause__ or error)}") from None
        usage = whole.get("usage") if isinstance(whole, dict) else None
        tokens = usage.get("total_tokens") if isinstance(usage, dict) else 0
        return reply.choices_of(whole), tokens if isinstance(tokens, int) else 0

    def _raw(self, body):
        # The first request is tried once, so that it is said soon that nobody listens.
        first, self._heard = not self._heard, True
        client = self._client.with_options(max_retries=0) if first else self._client
        try:
            return client.chat.completions.with_raw_response.create(**body)
        except self._openai.APIError as error:
            if type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout"):
                self._heard = not first
                raise ReplyError(f"nobody listens at guide.url, {reply.quoted(error.__cause__)}") from None
            if not first or not self.settings.retries or getattr(error, "status_code", 500) < 429:
                raise
        return self._raw(body)


def _data_url(image):
    image.save(content := io.BytesIO(), "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
