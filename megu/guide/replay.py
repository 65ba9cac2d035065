r"""Answers that somebody already has, as a guide: any answers file, asked again without the model."""

import hashlib
import math
from collections import Counter
from pathlib import Path

from megu.guide.base import GuideUnavailableError
from megu.guide.book import Book


class ReplayGuide:
    r"""The raw score that an answers file holds for an image and a label; nothing where it holds none.

    An answer is found by the image's hash and the label, whoever gave it and for which run.  The file must hold the
    answers of one guide, or ``guide.model`` name the one that is meant (its source as written there) and, where that
    has several versions, ``guide.revision`` the version.

    Args:
        class_names, images, exemplars, device: not used; every source is built by the same call.
        settings: `megu.settings.config.Guide`: path, an answers file (JSON lines as `megu.guide.book.Book` writes
            them); model and revision, see above.
    Raises: GuideUnavailableError where there is no such file, it holds several guides, no answer of the one that is
        named, or several answers of it for one image and label (asked with other worked examples).
    """

    def __init__(self, class_names=(), images=None, exemplars=None, settings=None, device=None):
        path = Path(settings.path or "")
        if not settings.path or not path.is_file():
            raise GuideUnavailableError(f"guide.source=replay needs guide.path, an answers file; {path.name!r} is none")
        book = Book(path)
        answers = [
            a
            for a in book.answers.values()
            if settings.model in ("", a.source) and settings.revision in (None, a.version)
        ]
        guides = sorted({(answer.source, answer.version) for answer in answers})
        damaged = f", {book.damaged} lines are damaged" if book.damaged else ""
        if not guides:
            known = ", ".join(sorted({repr(answer.source) for answer in book.answers.values()})) or "nobody"
            raise GuideUnavailableError(
                f"{path.name!r} has no answers of the guide that is asked for, but of {known}{damaged}: see guide.model"
                " and revision"
            )
        if len(guides) > 1:
            what, values = (
                ("revision", [v for _, v in guides])
                if len({source for source, _ in guides}) == 1
                else ("model", sorted({s for s, _ in guides}))
            )
            raise GuideUnavailableError(
                f"{path.name!r} has answers of {len(guides)} guides: set guide.{what} to one of"
                f" {', '.join(map(repr, values))}"
            )
        self._known = {(answer.image, answer.label): answer.raw for answer in answers}
        if len(self._known) < len(answers):
            raise GuideUnavailableError(
                f"{path.name!r} has {len(answers) - len(self._known)} questions answered twice, with other worked"
                " examples: keep one of each"
            )
        (source, version), self.failures = guides[0], Counter()
        held = hashlib.sha256("|".join(sorted(f"{a.question} {a.raw!r}" for a in answers)).encode()).hexdigest()[:8]
        self.name, self.version = f"{source} (replayed)", f"{version}, answers {held}"
        self.log_odds = all(answer.scale == "log-odds" for answer in answers)
        self._absent = f"not in {path.name}{damaged}"

    def score(self, questions):
        r"""Raw scores of questions, NaN where the file has no answer."""
        found = [self._known.get((question.image_hash, question.label), math.nan) for question in questions]
        if missing := sum(map(math.isnan, found)):
            self.failures[self._absent] = missing
        return found

    def as_they_come(self, questions):
        r"""Pairs (position of the question, raw score) of those that have an answer."""
        return ((at, raw) for at, raw in enumerate(self.score(questions)) if not math.isnan(raw))
