"""What an OpenAI-style server says: probabilities of first tokens, texts, refusals in its own words."""

import json
import math
import os
import re
from collections import Counter
from dataclasses import dataclass

LEAST = 1e-6  # probability of a word that a server rounds to nothing
ENOUGH = 0.01  # of True and False together, below which a model answers something else
SURE = 0.99  # of a token that is given alone
LENGTH = 150  # characters of a server's own words
WORDS = ("true", "false")
THOUGHT = ("<think", "<|channel", "◁think")
_REMEDIES = {
    "nobody listens": "start the server, or check the address",
    "no reply within": "raise guide.timeout",
    "it thinks": "switch that off at the server, or choose a model that answers at once",
    "begins with": "choose a model that answers with True or False",
}
_ONE_IMAGE, SEES = "set guide.shots=0, which shows one image in a question", "choose a model that is shown images"
_ELSE = "check guide.model, guide.url (it mostly ends in /v1) and the key in $MEGU_GUIDE_KEY"
_SECRETS = (
    (r"(?i)(bearer\s+)\S+|(api[ _-]?key(?: provided)?\s*[:=]\s*)\S+", r"\1\2***"),
    (r"\b(?:sk|pk|rk|hf|gsk|xai|nvapi|csk)[-_][^\s'\",]{3,}|\beyJ[\w.-]{10,}|[\w.-]*\*{2,}[\w.-]*", "***"),
    (r"[A-Za-z0-9+/_=]{32,}", "***"),
)
_PAGE = r"(?is)<(script|style|head)\b.*?</\1>|<[^>]*>"
_GARBAGE = (ValueError, AttributeError, TypeError, LookupError, ArithmeticError)


class ReplyError(ValueError):
    """A reply that is no answer; ``status`` is the server's, 0 where it gives none."""

    def __init__(self, message: str, status: int = 0):
        super().__init__(message)
        self.status = status


def remedy(error: ReplyError, model: str, shots: int) -> str:
    """What can be done where a model cannot be asked with so many worked examples."""
    words, one_image = str(error).replace(model, ""), shots and _ONE_IMAGE  # a model's name may be of vision
    for begin, what in _REMEDIES.items():
        if begin in words:
            return what
    if "logprob" not in words and re.search("(?i)image|vision|visual|picture|multi-?modal", words):
        return f"{one_image}, or {SEES}" if one_image else SEES
    if error.status == 429:
        return "wait, or raise the quota"
    return f"{_ELSE}, or {one_image}" if one_image and error.status in (400, 413, 422, 500) else _ELSE


def given_key() -> str:
    """The key of ``$MEGU_GUIDE_KEY`` or ``$OPENAI_API_KEY``, or nothing."""
    return (os.environ.get("MEGU_GUIDE_KEY") or os.environ.get("OPENAI_API_KEY") or "").strip()


def quoted(words: object) -> str:
    """A server's words on one line: `LENGTH` characters at most, without keys and tokens."""
    text = " ".join(str(words).split())
    if len(key := given_key()) > 3:
        text = text.replace(key, "***")
    for secret, hidden in _SECRETS:
        text = re.sub(secret, hidden, text)
    return repr(text if len(text) <= LENGTH else text[: LENGTH - 3] + "...")


def _words(error):
    # {"error": {"message": words}}, {"error": words}, {"detail": [{"msg": words}]}, ...
    if isinstance(error, dict):
        named = (error.get(name) for name in ("error", "message", "detail", "msg", "errors"))
        return next((_words(value) for value in named if value), json.dumps(error))
    return _words(error[0]) if isinstance(error, list) and error else str(error)


def read(text: str, status: int = 200) -> dict:
    """The JSON of a reply.  Raises: ReplyError for a refusal, with the server's words, and for what is no JSON."""
    try:
        body = json.loads(text)
    except ValueError:
        page = re.sub(_PAGE, " ", text) if text.lstrip().startswith("<") else ""
        kind, code = "a page of HTML" if page else "no JSON", f" ({status})" if status >= 400 else ""
        raise ReplyError(f"the server answers with {kind}: {quoted(page or text)}{code}", status) from None
    error = body.get("error") if isinstance(body, dict) else None
    if status >= 400 or error:
        code = error.get("code") if isinstance(error, dict) else None
        at = code if status < 400 and isinstance(code, int) else status
        raise ReplyError(f"the server says {quoted(_words(body))}{f' ({at})' * (at >= 400)}", at)
    return body


