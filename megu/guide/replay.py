"""An answers file as guide, without the model."""

import math
from pathlib import Path

from megu.guide.answers import AnswerStore
from megu.guide.base import Guide, need
from megu.settings.files import hash_bytes


class ReplayGuide(Guide, source="replay"):
    """The raw score that an answers file holds for an image (by its hash) and a label.

    It must hold the answers of one guide, or ``guide.model`` and ``guide.revision`` name source and version.
    Raises: GuideUnavailableError where ``guide.path`` is no such file, or holds several guides, none as named, or
        several answers for one image and label.
    """

    language = False

    def __init__(self, context):
        super().__init__(context)
        settings, path = self.settings, Path(self.settings.path or "")
        need(path.is_file(), f"replay needs guide.path, an answers file; {path.name!r} is none")
        store = AnswerStore(path)
        every = store.answers.values()
        answers = [a for a in every if settings.model in ("", a.source) and settings.revision in (None, a.version)]
        guides = {(a.source, a.version) for a in answers}
        self._known = {(a.image, a.label): a.raw for a in answers}
        wrong, damaged = "", f", {store.damaged} lines are damaged" if store.damaged else ""
        if store.damaged and not every:
            how = f"`megu guide answers NEW.jsonl --import {path.name}` makes them of a table"
            wrong = f"no answers as JSON lines: {how}"
        elif not guides:
            known = ", ".join(sorted({repr(a.source) for a in every})) or "nobody"
            wrong = f"no answers of the guide that is asked for, but of {known}{damaged}: see guide.model and revision"
        elif len(guides) > 1:
            sources, versions = map(set, zip(*guides, strict=True))
            what, values = ("model", sources) if len(sources) > 1 else ("revision", versions)
            choice = ", ".join(map(repr, sorted(values)))
            wrong = f"answers of {len(guides)} guides: set guide.{what} to one of {choice}"
        elif twice := len(answers) - len(self._known):
            wrong = f"{twice} questions answered twice, with other worked examples: keep one of each"
        need(not wrong, f"{path.name!r} has {wrong}")
        ((name, version),) = guides
        held = hash_bytes("|".join(sorted(f"{a.question} {a.raw!r}" for a in answers)))[:8]
        self.name, self.version = f"{name} (replayed)", f"{version}, answers {held}"
        self.log_odds = all(a.scale == "log-odds" for a in answers)
        self._absent = f"not in {path.name}{damaged}"

    def score(self, questions):
        """See `Guide.score`."""
        scores = [self._known.get((one.image_hash, one.label), math.nan) for one in questions]
        images, labels = (set(known) for known in zip(*self._known, strict=True))
        some, where = ", ".join(map(repr, sorted(labels)[:5])), self._absent
        for one in (one for one, score in zip(questions, scores, strict=True) if math.isnan(score)):
            if one.label not in labels:
                why = f"the label {one.label!r} is {where}, which has {some}"
            elif one.image_hash not in images:
                why = f"the image is {where}: were other exemplars asked about?"
            else:
                why = f"the image is {where} with this label"
            self.failures[why] += 1
        return scores

    def stream(self, questions):
        """See `Guide.stream`; only questions that have an answer."""
        return ((at, raw) for at, raw in enumerate(self.score(questions)) if not math.isnan(raw))
