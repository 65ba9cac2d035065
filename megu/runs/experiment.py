r"""A run: which pieces exist, how they are made, and that each is made once."""

import json
import os
import re
import time
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from megu import methods
from megu.core import device, splits
from megu.core import weights as pretrained
from megu.core.device import Stopwatch
from megu.datasets import identity
from megu.datasets.sources import load
from megu.guide import GuideSession
from megu.guide.agreement import agreement_tables
from megu.measure import disentanglement, shadows
from megu.measure.metrics import References, blank_logits, load_seen, metrics, observe, rows, save_seen
from megu.perturbing_labels import similarity, transition_matrix
from megu.runs.making import MakesModels
from megu.runs.store import CODE, Run
from megu.runs.workers import each, share
from megu.settings.files import digest, project_root
from megu.settings.profiles import resolve
from megu.settings.values import nest

NOISES = ("pos", "neg", "random")  # kinds of MeGU's noise that are looked at beside both and none


def run_directory(settings, about, run_dir=None):
    r"""Where a run lives: ``run_dir``, or ``runs/<profile>-<what is forgotten>-<digest of about>`` so that settings
    never mix."""
    if run_dir:
        return Path(run_dir)
    return project_root() / "runs" / f"{settings.profile}-{request(settings)}-{digest(about)[:6]}"


def request(settings):
    r"""What is forgotten, for the name of a directory."""
    what = (
        "random"
        if settings.forget.scenario == "random"
        else "-".join((settings.forget.scenario, *settings.forget.classes))
    )
    return re.sub(r"[^a-z0-9-]+", "_", what.lower())


@lru_cache
def _opened(run_dir, profile, seed, overrides):
    return Experiment(profile, seed, run_dir, json.loads(overrides))