@dataclass(frozen=True)
class Choice:
    """One reply: ``text``; ``likely`` first tokens with their probabilities, which few servers give; ``thinks``: it has
    thoughts beside the text, or begins with them."""

    text: str
    likely: tuple[tuple[str, float], ...] = ()
    thinks: bool = False

    @property
    def begins(self) -> str:
        """The first word, or the likeliest token with its probability."""
        if not self.likely:
            return quoted(self.text[:40]) if self.text.strip() else "nothing"
        token, p = max(self.likely, key=lambda pair: pair[1])
        return f"{token[:40]!r} ({p:.0%})"


def _text(content):
    # A string, parts of it, or nothing.
    if isinstance(content, list):
        return "".join(part if isinstance(part, str) else _text(part.get("text")) for part in content)
    return content or ""


def _choice(one):
    message, content = one["message"], (one.get("logprobs") or {}).get("content")
    first = (content[0].get("top_logprobs") or content[:1]) if content else ()
    likely = [(str(it["token"]), it["logprob"]) for it in first]
    if any(isinstance(logprob, bool) or not logprob < 0.01 for _, logprob in likely):
        raise ReplyError("a log-probability above 0")
    likely = tuple((token, math.exp(logprob)) for token, logprob in likely)
    if sum(p for _, p in likely) > 1.01:
        raise ReplyError("probabilities with a sum above 1")
    text = _text(message.get("content")) or _text(message.get("refusal"))
    parts = message["content"] if isinstance(message.get("content"), list) else ()
    aside = any(isinstance(part, dict) and part.get("type") in ("thinking", "reasoning") for part in parts)
    thoughts = message.get("reasoning_content") or message.get("reasoning") or aside
    begins = (text, max(likely, key=lambda pair: pair[1])[0] if likely else "")
    return Choice(text, likely, bool(thoughts) or any(it.lstrip().startswith(THOUGHT) for it in begins))


def choices_of(body: dict) -> list[Choice]:
    """The choices of a reply's JSON, at least one.  Raises: ReplyError where it has none, or one cannot be read."""
    try:
        if choices := [_choice(one) for one in body["choices"]]:
            return choices
    except ReplyError as error:
        raise ReplyError(f"the server answers with {error}") from None
    except _GARBAGE:
        pass
    raise ReplyError(f"the server answers with what is no reply: {quoted(json.dumps(body))}")


def _word(text):
    # ▁ and Ġ: a space in raw tokens.
    return (text.strip(" \n\t.,!*\"'▁Ġ").split() or [""])[0].strip(".,!*\"'").lower()


def _shares(choices):
    # Probability of each word: of the first token, or as a share of the replies.
    shares = Counter()
    for token, p in choices[0].likely or [(one.text, 1 / len(choices)) for one in choices]:
        shares[_word(token)] += p
    return shares


def mass(choices: list[Choice]) -> float:
    """Probability of True or False at all: of the first token, without log-probabilities of a reply."""
    shares = _shares(choices)
    return sum(shares[word] for word in WORDS)


def _check_words(choices):
    thinks, together = any(one.thinks for one in choices), mass(choices)
    if thinks or together < ENOUGH:
        first = next((one for one in choices if one.likely or one.text.strip()), choices[0])
        given = f"True and False had {together:.2g} of the probability" if together else "neither True nor False"
        raise ReplyError(f"it begins with {first.begins}, {given}{'; it thinks before it answers' * thinks}")


def log_odds(choices: list[Choice]) -> float | None:
    """Log-odds from the first token's probabilities; None where these are missing, or given for one word alone.

    A word that is not among them counts what it has at most: the probability of the least likely token, or what all
    leave over (1e-6 at least).
    Raises: ReplyError where the model thinks first, says True or False too seldom (`ENOUGH`), or they do not tell.
    """
    if not (likely := choices[0].likely) and not any(one.thinks for one in choices):
        return None
    _check_words(choices)
    if len(likely) == 1 and likely[0][1] < SURE:
        return None
    shares, each = _shares(choices), [p for _, p in likely]
    left = max(LEAST, min(*each, 1 - sum(each)))
    true, false = (max(LEAST, shares[word]) if word in shares else left for word in WORDS)
    if not all(word in shares for word in WORDS) and left >= max(true, false):
        raise ReplyError(f"it begins with {choices[0].begins}, too seldom with True or False to tell")
    return math.log(true) - math.log(false)


def log_odds_of_texts(choices: list[Choice]) -> float:
    """Log-odds from sampled replies, half a reply added to either side.  Raises: as `log_odds`."""
    _check_words(choices := [Choice(one.text, (), one.thinks) for one in choices])
    true, false = (round(_shares(choices)[word] * len(choices)) for word in WORDS)
    return math.log(true + 0.5) - math.log(false + 0.5)
