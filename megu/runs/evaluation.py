r"""What is measured of a request's models: outputs, metrics, disentanglement, each made once."""

from functools import partial

import pandas as pd

from megu.core.device import Stopwatch
from megu.measure import disentanglement as patterns
from megu.measure import shadows
from megu.measure.metrics import References, metrics, rows
from megu.measure.outputs import Outputs, blank_logits, collect_outputs, load_outputs, save_outputs
from megu.measure.relearn import relearn_steps
from megu.runs.models import REFERENCES, Models


class Evaluation:
    r"""Measures models of `megu.runs.models.Models`, whose run directory keeps what was measured."""

    def __init__(self, models: Models):
        self.models, self.run = models, models.run
        self.images, self.split, self.device = models.images, models.split, models.compute.device
        self._references, self._before = {}, {}

    def outputs(self, name: str, seed: int) -> Outputs:
        r"""Logits and features of a kept model on every part of the split, from one forward pass, kept."""

        def make():
            outputs, seconds = self._look(self.models.unlearned(name, seed))
            return outputs, {"seconds": seconds}

        return self.run.once(outputs_file(name, seed), make, save_outputs, partial(load_outputs, device=self.device))

    def _look(self, model):
        clock = Stopwatch()
        with clock("evaluation"):
            outputs = collect_outputs(model, self.images, self.split)
        return outputs, clock.seconds

    def references(self, seed: int) -> References:
        r"""What the models of a seed of pre-training are compared with."""
        if seed not in self._references:
            count, split, new = self.models.settings.shadows, self.split, partial(self.models.new, seed, "untrained")
            blank = collect_outputs(new(), self.images, split).logits
            compat = {
                part: blank_logits(new(), self.images, getattr(split, part)) for part in ("forget", "test_forget")
            }
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
        source: str | None = None,
        what: tuple[str, ...] = ("metrics",),
    ) -> tuple[pd.DataFrame, dict]:
        r"""Tidy rows of one model, and facts: seconds by part.  Kept are original and retrained models alone.

        Args:
            name, seed, repeat, changes, source: see `megu.runs.models.Models.make`.
            what: is measured: metrics and relearn, or patterns.
        """
        if name in REFERENCES:
            model, outputs = None, self.outputs(name, seed)
            made, look = self.models.facts(name, seed), self.run.facts(outputs_file(name, seed))["seconds"]
        else:
            model, made = self.models.make(name, seed, repeat, changes, source)
            outputs, look = self._look(model)
        tables = []
        if "metrics" in what:
            tables.append(self._metric_rows(name, seed, repeat, outputs))
        if "relearn" in what:
            steps = relearn_steps(self.models.task("retrain", seed), model or self.models.unlearned(name, seed))
            tables.append(rows(name, seed, {"relearn_steps": steps}, repeat))
        if "patterns" in what:
            tables.append(self._pattern_rows(name, seed, outputs))
        return pd.concat(tables, ignore_index=True), {**made, "seconds": {**made["seconds"], **look}}

    def _metric_rows(self, name, seed, repeat, outputs):
        return rows(name, seed, metrics(outputs, self.images, self.split, self.references(seed)), repeat)

    def _pattern_rows(self, name, seed, outputs):
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

    def rows(self, name: str, seed: int, repeat: int = 0) -> pd.DataFrame:
        r"""Tidy rows of every metric of one model; the models of repeat 0 are kept, of the others only the rows."""

        def make():
            if repeat:
                return self.measure(name, seed, repeat)
            return self._metric_rows(name, seed, 0, self.outputs(name, seed)), {}

        return self.run.measured(f"rows/{name}-{seed}-{repeat}.csv", make)

    def disentangled(self, name: str, seed: int, kind: str | None = None) -> pd.DataFrame:
        r"""Disentanglement score of one model, kept: method, seed, view, measure, value, low, high; see
        `megu.measure.disentanglement.disentanglement`.

        Args:
            name, seed: of the model.  kind: of MeGU's noise, for a model that is made with it and not kept.
        """
        label = f"{name}, {kind} noise" if kind else name

        def make():
            if kind:
                return self.measure(name, seed, changes={"noise.kind": kind}, what=("patterns",))[0]
            return self._pattern_rows(name, seed, self.outputs(name, seed))

        return self.run.table(f"patterns/{label}-{seed}.csv", make).assign(method=label, seed=seed)


def outputs_file(name, seed):
    r"""Where the outputs of a kept model lie."""
    return f"outputs/{name}-{seed}.safetensors"
