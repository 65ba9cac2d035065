r"""What is measured of a request's models: outputs, metrics, disentanglement."""

from functools import partial

import pandas as pd

from megu.core.device import Stopwatch
from megu.measure import disentanglement as patterns
from megu.measure import shadows
from megu.measure.metrics import References, metrics, rows
from megu.measure.outputs import Outputs, blank_logits, collect_outputs, load_outputs, save_outputs
from megu.measure.relearn import relearn_steps
from megu.runs.models import REFERENCES, Models, kept_file


class Evaluation:
    r"""Measures `Models`, and keeps the outputs of kept ones."""

    def __init__(self, models: Models):
        self.models, self.run, self.images, self.split = models, models.run, models.images, models.split
        self._references, self._before = {}, {}

    def outputs(self, name: str, seed: int) -> Outputs:
        r"""Those of a kept model on every part of the split."""

        def make():
            return self._look(self.models.unlearned(name, seed))

        load = partial(load_outputs, device=self.models.compute.device)
        return self.run.once(kept_file("outputs", name, seed), make, save_outputs, load)

    def _look(self, model):
        clock = Stopwatch()
        with clock("evaluation"):
            outputs = collect_outputs(model, self.images, self.split)
        return outputs, {"seconds": clock.seconds}

    def references(self, seed: int) -> References:
        r"""What the models of a seed of pre-training are compared with."""
        if seed not in self._references:
            count, split, new = self.models.settings.shadows, self.split, partial(self.models.new, seed, "untrained")
            blank = collect_outputs(new(), self.images, split).logits
            parts = {"forget": split.forget, "test_forget": split.test_forget}
            compat = {part: blank_logits(new(), self.images, index) for part, index in parts.items()}
            attack = shadows.confidences(self.models, count) if count else None
            own = (self.outputs(name, seed) for name in REFERENCES)
            self._references[seed] = References(*own, blank, compat, attack)
        return self._references[seed]

    def measure(
        self,
        name: str,
        seed: int,
        repeat: int = 0,
        changes: dict | None = None,
        what: tuple[str, ...] = ("metrics",),
        keep: bool = False,
    ) -> tuple[pd.DataFrame, dict]:
        r"""Tidy rows of one model, and facts: seconds by part.

        Args:
            name, seed, repeat, changes: see `Models.make`.
            what: of metrics, relearn, patterns.
            keep: the model and its outputs, as always those of `REFERENCES`.
        """
        if keep or name in REFERENCES:
            model, outputs = None, self.outputs(name, seed)
            made, look = self.models.facts(name, seed), self.run.facts(kept_file("outputs", name, seed))
        else:
            model, made = self.models.make(name, seed, repeat, changes)
            outputs, look = self._look(model)
        tables = []
        if "metrics" in what:
            found = metrics(outputs, self.images, self.split, self.references(seed))
            tables.append(rows(name, seed, found, repeat))
        if "relearn" in what:
            steps = relearn_steps(self.models.task("retrain", seed), model or self.models.unlearned(name, seed))
            tables.append(rows(name, seed, {"relearn_steps": steps}, repeat))
        if "patterns" in what:
            tables.append(self._patterns(name, seed, outputs))
        return pd.concat(tables, ignore_index=True), {**made, "seconds": {**made["seconds"], **look["seconds"]}}

    def _patterns(self, name, seed, outputs):
        def look(seen):
            features = next(iter(seen.features.values()))
            pool = features.new_zeros(len(self.images.y), features.shape[1])
            for part, index in vars(self.split).items():
                pool[index] = seen.features[part]
            return pool.__getitem__

        in_place = name != "retrain"
        if not patterns.forgotten_concepts(self.images, self.split):
            return patterns.tidy(patterns.nothing(in_place))
        if seed not in self._before:
            self._before[seed] = patterns.Before(self.images, self.split, look(self.outputs("original", seed)))
        return patterns.tidy(self._before[seed].scores(look(outputs), in_place=in_place))
