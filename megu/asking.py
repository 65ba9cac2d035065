r"""What a run asks its guide, and what follows from the answers."""

import itertools

import numpy as np
import pandas as pd

from megu import splits
from megu.classes import SENSIBLE_NEIGHBOURS
from megu.device import Stopwatch
from megu.guide import EMBEDDED, SOURCES, Book, GuideUnavailableError, answer_matrix, ask, draw_exemplars, draw_shots, questions_for, shipped
from megu.guide.agreement import same_nearest, same_order, sensible_hits, shuffled_hits
from megu.transition import similarity, transition_matrix


class AsksGuide:
    r"""The part of an experiment that talks to guides; needs ``settings``, ``images``, ``compute``, ``run`` and the dictionary ``_transitions``."""

    def exemplars(self, draw=None):
        r"""``(m,)`` int64: the exemplars that the guide is asked about; ``draw`` other than the run's own for fresh ones."""
        return draw_exemplars(*self._drawn(draw))

    def _drawn(self, draw):
        guide = self.settings.guide
        allowed = splits.masks(self.images, self.settings.data.validation)[0].nonzero().flatten()
        return self.images, allowed, guide.exemplars, guide.exemplar_seed if draw is None else draw

    def questions(self, source=None, draw=None):
        r"""The guide ``source`` (None: the run's own) and what it is asked: (`megu.guide.Guide`, list of `megu.guide.Question`)."""
        exemplars = self.exemplars(draw)
        guide = SOURCES[source or self.settings.guide.source](self.images.classes, self.images, exemplars, self.settings.guide, self.compute.device)
        shots = draw_shots(*self._drawn(draw)) if getattr(guide, "shots", 0) else None
        return guide, list(questions_for(self.images, exemplars, shots))

    def ask_guide(self, source=None, draw=None):
        r"""The guide's raw scores: asked once, or replayed from the answers that come with the package where its weights are missing.

        Args:
            source: name in `megu.guide.SOURCES`, or None for the run's own.
            draw: of the exemplars, or None for the run's own.
        Returns: (scores ``(m, K)`` array, class of each exemplar ``(m,)`` array, sentence that says where the answers are from).
        """
        source = source or self.settings.guide.source
        guide, questions = self.questions(source, draw)
        book, clock = Book(self.settings.guide.answers or self.run.path / "answers.jsonl"), Stopwatch()
        known = len(book.answers)
        try:
            with clock("guide"):
                answers = ask(guide, questions, book)
            new = len(book.answers) - known
            origin = f"{len(questions)} answers of {guide.name}, {new} asked now, {len(questions) - new} asked before"
            if new and hasattr(guide, "cost"):
                origin += f" ({guide.cost})"
            if draw is None and new == len(questions):
                self.run.note(f"guide {source}, seconds", round(clock.total, 3))
        except GuideUnavailableError as missing:
            replay = shipped(self.images.name)
            if any(question.key(guide) not in replay.answers for question in questions):
                raise
            answers = ask(guide, questions, replay)
            origin = f"{len(questions)} answers of {guide.name}, replayed from the package because {missing}"
        if draw is None and f"guide {source}" not in self.run.manifest["notes"]:
            self.run.note(f"guide {source}", origin)
        scores = answer_matrix(answers, self.images.num_classes)
        if getattr(guide, "log_odds", False) and self.settings.guide.calibration == "none":
            scores = 1 / (1 + np.exp(-scores))
        return scores, self.images.y.cpu().numpy()[self.exemplars(draw).numpy()], origin

    def similarity(self, source=None, draw=None):
        r"""``(K, K)`` similarity S of eq. 4-5, row k = class k."""
        scores, of_class, _ = self.ask_guide(source, draw)
        return similarity(scores, of_class, self.images.num_classes, self.settings.guide.calibration)

    def agreement(self, draws=()):
        r"""How sensible the guides' neighbours are, on the run's own exemplars and on fresh draws.

        Args:
            draws: exemplar seeds that no choice was made on; left out where the guide's weights are missing.
        Returns: tidy DataFrame: guide, draw, hits, shuffled (mean hits with shuffled names), p (share of shuffles with as many), of (classes scored).
        """
        names, out = self.images.classes, []
        for source in EMBEDDED:
            for draw in (None, *draws):
                try:
                    sim = self.similarity(source, draw)
                except GuideUnavailableError:
                    continue
                hits, (shuffled, p) = sensible_hits(sim, names), shuffled_hits(sim, names)
                own = self.settings.guide.exemplar_seed if draw is None else draw
                scored = sum(name in SENSIBLE_NEIGHBOURS for name in names)
                out.append({"guide": source, "draw": own, "hits": hits, "shuffled": round(shuffled, 2), "p": round(p, 3), "of": scored})
        return pd.DataFrame(out)

    def concordance(self, draws=()):
        r"""How far the embedded guides agree with each other, on the run's own exemplars and on fresh draws.

        Returns: tidy DataFrame: first, second (guides), draw, order (`same_order`), nearest (`same_nearest` of 3).
        """
        out = []
        for draw in (None, *draws):
            try:
                sims = {source: self.similarity(source, draw) for source in EMBEDDED}
            except GuideUnavailableError:
                continue
            own = self.settings.guide.exemplar_seed if draw is None else draw
            for first, second in itertools.combinations(EMBEDDED, 2):
                both = sims[first], sims[second]
                out.append({"first": first, "second": second, "draw": own, "order": same_order(*both), "nearest": same_nearest(*both)})
        return pd.DataFrame(out)

    def transition(self, source=None):
        r"""``(K, K)`` transition matrix T of eq. 6, columns sum to 1."""
        if source not in self._transitions:
            self._transitions[source] = transition_matrix(self.similarity(source))
        return self._transitions[source]
