r"""A run: its data, split and models, what is measured of them, and that each is made once."""

import json
import os
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
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
from megu.methods.task import Task
from megu.perturbing_labels import similarity, transition_matrix
from megu.runs.evaluation import Evaluation, outputs_file
from megu.runs.executors import executor
from megu.runs.models import REFERENCES, Models
from megu.runs.runner import Job, run_all
from megu.runs.store import CODE, RunDirectory, run_directory
from megu.settings.config import Part
from megu.settings.files import hash_json
from megu.settings.profiles import resolve
from megu.settings.values import nest

NOISES = ("pos", "neg", "random")  # kinds of MeGU's noise that are looked at beside both and none


@lru_cache
def _opened(run_dir, profile, seed, overrides):
    return Experiment(profile, seed, run_dir, json.loads(overrides))


class Experiment:
    r"""One run with its data, split, device and everything made so far.

    Args:
        profile, seed, overrides: see `megu.settings.profiles.resolve`.
        run_dir: directory; None or empty for ``$MEGU_RUN_DIR``, or the one that `run_directory` names.
        stage: of the notebook that works on the run, see `megu.runs.store.STAGES`.
        study: folder of a study, in which the run's directory then lies; of what it shares with others it keeps no
            copies.
    Attributes: settings, compute, images, split; models, a `megu.runs.models.Models`; guide; run and shared, each a
        `megu.runs.store.RunDirectory`.
    Raises: SettingsError or StageError, one line with the remedy, before any work where a setting, class, method, stage
        or device does not exist or the directory belongs to other settings.
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
        given = settings, self.images, self.split, self.compute, lambda source: self.transition(source)
        self.models = Models(*given, self.run, self.shared, copies=not study)
        original = partial(self.models.original, settings.seed)
        self.guide = GuideSession(settings, self.images, self.compute.device, self.run, original)
        self.evaluation, self.forgotten, self._transitions = Evaluation(self.models), self.models.forgotten, {}
        self.stage, self._started = stage, time.perf_counter()
        if stage is not None:
            self.run.sealed(stage)

    def _about(self):
        # What the run depends on; and what originals and the like do, the threads because seconds are compared.
        s, cpu = self.settings, self.compute.device.type == "cpu"
        about = {
            "settings": s.model_dump(mode="json", exclude={"methods"}),
            "parameters": {name: methods.method_settings(name, s).model_dump(mode="json") for name in s.compare},
            "data": self.images.digest(),
            "code": CODE,
        }
        if s.arch == "vit-b16":
            about["weights"] = pretrained.identity(s.weights)
        common = {key: about["settings"][key] for key in ("arch", "training")}
        common |= {key: about[key] for key in ("data", "code", "weights") if key in about}
        common |= {"validation": s.data.validation, "name": self.images.name, "device": str(self.compute)}
        common |= {"threads": torch.get_num_threads() if cpu else None}
        return about, common | ({"original": s.original.sha256} if s.original.path else {})

    def _notes(self):
        images = identity.described(self.images)
        return {"split": self.split.digest(), "device": str(self.compute), "images": images}

    def __reduce__(self):
        # Another process opens the run directory by itself, once.
        where = (str(self.run.path.resolve()), self.settings.profile, self.settings.seed, json.dumps(self.overrides))
        return _opened, where

    def __str__(self):
        return self.run.path.name

    def require(self, *stages: str):
        r"""Refuse to go on unless these stages are sealed; names the notebook to run first."""
        self.run.require(*stages)

    def seal(self, claims: list) -> list[str]:
        r"""Finish the notebook's stage; returns its claims that hold or fail as lines, see
        `megu.runs.store.RunDirectory.seal`."""
        return self.run.seal(self.stage, claims, time.perf_counter() - self._started)

    def each(self, function: Callable, cases: Iterable[tuple]):
        r"""Call ``function(self, *case)`` for every case, in one process per core where a process has one thread.

        What the function makes it must keep.

        Raises: WorkError with the cases that failed; the others are kept.
        """
        alone = self.settings.threads != 1 or self.compute.device.type != "cpu" or len(cases) < 2
        jobs = [Job("/".join(map(str, case)), function, (self, *case)) for case in cases]
        run_all(jobs, executor(1 if alone else None), function.__name__)

    # What a notebook calls often
    @property
    def seeds(self) -> list[int]:
        """Seeds of the repetitions."""
        return self.settings.seed_list

    @property
    def method_names(self) -> tuple[str, ...]:
        """Rows of every table: the untouched original, the true retrain, and what is compared with them."""
        return (*REFERENCES, *self.settings.compare)

    def original(self, seed: int) -> nn.Module:
        """See `megu.runs.models.Models.original`."""
        return self.models.original(seed)

    def unlearned(self, name: str, seed: int) -> nn.Module:
        """See `megu.runs.models.Models.unlearned`."""
        return self.models.unlearned(name, seed)

    def task(self, name: str, seed: int) -> Task:
        """See `megu.runs.models.Models.task`."""
        return self.models.task(name, seed)

    def parameters(self, name: str) -> Part:
        """See `megu.runs.models.Models.parameters`."""
        return self.models.parameters(name)

    def similarity(self, source: str | None = None, draw: int | None = None) -> Float[np.ndarray, "K K"]:
        r"""S of eq. 4-5, row k = class k; ``source``, ``draw``: see `megu.guide.GuideSession.scores`."""
        return self._similarity(self.guide.scores(source, draw))

    def _similarity(self, scores):
        return similarity(scores.values, scores.of_class, self.images.num_classes, scores.calibration)

    def similarities(self, draw: int | None = None, sources: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        r"""S of several sources, see `megu.guide.GuideSession.all_scores`."""
        return {source: self._similarity(scores) for source, scores in self.guide.all_scores(draw, sources).items()}

    def agreement(self, draws: Iterable[int] = (), sources: Iterable[str] | None = None):
        r"""`megu.guide.agreement.agreement_tables` on the run's own exemplars and on fresh ``draws`` of them."""
        own = self.settings.guide.exemplar_seed
        sims = [(own if one is None else one, self.similarities(one, sources)) for one in (None, *draws)]
        return agreement_tables(sims, self.images.classes)

    def transition(self, source: str | None = None) -> Float[np.ndarray, "K K"]:
        r"""Transition matrix T of eq. 6 by the answers of guide ``source`` (None: the run's own), columns sum to 1."""
        if source not in self._transitions:
            self._transitions[source] = transition_matrix(self.similarity(source))
        return self._transitions[source]

    def rows(self, name: str, seed: int, repeat: int = 0) -> pd.DataFrame:
        """See `megu.runs.evaluation.Evaluation.rows`."""
        return self.evaluation.rows(name, seed, repeat)

    def logits(self, name: str, seed: int) -> dict[str, Float[Tensor, "n K"]]:
        r"""Logits of a method's model by part of the split."""
        return self.evaluation.outputs(name, seed).logits

    def disentangled(self, name: str, seed: int, kind: str | None = None) -> pd.DataFrame:
        """See `megu.runs.evaluation.Evaluation.disentangled`."""
        return self.evaluation.disentangled(name, seed, kind)

    # Tables
    def cases(self) -> list[tuple[str, int, int]]:
        r"""(method, seed, repeat) of every row of the tables; what is only a reference has one repeat."""
        repeats = {name: 1 if methods.method(name).reference else self.settings.repeats for name in self.method_names}
        return [(name, seed, k) for seed in self.seeds for name in self.method_names for k in range(repeats[name])]

    def results(self) -> pd.DataFrame:
        r"""Tidy rows of every metric, method, seed and repeat; kept in ``results.csv``."""

        def make():
            cases = sorted(self.cases(), key=lambda case: self.method_names.index(case[0]))
            return pd.concat([self.rows(*case) for case in cases], ignore_index=True)

        return self.run.table("results.csv", make)

    def predictions(self) -> pd.DataFrame:
        r"""What the forgotten training images are taken for, in percent of them: method, seed, label, share."""
        names, out = self.images.classes, []
        for name in self.method_names:
            for seed in self.seeds:
                counts = self.logits(name, seed)["forget"].argmax(1).bincount(minlength=len(names))
                shares = (100 * share for share in (counts / len(self.split.forget)).tolist())
                out += [(name, seed, *one) for one in zip(names, shares, strict=True)]
        return pd.DataFrame(out, columns=["method", "seed", "label", "share"])

    def disentanglement(self) -> pd.DataFrame:
        r"""`disentangled` of all methods and seeds, and of MeGU with each of `NOISES` alone."""
        cases = [(name, None) for name in self.method_names]
        cases += [("megu", kind) for kind in NOISES if "megu" in self.method_names]
        parts = [self.disentangled(name, seed, kind) for name, kind in cases for seed in self.seeds]
        return pd.concat(parts, ignore_index=True)

    def timings(self) -> pd.DataFrame:
        r"""Seconds by method, seed, repeat and part, as measured when each model was made.

        Parts: labels, noise, fine-tuning and so on; total, the whole method; evaluation, the forward passes; guide, a
        row of its own for each seed, since it is asked once for all methods (where it was asked live).
        """
        manifest, out = self.run.manifest, []
        for name, seed, repeat in self.cases():
            first = (f"models/{name}-{seed}.safetensors", outputs_file(name, seed))
            for file in (f"rows/{name}-{seed}-{repeat}.csv",) if repeat else first:
                for part, seconds in manifest["artefacts"].get(file, {}).get("seconds", {}).items():
                    out.append({"method": name, "seed": seed, "repeat": repeat, "part": part, "seconds": seconds})
        if seconds := manifest["notes"].get(f"guide {self.settings.guide.source}, seconds"):
            out += [
                {"method": "guide", "seed": s, "repeat": 0, "part": "guide", "seconds": seconds} for s in self.seeds
            ]
        return pd.DataFrame(out)

    def relative_time(self, name: str) -> Float[np.ndarray, " seeds"]:
        r"""Seconds of a method over seconds of the retrain of the same seed."""
        wide = self.timings().query("part == 'total'").pivot_table("seconds", "seed", "method", sort=False)
        return np.asarray(wide[name] / wide["retrain"])
