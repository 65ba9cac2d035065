"""Questions to a guide: what is open, what asking takes, and what its answers say."""

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import nn

from megu.core import splits
from megu.core.device import Stopwatch
from megu.datasets.images import Images
from megu.guide.answers import Answer, AnswerStore, ask, open_questions, shipped_answers
from megu.guide.base import SOURCES, Guide, GuideContext, GuideUnavailableError
from megu.guide.prompt import characters
from megu.guide.questions import Index, Question, codes, draw_exemplars, draw_shots, only_classes, questions_for
from megu.settings.config import Settings
from megu.settings.errors import SettingsError
from megu.settings.values import closest

KNOWN = ("fashion-mini", "cifar10", "cifar20", "cifar100")


@dataclass(frozen=True)
class Scores:
    r"""What a guide said about exemplars of classes.

    ``values``, for eq. 4-5: raw scores s for ``column`` calibration; else probabilities $\sigma(s)$ where s are
    log-odds, for ``content-free`` less those about a grey image.  ``new``: how many answers were asked now.
    """

    values: Float[np.ndarray, "m K"]
    of_class: Int64[np.ndarray, " m"]
    calibration: str
    origin: str
    guide: Guide
    answers: list[Answer]
    new: int


class GuideSession:
    """Everything that is asked of guides about one data set.

    Args:
        directory: `megu.runs.store.RunDirectory` that remembers answers, versions and origins.
        original: gives the classifier.  answers: path, before that of settings and directory; without any: in memory.
        allowed: what exemplars are drawn from; None: the training images without validation.
        classes: names of the only classes that are asked about; the exemplars stay the same.
    Raises: SettingsError for classes that do not exist.
    """

    def __init__(
        self, settings: Settings, images: Images, device: torch.device | str = "cpu", directory=None,
        original: Callable[[], nn.Module] | None = None, *, answers: Path | None = None,
        allowed: Index | None = None, classes=(),
    ):  # fmt: skip
        self.settings, self.device, self.directory, self._original = settings.guide, device, directory, original
        self.images, self._drawn_from = only_classes(images, classes) if classes else images, images
        self._validation, self._allowed = settings.data.validation, allowed
        self._path = answers or self.settings.answers or (directory and directory.path / "answers.jsonl")

    @cached_property
    def store(self) -> AnswerStore:
        """The answers so far."""
        store = AnswerStore(self._path)
        if store.damaged:
            lines = "%s lines of the answers do not carry their checksum: they are asked again"
            logging.getLogger("megu").warning(lines, store.damaged)
        return store

    def _drawn(self, draw_them, draw):
        if self._allowed is None:
            self._allowed = splits.masks(self._drawn_from, self._validation)[0].nonzero().flatten()
        seed = self.settings.exemplar_seed if draw is None else draw
        return draw_them(self._drawn_from, self._allowed, self.settings.exemplars, seed)

    def exemplars(self, draw: int | None = None) -> Index:
        """Positions of the exemplars; ``draw``: None for the settings' own, else a seed of fresh ones."""
        drawn = self._drawn(draw_exemplars, draw)
        return drawn[self.images.y.cpu()[drawn] >= 0]

    def guide(self, source: str | None = None, draw: int | None = None) -> Guide:
        """The guide ``source`` (None: the settings' own).  Raises: SettingsError where there is none, or no classifier
        to make it from; GuideUnavailableError where it cannot be had."""
        name, images, model = source or self.settings.source, self.images, ()
        if (made := SOURCES.get(name)) is None:
            raise SettingsError(closest(name, SOURCES, "guide.source"))
        if made.needs_model:
            if self._original is None:
                name = f"guide.source={name}"
                raise SettingsError(f"{name} asks the classifier of a run: `python -m megu run --set {name}`")
            model = self._original(), splits.validation_indices(self._drawn_from, self._validation)
        if made.language and (coded := codes(images.classes)):
            what = "classes are called e.g. %r, which is no word, and guide %s is asked about words: %s"
            remedy = "give their names in words, or take the guide features"
            logging.getLogger("megu").warning(what, coded, name, remedy)
        return made(GuideContext(images.classes, self.settings, images, self.exemplars(draw), self.device, *model))

    def questions(self, source: str | None = None, draw: int | None = None) -> tuple[Guide, list[Question]]:
        """A guide and what it is asked: every exemplar with every label; for ``content-free`` calibration a grey image
        too.  Raises: as `guide`; SettingsError where it cannot be asked about that image."""
        guide = self.guide(source, draw)
        shots = self._drawn(draw_shots, draw) if guide.shots else None
        questions = list(questions_for(self.images, self.exemplars(draw), shots))
        if self._calibration(guide) == "content-free":
            if not (guide.log_odds and guide.any_image):
                why = f"{guide.name} cannot be asked about an image without content"
                raise SettingsError(f"guide.calibration is 'content-free', but {why}: set it to 'column'")
            some = questions[: self.images.num_classes]
            questions += [replace(one, image=np.full_like(one.image, 127)) for one in some]
        return guide, questions

    def _calibration(self, guide):
        # Rivals of the settings' own guide may not be able to do without centring.
        return self.settings.calibration if guide.source == self.settings.source else "column"

    def scores(self, source: str | None = None, draw: int | None = None) -> Scores:
        """What a guide says: asked once, or where its weights are missing by the answers that come with the package.
        Raises: as `questions` and `megu.guide.ask`."""
        return self._scores(*self.questions(source, draw), draw)

    def all_scores(self, draw: int | None = None, sources=None) -> dict[str, Scores]:
        """`scores` of several sources, by default those that every run compares and, on its own exemplars, its own;
        without those whose weights are missing, and slow ones that would have to be asked."""
        own, out = self.settings.source, {}
        compared = [name for name, made in SOURCES.items() if made.compared]
        for source in sources or dict.fromkeys(compared if draw is not None else [*compared, own]):
            with suppress(GuideUnavailableError):
                guide, questions = self.questions(source, draw)
                if source == own or not guide.slow or shipped_answers(guide, questions):
                    out[source] = self._scores(guide, questions, draw)
        return out

    def _scores(self, guide, questions, draw):
        notes, about = self.directory if draw is None else None, f"guide {guide.source}"
        version = f"{about}, version"
        if notes and notes.manifest["notes"].get(version, guide.version) not in guide.versions:
            notes.same(version, guide.version)  # refuses it before anything is asked
        answers, origin, new, seconds = self._answers(guide, questions)
        if notes:
            notes.same(version, guide.version)
            if about not in notes.manifest["notes"]:
                notes.note(about, origin)
            if new == len(questions):
                notes.note(f"{about}, seconds", round(seconds, 3))
        calibration, of_class = self._calibration(guide), self.images.y.cpu()[self.exemplars(draw)].numpy()
        scores = np.array([one.raw for one in answers]).reshape(-1, self.images.num_classes)
        if calibration == "content-free":
            scores = scores[:-1] - scores[-1]
        if guide.log_odds and calibration != "column":
            scores = 1 / (1 + np.exp(-scores))
        return Scores(scores, of_class, calibration, origin, guide, answers, new)

    def _answers(self, guide, questions):
        # (answers, origin, how many were asked now, seconds)
        why, given = "given when the package was made: the same model, images and words", None
        if not (guide.slow and (given := shipped_answers(guide, questions))):
            try:
                return self._ask(guide, questions)
            except GuideUnavailableError as missing:
                if not (given := shipped_answers(guide, questions)):
                    raise
                why = f"replayed from the package because {missing}"
        return given, f"{len(given)} answers of {guide.name}, {why}", 0, 0.0

    def _ask(self, guide, questions):
        clock, before = Stopwatch(), set(self.store.answers)
        with clock("guide"):
            answers = ask(guide, questions, self.store)
        new = sum(one.question not in before for one in answers)
        cost = f" ({guide.cost})" if str(guide.cost) else ""
        took = f" in {clock.total:.1f} s{cost}" if new else ""
        origin = f"{len(answers)} answers of {guide.name}: {new} asked now{took}, {len(answers) - new} asked before"
        return answers, origin, new, clock.total

    def ask(self) -> str:
        """Ask the settings' own guide what is open; what that took.  Raises: as `megu.guide.ask`."""
        return self._ask(*self.questions())[1]

    def open_questions(self) -> tuple[Guide, list[Question]]:
        """The settings' own guide, and what it has not answered yet."""
        guide, questions = self.questions()
        return guide, self._open(guide, questions)

    def _open(self, guide, questions):
        guide.recall(questions, self.store.answers)
        return open_questions([one.key(guide) for one in questions], questions, self.store)

    def bill(self, price: float | None, image_tokens: int | None) -> str:
        """What asking the open questions takes, as a sentence; ``price`` of a million input tokens, ``image_tokens`` of
        one image; text is estimated at 4 characters a token, without what a chat template adds."""
        guide, questions = self.questions()
        asked = self._open(guide, questions)
        said = f"{len(asked)} of {len(questions)} questions to {guide.name} are open"
        if not guide.costly or not asked:
            return said
        tokens, images = math.ceil(sum(map(characters, asked)) / 4), sum(1 + len(one.shots) for one in asked)
        said += f": {len(asked)} requests, {images} images, about {tokens} tokens of text"
        if image_tokens:
            tokens += images * image_tokens
            said += f", {tokens} tokens with the images"
        if price is not None:
            partly = "" if image_tokens else " for the text alone: give --image-tokens"
            said += f", a price of {tokens * price / 1e6:.2f}{partly}"
        return said


def data_settings(data: str) -> dict[str, str]:
    """The settings of a data set's name, a folder or an ``.npz``.  Raises: SettingsError for anything else."""
    if data in KNOWN:
        return {"data.name": data}
    if Path(data).is_dir():
        return {"data.name": "folder", "data.path": data}
    if data.endswith(".npz") and Path(data).is_file():
        return {"data.name": "npz", "data.path": data}
    raise SettingsError(closest(data, KNOWN, "--data: a folder, an .npz or a data set with the name"))
