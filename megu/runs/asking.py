r"""What a run asks its guide, and what follows from the answers."""

import itertools

import pandas as pd

from megu import guide as guides
from megu.core import splits
from megu.settings.class_names import SENSIBLE_NEIGHBOURS
from megu.core.device import Stopwatch
from megu.guide import COMPARED, SOURCES, Book, GuideUnavailableError, ask, draw_exemplars, draw_shots, questions_for, replayed
from megu.guide.agreement import same_nearest, same_order, sensible_hits, shuffled_hits
from megu.perturbing_labels import similarity, transition_matrix


class AsksGuide:
    r"""The part of an experiment that talks to guides; needs ``settings``, ``images``, ``compute``, ``run`` and the
    dictionary ``_transitions``."""

    def exemplars(self, draw=None):
        r"""``(m,)`` int64: the exemplars that the guide is asked about; ``draw`` other than the run's own for fresh
        ones."""
        return draw_exemplars(*self._drawn(draw))

    def _drawn(self, draw):
        guide = self.settings.guide
        allowed = splits.masks(self.images, self.settings.data.validation)[0].nonzero().flatten()
        return self.images, allowed, guide.exemplars, guide.exemplar_seed if draw is None else draw

    def questions(self, source=None, draw=None):
        r"""The guide ``source`` (None: the run's own) and what it is asked: (`megu.guide.Guide`, list of
        `megu.guide.Question`)."""
        exemplars, source = self.exemplars(draw), SOURCES[source or self.settings.guide.source]
        more = {}
        if getattr(source, "needs_model", False):
            more = {"model": self.original(self.settings.seed), "held_out": splits.validation_indices(self.images, self.settings.data.validation)}
        guide = source(self.images.classes, self.images, exemplars, self.settings.guide, self.compute.device, **more)
        shots = draw_shots(*self._drawn(draw)) if getattr(guide, "shots", 0) else None
        return guide, list(questions_for(self.images, exemplars, shots))

    def ask_guide(self, source=None, draw=None):
        r"""The guide's raw scores: asked once, or replayed from the answers that come with the package where its
        weights are missing.

        Args:
            source: name in `megu.guide.SOURCES`, or None for the run's own.
            draw: of the exemplars, or None for the run's own.
        Returns: (scores ``(m, K)`` array, class of each exemplar ``(m,)`` array, sentence that says where the answers
            are from).
        """
        source, calibration = source or self.settings.guide.source, self._calibration(source)
        guide, questions = self.questions(source, draw)
        if draw is None:
            self.run.same(f"guide {source}, version", guide.version)
        k = self.images.num_classes
        answers, origin = self._answers(guide, guides.to_ask(guide, questions, k, calibration), source, draw)
        if draw is None and f"guide {source}" not in self.run.manifest["notes"]:
            self.run.note(f"guide {source}", origin)
        return guides.heard(guide, answers, k, calibration), self.images.y.cpu().numpy()[self.exemplars(draw).numpy()], origin

    def _answers(self, guide, questions, source, draw):
        """List of `megu.guide.Answer`, and the sentence that says where they are from."""
        book, clock = Book(self.settings.guide.answers or self.run.path / "answers.jsonl"), Stopwatch()
        if getattr(guide, "slow", False) and (replay := replayed(guide, questions, self.images.name)):
            return replay, f"{len(questions)} answers of {guide.name}, given when the package was made: the same model, images and words"
        known = len(book.answers)
        try:
            with clock("guide"):
                answers = ask(guide, questions, book)
        except GuideUnavailableError as missing:
            if not (replay := replayed(guide, questions, self.images.name)):
                raise
            return replay, f"{len(questions)} answers of {guide.name}, replayed from the package because {missing}"
        new = len(book.answers) - known
        origin = f"{len(questions)} answers of {guide.name}, {new} asked now in {clock.total:.1f} s, {len(questions) - new} asked before"
        if new and hasattr(guide, "cost"):
            origin += f" ({guide.cost})"
        if draw is None and new == len(questions):
            self.run.note(f"guide {source}, seconds", round(clock.total, 3))
        return answers, origin

    def _calibration(self, source):
        # The setting is about the run's own guide; its rivals may not be able to do without centring.
        return self.settings.guide.calibration if source in (None, self.settings.guide.source) else "column"

    def similarity(self, source=None, draw=None):
        r"""``(K, K)`` similarity S of eq. 4-5, row k = class k."""
        scores, of_class, _ = self.ask_guide(source, draw)
        return similarity(scores, of_class, self.images.num_classes, self._calibration(source))

    def similarities(self, draw=None, sources=None):
        r"""S of several sources: ``{source: (K, K)}``; by default those of `megu.guide.COMPARED`, and for the run's own
        exemplars its own guide.

        Left out are sources whose weights are missing, and slow ones that would have to be asked now.
        """
        out = {}
        for source in sources or dict.fromkeys(COMPARED if draw is not None else (*COMPARED, self.settings.guide.source)):
            try:
                guide, questions = self.questions(source, draw)
                if source == self.settings.guide.source or not getattr(guide, "slow", False) or replayed(guide, questions, self.images.name):
                    out[source] = self.similarity(source, draw)
            except GuideUnavailableError:
                continue
        return out

    def agreement(self, draws=(), sources=None):
        r"""How sensible the guides' neighbours are, and how far the guides agree, on the run's own exemplars and on
        fresh draws.

        Args:
            draws: exemplar seeds that no choice was made on.  sources: see `similarities`.
        Returns: two tidy DataFrames, of guides: guide, draw, hits, shuffled (mean hits with shuffled names), p (share
            of shuffles with as many), of (classes scored); and of pairs: first, second (guides), draw, order
            (`same_order`), nearest (`same_nearest` of 3).
        """
        names, single, pairs = self.images.classes, [], []
        scored = sum(name in SENSIBLE_NEIGHBOURS for name in names)
        for draw in (None, *draws):
            sims, own = self.similarities(draw, sources), self.settings.guide.exemplar_seed if draw is None else draw
            for source, sim in sims.items():
                hits, (shuffled, p) = sensible_hits(sim, names), shuffled_hits(sim, names)
                single.append({"guide": source, "draw": own, "hits": hits, "shuffled": round(shuffled, 2), "p": round(p, 3), "of": scored})
            for first, second in itertools.combinations(sims, 2):
                both = sims[first], sims[second]
                pairs.append({"first": first, "second": second, "draw": own, "order": same_order(*both), "nearest": same_nearest(*both)})
        return pd.DataFrame(single), pd.DataFrame(pairs)

    def transition(self, source=None):
        r"""``(K, K)`` transition matrix T of eq. 6, columns sum to 1."""
        if source not in self._transitions:
            self._transitions[source] = transition_matrix(self.similarity(source))
        return self._transitions[source]
