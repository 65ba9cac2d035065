r"""A run: its data, split and models, what is measured of them, and that each is made once."""

import json
import os
import time
from collections.abc import Callable, Iterable
from functools import cache, lru_cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from megu import methods
from megu.core import device, splits
from megu.core import weights as pretrained
from megu.datasets import identity
from megu.datasets.sources import load
from megu.guide import GuideSession
from megu.guide.agreement import agreement_tables
from megu.perturbing_labels import similarity, transition_matrix
from megu.runs.executors import executor
from megu.runs.models import REFERENCES, Models, kept_file
from megu.runs.runner import Job, run_all
from megu.runs.store import CODE, RunDirectory, run_directory
from megu.settings.files import hash_json
from megu.settings.profiles import resolve
from megu.settings.values import nest

# Kinds of MeGU's noise that are measured alone -> what they change; nothing is mended afterwards.
NOISES = {kind: {"noise.kind": kind, "noise.forget_items": "noised"} for kind in ("pos", "neg", "random")}


class Experiment:
    r"""One run: its data, split, device and everything made so far.

    Args:
        profile, seed, overrides: see `resolve`.
        run_dir: None or empty for ``$MEGU_RUN_DIR``, else that of `run_directory`.
        stage: of the notebook that works on the run, in `megu.runs.store.STAGES`.
        study: folder of a study, whose runs keep no copies of what they share.
    Attributes:
        method_names: rows of every table: `REFERENCES` and what is compared with them.
        task, parameters, require: see `Models` and `RunDirectory`.
    Raises: SettingsError or StageError, before any work, where something does not exist or the directory belongs to
        other settings.
    """

    def __init__(
        self,
        profile: str = "quick",
        seed: int = 0,
        run_dir: str | Path | None = None,
        overrides: dict | None = None,
        stage: str | None = None,
        study: Path | None = None,
    ):
        self.settings = settings = resolve(profile, seed, overrides)
        self.overrides = nest(overrides or {})
        methods.check(settings)
        self.compute = device.choose(settings)
        self.images = load(settings, self.compute.device)
        self.split = splits.make_split(self.images, settings)
        about, common = self._about()
        path = run_directory(settings, about, run_dir or os.environ.get("MEGU_RUN_DIR"), study)
        self.run = RunDirectory(path, about, settings.seed_list, self._notes)
        self.shared = RunDirectory(path.parent / f"shared-{hash_json(common)[:6]}", common)
        self.models = Models(self, copies=not study)
        original = partial(self.original, settings.seed)
        self.guide = GuideSession(settings, self.images, self.compute.device, self.run, original)
        self._transition = cache(lambda source: transition_matrix(self.similarity(source)))
        self.forgotten = self.models.forgotten
        self.seeds, self.method_names = settings.seed_list, (*REFERENCES, *settings.compare)
        self.task, self.parameters, self.require = self.models.task, self.models.parameters, self.run.require
        self.stage, self._started = stage, time.perf_counter()
        if stage is not None:
            self.run.sealed(stage)  # refuses one that does not exist

    def _about(self):
        # What the run depends on, and what originals and the like do: on threads because seconds are compared.
        s, threads = self.settings, torch.get_num_threads() if self.compute.device.type == "cpu" else None
        about = {
            "settings": s.model_dump(mode="json", exclude={"methods"}),
            "parameters": {name: methods.method_settings(name, s).model_dump(mode="json") for name in s.compare},
            "data": self.images.digest(),
            "code": CODE,
        }
        if s.arch == "vit-b16":
            about["weights"] = pretrained.identity(s.weights)
        known = about["settings"] | about
        common = {key: known[key] for key in ("arch", "training", "data", "code", "weights") if key in known}
        common |= {"threads": threads, "device": str(self.compute)}
        common |= {"validation": s.data.validation, "name": self.images.name}
        return about, common | ({"original": s.original.sha256} if s.original.path else {})

    def _notes(self):
        return {"split": self.split.digest(), "device": str(self.compute), "images": identity.described(self.images)}

    def __reduce__(self):
        path, s = str(self.run.path.resolve()), self.settings
        return opened, (s.profile, s.seed, path, json.dumps(self.overrides))

    def __str__(self):
        return self.run.path.name

    def seal(self, claims: list) -> list[str]:
        r"""See `RunDirectory.seal`."""
        return self.run.seal(self.stage, claims, time.perf_counter() - self._started)

    def each(self, function: Callable, cases: Iterable[tuple]):
        r"""Call ``function(self, *case)``, which keeps what it makes, for every case, in one process per core where it
        has one thread.  Raises: WorkError with the cases that failed."""
        alone = self.settings.threads != 1 or self.compute.device.type != "cpu" or len(cases) < 2
        jobs = [Job("/".join(map(str, case)), function, (self, *case)) for case in cases]
        run_all(jobs, executor(1 if alone else None), function.__name__)

    def original(self, seed: int) -> nn.Module:
        """The classifier before forgetting, trained here or read from ``settings.original``."""
        return self.models.unlearned("original", seed)

    def unlearned(self, name: str, seed: int) -> nn.Module:
        """See `Models.unlearned`."""
        return self.models.unlearned(name, seed)

    def similarity(self, source: str | None = None) -> Float[np.ndarray, "K K"]:
        r"""S of eq. 4-5, row k = class k; ``source``: see `GuideSession.scores`."""
        return self._similarity(self.guide.scores(source))

    def _similarity(self, scores):
        return similarity(scores.values, scores.of_class, self.images.num_classes, scores.calibration)

    def similarities(self, draw: int | None = None, sources: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        r"""S of several sources, see `GuideSession.all_scores`."""
        return {source: self._similarity(scores) for source, scores in self.guide.all_scores(draw, sources).items()}

    def agreement(self, draws: Iterable[int], sources: Iterable[str] | None = None):
        r"""`agreement_tables` on the run's own exemplars and on fresh ``draws`` of them."""
        sims = [(self.settings.guide.exemplar_seed, self.similarities(None, sources))]
        return agreement_tables([*sims, *((k, self.similarities(k, sources)) for k in draws)], self.images.classes)

    def transition(self, source: str | None = None) -> Float[np.ndarray, "K K"]:
        r"""T of eq. 6 by the answers of guide ``source`` (None: the run's own), columns sum to 1."""
        return self._transition(source or self.settings.guide.source)

    def logits(self, name: str, seed: int) -> dict[str, Float[Tensor, "n K"]]:
        r"""Logits of a method's model by part of the split."""
        return self.models.outputs(name, seed).logits

    def rows(self, name: str, seed: int, repeat: int = 0) -> pd.DataFrame:
        r"""Tidy rows of every metric of one model, which is kept for repeat 0."""
        make = partial(self.models.measure, name, seed, repeat, keep=not repeat)
        return self.run.table(f"rows/{name}-{seed}-{repeat}.csv", make)

    def disentangled(self, name: str, seed: int, kind: str | None = None) -> pd.DataFrame:
        r"""`megu.measure.disentanglement.tidy` of one model, or of one with a ``kind`` of MeGU's noise, not kept."""
        label, changes = (f"{name}, {kind} noise", NOISES[kind]) if kind else (name, None)
        make = partial(self.models.measure, name, seed, changes=changes, what=("patterns",), keep=not kind)
        return self.run.table(f"patterns/{label}-{seed}.csv", make).assign(method=label, seed=seed)

    def cases(self) -> list[tuple[str, int, int]]:
        r"""(method, seed, repeat) of every row of the tables; references have one repeat."""
        repeats = {name: 1 if methods.method(name).reference else self.settings.repeats for name in self.method_names}
        return [(name, seed, k) for seed in self.seeds for name in self.method_names for k in range(repeats[name])]

    def results(self) -> pd.DataFrame:
        r"""`rows` of all `cases`: ``results.csv``."""
        cases = sorted(self.cases(), key=lambda case: self.method_names.index(case[0]))
        return self.run.table("results.csv", lambda: pd.concat([self.rows(*c) for c in cases], ignore_index=True))

    def predictions(self) -> pd.DataFrame:
        r"""What forget images are taken for, in percent of them: method, seed, label, share."""
        names, parts = self.images.classes, []
        for name, seed in product(self.method_names, self.seeds):
            counts = self.logits(name, seed)["forget"].argmax(1).bincount(minlength=len(names))
            shares = [100 * share for share in (counts / len(self.split.forget)).tolist()]
            parts.append(pd.DataFrame({"method": name, "seed": seed, "label": names, "share": shares}))
        return pd.concat(parts, ignore_index=True)

    def disentanglement(self) -> pd.DataFrame:
        r"""`disentangled` of all methods and seeds, and of MeGU with each of `NOISES` alone."""
        cases = [(name, None) for name in self.method_names]
        cases += [("megu", kind) for kind in NOISES if "megu" in self.method_names]
        parts = (self.disentangled(name, seed, kind) for name, kind in cases for seed in self.seeds)
        return pd.concat(parts, ignore_index=True)

    def timings(self) -> pd.DataFrame:
        r"""Seconds by method, seed, repeat and part: those of a method, total, evaluation, and guide where it was asked
        live, once for all methods."""
        manifest, out = self.run.manifest, []
        for name, seed, repeat in self.cases():
            kept = [kept_file(kind, name, seed) for kind in ("models", "outputs")]
            for file in [f"rows/{name}-{seed}-{repeat}.csv"] if repeat else kept:
                parts = manifest["artefacts"].get(file, {}).get("seconds", {})
                out += [(name, seed, repeat, part, seconds) for part, seconds in parts.items()]
        if seconds := manifest["notes"].get(f"guide {self.settings.guide.source}, seconds"):
            out += [("guide", seed, 0, "guide", seconds) for seed in self.seeds]
        return pd.DataFrame(out, columns="method seed repeat part seconds".split())

    def relative_time(self, name: str) -> Float[np.ndarray, " seeds"]:
        r"""Seconds of a method over seconds of the retrain of the same seed."""
        wide = self.timings().query("part == 'total'").pivot_table("seconds", "seed", "method", sort=False)
        return np.asarray(wide[name] / wide["retrain"])


@lru_cache(maxsize=2)
def opened(profile: str, seed: int, run_dir: str | None, overrides: str, study: Path | None = None) -> Experiment:
    r"""An `Experiment`, opened once in each process; ``overrides`` as JSON."""
    return Experiment(profile, seed, run_dir, json.loads(overrides), study=study)
