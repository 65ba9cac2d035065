r"""A guide, a data set and an answers file: what is open, what it would cost, and asking it, outside of any run."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from megu.core import splits
from megu.core.device import Stopwatch
from megu.datasets.sources import load
from megu.guide.base import Guide, ask, draw_exemplars, draw_shots, questions_for, to_ask
from megu.guide.book import Book
from megu.guide.prompt import conversation
from megu.settings.errors import SettingsError
from megu.settings.values import closest

KNOWN = ("fashion-mini", "cifar10", "cifar20", "cifar100")
CHARACTERS = 4  # of a token of English text, for estimates


def data_settings(data):
    r"""The settings of a data set that is given by its name, its folder or its ``.npz``.  Raises: SettingsError where
    it is none of these."""
    path = Path(data)
    if data in KNOWN:
        return {"data.name": data}
    if path.is_dir() or (path.suffix == ".npz" and path.is_file()):
        return {"data.name": "folder" if path.is_dir() else "npz", "data.path": data}
    raise SettingsError(closest(data, KNOWN, "--data: a folder, an .npz or a data set with the name"))


def _only(images, names):
    # The same pool; images of other classes belong to none.
    if len(set(names)) < 2:
        raise SettingsError(f"--classes names {len(set(names))} class: give at least two")
    for name in names:
        if name not in images.classes:
            raise SettingsError(closest(name, images.classes, f"--classes: in {images.name} the class"))
    names = tuple(dict.fromkeys(names))
    place = torch.full((images.num_classes,), -1, device=images.y.device)
    place[[images.classes.index(name) for name in names]] = torch.arange(len(names), device=images.y.device)
    return replace(images, y=place[images.y], classes=names)


def inquire(source, settings, device="cpu", classes=()):
    r"""A guide and what it is asked: the exemplars of every class with every label.

    Args:
        source: class of the guide, a value of `megu.guide.SOURCES`.
        settings: `megu.settings.config.Settings`; data and guide matter.  device: torch device.
        classes: names of the only classes whose exemplars and labels are asked about; all, if empty.  The exemplars are
            the same as without this choice, and so are the answers of a guide that looks at one question at a time.
    Returns: (`megu.guide.base.Guide`, list of `megu.guide.base.Question`).
    Raises: SettingsError for data or classes that do not exist, GuideUnavailableError where the guide cannot be had.
    """
    wanted = settings.guide
    if getattr(source, "needs_model", False):
        raise SettingsError(
            f"guide.source={wanted.source} asks the classifier of a run: `python -m megu run --set"
            f" guide.source={wanted.source}`"
        )
    images = load(settings, device)
    drawn = (
        images,
        splits.masks(images, settings.data.validation)[0].nonzero().flatten(),
        wanted.exemplars,
        wanted.exemplar_seed,
    )
    exemplars = draw_exemplars(*drawn)
    chosen = _only(images, classes) if classes else images
    exemplars = exemplars[chosen.y.cpu()[exemplars] >= 0]
    guide = source(chosen.classes, chosen, exemplars, wanted, device)
    shots = draw_shots(*drawn) if getattr(guide, "shots", 0) else None
    return guide, to_ask(guide, list(questions_for(chosen, exemplars, shots)), chosen.num_classes, wanted.calibration)


@dataclass
class Inquiry:
    """Questions to a guide, and the book of what it has answered."""

    guide: Guide
    questions: list
    book: Book

    @property
    def open(self):
        """The questions without an answer."""
        return [question for question in self.questions if question.key(self.guide) not in self.book.answers]

    def bill(self, price=None, image_tokens=None):
        r"""What asking the open questions takes, as a sentence.

        Args:
            price: of a million input tokens.
            image_tokens: of one image, as the model counts them.
        The tokens of text are an estimate, four characters each, without what a chat template or worked-out answers
        add.
        """
        still_open = self.open
        said = f"{len(still_open)} of {len(self.questions)} questions to {self.guide.name} are open"
        if self.book.damaged:
            said += f" ({self.book.damaged} damaged lines of the answers were left out)"
        if not hasattr(self.guide, "shots") or not still_open:
            return said
        lengths = {(question.label, len(question.shots)): question for question in still_open}
        lengths = {
            key: sum(len(part.get("text", "")) for message in conversation(q)[0] for part in message["content"])
            for key, q in lengths.items()
        }
        text = math.ceil(sum(lengths[question.label, len(question.shots)] for question in still_open) / CHARACTERS)
        images = sum(1 + len(question.shots) for question in still_open)
        said += f": {len(still_open)} requests, {images} images, about {text} tokens of text"
        tokens = text + images * (image_tokens or 0)
        if image_tokens:
            said += f", {tokens} tokens with the images"
        if price is not None:
            said += (
                ", a price of"
                f" {tokens * price / 1e6:.2f}{'' if image_tokens else ' for the text alone: give --image-tokens'}"
            )
        return said

    def ask(self):
        r"""Ask what is open and say what that took.  Raises: as `megu.guide.base.ask`."""
        known, clock = len(self.book.answers), Stopwatch()
        with clock("guide"):
            ask(self.guide, self.questions, self.book)
        new, cost = len(self.book.answers) - known, getattr(self.guide, "cost", "")
        took = f" in {clock.total:.1f} s{f' ({cost})' if cost else ''}" if new else ""
        return (
            f"{len(self.questions)} answers of {self.guide.name}: {new} asked now{took}, {len(self.questions) - new}"
            " asked before"
        )
