r"""A run: which pieces exist, how they are made, and that each is made once."""

import os
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.torch import load_file, save_file

from megu import device, methods, models, splits
from megu.classes import SENSIBLE_NEIGHBOURS
from megu.config import build, nest
from megu.device import Stopwatch
from megu.evaluate import all_logits, metrics, rows
from megu.guide import SOURCES, Book, GuideUnavailableError, answer_matrix, ask, draw_exemplars, questions_for, shipped
from megu.guide.agreement import sensible_hits, shuffled_hits
from megu.profiles import resolve
from megu.sources import load
from megu.store import Run, code_digest, digest, project_root
from megu.task import Task
from megu.transition import similarity, transition_matrix


def run_directory(settings, about, run_dir=None):
    r"""Where a run lives: ``run_dir``, or ``runs/<profile>-<what is forgotten>-<digest of about>`` so that settings never mix."""
    if run_dir:
        return Path(run_dir)
    what = "random" if settings.forget.scenario == "random" else "-".join((settings.forget.scenario, *settings.forget.classes))
    return project_root() / "runs" / f"{settings.profile}-{re.sub(r'[^a-z0-9-]+', '_', what.lower())}-{digest(about)[:6]}"


class Experiment:
    r"""One run with its data, split, device and everything made so far.

    Args:
        profile, seed, overrides: see `megu.profiles.resolve`.
        run_dir: directory; None or empty for ``$MEGU_RUN_DIR``, or the one that `run_directory` names.
        stage: of the notebook that works on the run, see `megu.store.STAGES`.
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
        self.forgotten = splits.forgotten_classes(self.images, self.split, settings)
        parameters = {name: self.parameters(name).model_dump(mode="json") for name in settings.compare}
        about = {
            "settings": settings.model_dump(mode="json", exclude={"methods"}),
            "parameters": parameters,
            "data": self.images.digest(),
            "code": code_digest(),
        }
        self.run = Run(run_directory(settings, about, run_dir or os.environ.get("MEGU_RUN_DIR")), about, settings.seed_list)
        self.run.note("split", self.split.digest())
        self.run.note("device", f"{self.compute.device.type}, {'bfloat16 autocast' if self.compute.autocast else 'float32'}")
        self.stage, self._started = stage, time.perf_counter()
        if stage is not None:
            self.run.sealed(stage)

    def require(self, *stages):
        r"""Refuse to go on unless these stages are sealed; names the notebook to run first."""
        self.run.require(*stages)

    def seal(self, claims):
        r"""Finish the notebook's stage: all claims (sentence -> bool) must hold."""
        self.run.seal(self.stage, claims, time.perf_counter() - self._started)

    # Names that are short in a notebook
    @property
    def seeds(self):
        """Seeds of the repetitions."""
        return self.settings.seed_list

    @property
    def method_names(self):
        """Rows of every table: the untouched original, the true retrain, and what is compared with them."""
        return ("original", "retrain", *self.settings.compare)

    # Models
    def task(self, name, seed):
        r"""The `megu.task.Task` that a method receives for a seed, with the transition matrix where the method is guided."""
        transition = self.transition() if methods.method(name).guided else None
        return self._task(self.original(seed), seed, transition)

    def _task(self, original, seed, transition=None):
        return Task(
            original, self.images, self.split, self.forgotten, transition, self.settings.retain_images,
            self.settings.arch, self.settings.training, seed, self.compute, Stopwatch(),
        )  # fmt: skip

    def _new(self, seed, purpose):
        return models.build(self.settings.arch, self.images.num_classes, self.images.shape, seed, purpose).to(self.compute.device)

    def _model(self, name, seed, prepare, train):
        def make():
            task, total = prepare(), Stopwatch()
            with total("total"):
                model = train(task)
            return model, {"seconds": {**task.clock.seconds, **total.seconds}, "peak_memory_mb": round(device.peak_memory_mb())}

        about = {"method": name, "seed": seed, "arch": self.settings.arch, "digest": digest(self.run.about)}
        return self.run.once(
            f"models/{name}-{seed}.safetensors", make, lambda model, path: models.save(model, path, about),
            lambda path: models.load(path, self._new(seed, "blank")),
        )  # fmt: skip

    def original(self, seed):
        r"""The classifier before forgetting: trained on retain and forget images.  In eval mode."""
        train, label = self.split.train, f"original, seed {seed}"
        return self._model(
            "original", seed, lambda: self._task(self._new(seed, "original"), seed),
            lambda task: task.train_on(task.original, train, self.images.y[train], self.settings.training, label=label),
        )  # fmt: skip

    def unlearned(self, name, seed):
        r"""The model of a method and seed; ``original`` and ``retrain`` are methods too."""
        if name == "original":
            return self.original(seed)
        unlearn, parameters = methods.method(name).unlearn, self.parameters(name)
        return self._model(name, seed, lambda: self.task(name, seed), lambda task: unlearn(task, parameters))

    def attempt(self, name, seed, changes):
        r"""A method's model with other parameters (dotted name -> value), not kept: for tuning and ablations."""
        usual = self.parameters(name)
        return methods.method(name).unlearn(self.task(name, seed), build(type(usual), nest(changes), f"methods.{name}", over=usual))

    # Guide
    def exemplars(self, draw=None):
        r"""``(m,)`` int64: the exemplars that the guide is asked about; ``draw`` other than the run's own for fresh ones."""
        guide = self.settings.guide
        allowed = splits.masks(self.images, self.settings.data.validation)[0].nonzero().flatten()
        return draw_exemplars(self.images, allowed, guide.exemplars, guide.exemplar_seed if draw is None else draw)

    def ask_guide(self, source=None, draw=None):
        r"""The guide's raw scores: asked once, or replayed from the answers that come with the package where its weights are missing.

        Args:
            source: name in `megu.guide.SOURCES`, or None for the run's own.
            draw: of the exemplars, or None for the run's own.
        Returns: (scores ``(m, K)`` array, class of each exemplar ``(m,)`` array, sentence that says where the answers are from).
        """
        source = source or self.settings.guide.source
        exemplars = self.exemplars(draw)
        guide = SOURCES[source](self.images.classes, self.images, exemplars)
        questions = list(questions_for(self.images, exemplars))
        book, clock = Book(self.settings.guide.answers or self.run.path / "answers.jsonl"), Stopwatch()
        known = len(book.answers)
        try:
            with clock("guide"):
                answers = ask(guide, questions, book)
            new = len(book.answers) - known
            origin = f"{len(questions)} answers of {guide.name}, {new} asked now, {len(questions) - new} asked before"
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
        return answer_matrix(answers, self.images.num_classes), self.images.y.cpu().numpy()[exemplars.numpy()], origin

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
        for source in SOURCES:
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

    def transition(self, source=None):
        r"""``(K, K)`` transition matrix T of eq. 6, columns sum to 1."""
        return transition_matrix(self.similarity(source))

    def parameters(self, name):
        r"""The settings of a method as this run uses them."""
        return methods.method_settings(name, self.settings)

    # Results
    def logits(self, name, seed):
        r"""Cached logits of a method's model on every part of the split: name of the part -> ``(n, K)`` float32."""

        def save(found, path):
            save_file({part: tensor.cpu().contiguous() for part, tensor in found.items()}, path)

        def make():
            model, clock = self.unlearned(name, seed), Stopwatch()
            with clock("evaluation"):
                found = all_logits(model, self.images, self.split)
            return found, {"seconds": clock.seconds}

        return self.run.once(f"logits/{name}-{seed}.safetensors", make, save, lambda path: load_file(path, device=str(self.compute.device)))

    def results(self):
        r"""Tidy rows of every metric, method and seed; kept in ``results.csv``."""

        def make():
            parts = [rows(name, seed, metrics(self.logits(name, seed), self.images, self.split)) for name in self.method_names for seed in self.seeds]
            return pd.concat(parts, ignore_index=True)

        return self.run.table("results.csv", make)

    def timings(self):
        r"""Seconds by method, seed and part, as measured when each piece was made.

        Parts: labels, noise, fine-tuning; total, the whole method; evaluation, the forward passes (where they are done);
        guide, a row of its own for each seed, since it is asked once for all methods (where it was asked live).
        """
        manifest, out = self.run.manifest, []
        for name in self.method_names:
            for seed in self.seeds:
                for kind in ("models", "logits"):
                    facts = manifest["artefacts"].get(f"{kind}/{name}-{seed}.safetensors", {"seconds": {}})
                    out += [{"method": name, "seed": seed, "part": part, "seconds": s} for part, s in facts["seconds"].items()]
        if asked := manifest["notes"].get(f"guide {self.settings.guide.source}, seconds"):
            out += [{"method": "guide", "seed": seed, "part": "guide", "seconds": asked} for seed in self.seeds]
        return pd.DataFrame(out)

    def relative_time(self, name):
        r"""Seconds of a method over seconds of the retrain of the same seed: array over the seeds."""
        wide = self.timings().query("part == 'total'").pivot(index="seed", columns="method", values="seconds")
        return np.asarray(wide[name] / wide["retrain"])