class Experiment(MakesModels):
    r"""One run with its data, split, device and everything made so far.

    Args:
        profile, seed, overrides: see `megu.settings.profiles.resolve`.
        run_dir: directory; None or empty for ``$MEGU_RUN_DIR``, or the one that `run_directory` names.
        stage: of the notebook that works on the run, see `megu.runs.store.STAGES`.
    Raises: SettingsError or StageError, one line with the remedy, before any work where a setting, class, method, stage
        or device does not exist or the directory belongs to other settings.
    """

    def __init__(self, profile="quick", seed=0, run_dir=None, overrides=None, stage=None):
        self.settings = settings = resolve(profile, seed, overrides)
        self.overrides = nest(overrides or {})
        methods.check(settings)
        self.compute = device.choose(settings)
        self.images = load(settings, self.compute.device)
        self.split = splits.make_split(self.images, settings)
        self._references, self._transitions, self._before = {}, {}, {}
        self.forgotten = splits.forgotten_classes(self.images, self.split, settings)
        parameters = {name: self.parameters(name).model_dump(mode="json") for name in settings.compare}
        about = {
            "settings": settings.model_dump(mode="json", exclude={"methods"}),
            "parameters": parameters,
            "data": self.images.digest(),
            "code": CODE,
        }
        if settings.arch == "vit-b16":
            about["weights"] = pretrained.identity(settings.weights)
        self.run = Run(self._directory(about, run_dir), about, settings.seed_list)
        self.run.note("split", self.split.digest())
        self.run.note("device", str(self.compute))
        # What originals and shadow models depend on; the threads, because their seconds are compared with those of
        # other models.
        common = {
            **{key: about["settings"][key] for key in ("arch", "training")}, "validation": settings.data.validation, "name": self.images.name,
            "device": str(self.compute),
            "threads": torch.get_num_threads() if self.compute.device.type == "cpu" else None, "data": about["data"], "code": about["code"],
            **{key: about[key] for key in ("weights",) if key in about},
        }  # fmt: skip
        if settings.original.path:
            common["original"] = settings.original.sha256
        self.shared = Run(self.run.path.parent / f"shared-{digest(common)[:6]}", common)
        self.run.note("images", identity.described(self.images))
        self.guide = GuideSession(settings, self.images, self.compute.device, self.run, partial(self.original, settings.seed))
        self.stage, self._started = stage, time.perf_counter()
        if stage is not None:
            self.run.sealed(stage)

    def _directory(self, about, run_dir):
        return run_directory(self.settings, about, run_dir or os.environ.get("MEGU_RUN_DIR"))

    def __reduce__(self):
        # Another process opens the run directory by itself, once.
        return _opened, (
            str(self.run.path.resolve()),
            self.settings.profile,
            self.settings.seed,
            json.dumps(self.overrides),
        )

    def __str__(self):
        return self.run.path.name

    def require(self, *stages):
        r"""Refuse to go on unless these stages are sealed; names the notebook to run first."""
        self.run.require(*stages)

    def seal(self, claims):
        r"""Finish the notebook's stage; returns its claims that hold or fail as lines, see `megu.runs.store.Run.seal`."""
        return self.run.seal(self.stage, claims, time.perf_counter() - self._started)

    def each(self, function, cases):
        r"""Call ``function(self, *case)`` for every case, in one process per core where a process has one thread.

        What the function makes it must keep.

        Raises: megu.runs.workers.WorkError with the cases that failed; the others are kept.
        """
        workers = share()[0] if self.settings.threads == 1 and self.compute.device.type == "cpu" else 1
        each(function, [(self, *case) for case in cases], min(workers, len(cases)), function.__name__)

    # Names that are short in a notebook
    @property
    def seeds(self):
        """Seeds of the repetitions."""
        return self.settings.seed_list

    @property
    def method_names(self):
        """Rows of every table: the untouched original, the true retrain, and what is compared with them."""
        return ("original", "retrain", *self.settings.compare)

    # What the guide's answers say
    def similarity(self, source=None, draw=None):
        r"""``(K, K)`` similarity S of eq. 4-5, row k = class k; ``source``, ``draw``: see `megu.guide.GuideSession.scores`."""
        return self._similarity(self.guide.scores(source, draw))

    def _similarity(self, scores):
        return similarity(scores.values, scores.of_class, self.images.num_classes, scores.calibration)

    def similarities(self, draw=None, sources=None):
        r"""S of several sources, ``{source: (K, K)}``, see `megu.guide.GuideSession.all_scores`."""
        return {source: self._similarity(scores) for source, scores in self.guide.all_scores(draw, sources).items()}

    def agreement(self, draws=(), sources=None):
        r"""`megu.guide.agreement.agreement_tables` on the run's own exemplars and on fresh ``draws``, exemplar seeds that no
        choice was made on."""
        sims = [(self.settings.guide.exemplar_seed if draw is None else draw, self.similarities(draw, sources)) for draw in (None, *draws)]
        return agreement_tables(sims, self.images.classes)

    def transition(self, source=None):
        r"""``(K, K)`` transition matrix T of eq. 6, columns sum to 1."""
        if source not in self._transitions:
            self._transitions[source] = transition_matrix(self.similarity(source))
        return self._transitions[source]

    # Results
    def seen(self, name, seed):
        r"""What a method's model makes of every part of the split: `megu.measure.metrics.Seen`, from one forward pass,
        kept."""

        def make():
            model, clock = self.unlearned(name, seed), Stopwatch()
            with clock("evaluation"):
                found = observe(model, self.images, self.split)
            return found, {"seconds": clock.seconds}

        return self.run.once(
            f"seen/{name}-{seed}.safetensors", make, save_seen, lambda path: load_seen(path, self.compute.device)
        )

    def logits(self, name, seed):
        r"""Logits of a method's model on every part of the split: name of the part -> ``(n, K)`` float32."""
        return self.seen(name, seed).logits

    def references(self, seed):
        r"""What the models of a seed of pre-training are compared with: `megu.measure.metrics.References`."""
        if seed not in self._references:
            count, split = self.settings.shadows, self.split
            whole = observe(self._new(seed, "untrained"), self.images, split).logits
            compat = {
                part: blank_logits(self._new(seed, "untrained"), self.images, getattr(split, part))
                for part in ("forget", "test_forget")
            }
            attack = shadows.confidences(self, count) if count else None
            self._references[seed] = References(
                self.seen("original", seed), self.seen("retrain", seed), whole, compat, attack
            )
        return self._references[seed]

    def rows(self, name, seed, repeat=0):
        r"""Tidy rows of every metric of one model.

        Args:
            name: of the method.  seed: of pre-training.
            repeat: of unlearning; the models of repeat 0 are kept, of the others only what was measured.
        """

        def make():
            if not repeat:
                return self._measured(name, seed, 0, self.seen(name, seed)), {}
            model, facts = self._timed(*self._call(name, seed, repeat))
            return self._measured(name, seed, repeat, observe(model, self.images, self.split)), facts

        return self.run.once(
            f"rows/{name}-{seed}-{repeat}.csv", make, lambda table, path: table.to_csv(path, index=False), pd.read_csv
        )

    def attempt_rows(self, name, seed, changes, source=None):
        r"""Tidy rows of every metric of an `attempt`; not kept."""
        return self._measured(
            name, seed, 0, observe(self.attempt(name, seed, changes, source), self.images, self.split)
        )

    def _measured(self, name, seed, repeat, seen):
        return rows(name, seed, metrics(seen, self.images, self.split, self.references(seed)), repeat)

    def cases(self):
        r"""List of (method, seed, repeat): every row of the tables; what is only a reference has one repeat."""
        repeats = {name: 1 if methods.method(name).reference else self.settings.repeats for name in self.method_names}
        return [
            (name, seed, repeat) for seed in self.seeds for name in self.method_names for repeat in range(repeats[name])
        ]

    def results(self):
        r"""Tidy rows of every metric, method, seed and repeat; kept in ``results.csv``."""

        def make():
            cases = sorted(self.cases(), key=lambda case: self.method_names.index(case[0]))
            return pd.concat([self.rows(*case) for case in cases], ignore_index=True)

        return self.run.table("results.csv", make)

    def predictions(self):
        r"""What the forgotten training images are taken for, in percent of them: DataFrame with method, seed, label,
        share."""
        names, out = self.images.classes, []
        for name in self.method_names:
            for seed in self.seeds:
                said = self.logits(name, seed)["forget"].argmax(1).bincount(minlength=len(names)) / len(
                    self.split.forget
                )
                out += [
                    {"method": name, "seed": seed, "label": label, "share": 100 * share}
                    for label, share in zip(names, said.tolist(), strict=True)
                ]
        return pd.DataFrame(out)

    def disentangled(self, name, seed, kind=None):
        r"""Disentanglement score of one model, kept: method, seed, view, measure, value, low, high; see
        `megu.measure.disentanglement.disentanglement`.

        Args:
            name, seed: of the model.  kind: of MeGU's noise, for a model that is made with it and not kept.
        """

        def look(seen):
            found = next(iter(seen.features.values()))
            pool = found.new_zeros(len(self.images.y), found.shape[1])
            for part, index in vars(self.split).items():
                pool[index] = seen.features[part]
            return pool.__getitem__

        def make():
            if not disentanglement.forgotten_concepts(self.images, self.split):
                return disentanglement.tidy(disentanglement.nothing(name != "retrain"))
            if seed not in self._before:
                self._before[seed] = disentanglement.Before(self.images, self.split, look(self.seen("original", seed)))
            model = self.attempt(name, seed, {"noise.kind": kind}) if kind else None
            seen = observe(model, self.images, self.split) if kind else self.seen(name, seed)
            return disentanglement.tidy(self._before[seed].scores(look(seen), in_place=name != "retrain"))

        label = f"{name}, {kind} noise" if kind else name
        return self.run.table(f"patterns/{label}-{seed}.csv", make).assign(method=label, seed=seed)

    def disentanglement(self, names=None):
        r"""`disentangled` of methods (all of the run if None) and seeds, and of MeGU with `NOISES`; both noises and
        none are methods of their own."""
        names = names or self.method_names
        cases = [(name, None) for name in names] + [("megu", kind) for kind in NOISES if "megu" in names]
        return pd.concat(
            [self.disentangled(name, seed, kind) for name, kind in cases for seed in self.seeds], ignore_index=True
        )

    def timings(self):
        r"""Seconds by method, seed, repeat and part, as measured when each piece was made.

        Parts: labels, noise, fine-tuning and so on; total, the whole method; evaluation, the forward passes (where they
            are done); guide, a row of its own for each seed, since it is asked once for all methods (where it was asked
            live).
        """
        manifest, out = self.run.manifest, []
        for name, seed, repeat in self.cases():
            pieces = (
                (f"rows/{name}-{seed}-{repeat}.csv",)
                if repeat
                else (f"models/{name}-{seed}.safetensors", f"seen/{name}-{seed}.safetensors")
            )
            for piece in pieces:
                for part, seconds in manifest["artefacts"].get(piece, {}).get("seconds", {}).items():
                    out.append({"method": name, "seed": seed, "repeat": repeat, "part": part, "seconds": seconds})
        if asked := manifest["notes"].get(f"guide {self.settings.guide.source}, seconds"):
            out += [
                {"method": "guide", "seed": seed, "repeat": 0, "part": "guide", "seconds": asked} for seed in self.seeds
            ]
        return pd.DataFrame(out)

    def relative_time(self, name):
        r"""Seconds of a method over seconds of the retrain of the same seed: array over the seeds."""
        wide = (
            self.timings()
            .query("part == 'total'")
            .pivot_table(index="seed", columns="method", values="seconds", sort=False)
        )
        return np.asarray(wide[name] / wide["retrain"])
