r"""How the models of a forgetting request are made and measured, and which of them are shared."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor, nn

from megu import methods
from megu.core import device, models, splits
from megu.core.architectures import read_model
from megu.core.device import Stopwatch
from megu.core.loading import check_accuracy
from megu.core.train import predict
from megu.measure import disentanglement as patterns
from megu.measure import shadows
from megu.measure.distances import otherwise, sample
from megu.measure.metrics import References, metrics, rows
from megu.measure.outputs import Outputs, blank_logits, collect_outputs, load_outputs, save_outputs
from megu.measure.relearn import relearn_steps
from megu.methods.megu import at_start
from megu.methods.task import Task
from megu.settings.config import Part
from megu.settings.files import hash_json
from megu.settings.values import build, nest

REFERENCES = ("original", "retrain")  # what every model of a seed of pre-training is compared with
OF_RUN = ("guide.source", "retain_images")  # settings of a run that one of its models may have otherwise
_CHECK = (
    "the order of its classes, and that it was trained on images normalised by the mean and deviation of these, as a"
    " run shows them (else use `megu unlearn --normalise`)"
)


class Models:
    r"""Classifiers of a `megu.runs.experiment.Experiment`, which keeps ``copies`` of what it shares with others;
    ``started`` is called whenever a model starts to be made."""

    def __init__(self, lab, copies: bool):
        self.lab, self.copies, self.started = lab, copies, lambda: None
        self.settings, self.images, self.split, self.compute = lab.settings, lab.images, lab.split, lab.compute
        self.run, self.shared = lab.run, lab.shared
        self.forgotten = splits.forgotten_classes(self.images, self.split, self.settings)
        self._references, self._before = {}, {}

    def parameters(self, name: str, changes: dict | None = None) -> Part:
        r"""Settings of a method in this run, ``changes`` (dotted name -> value) on top."""
        usual = methods.method_settings(name, self.settings)
        return build(type(usual), nest(changes), f"methods.{name}", over=usual) if changes else usual

    def new(self, seed: int, purpose: str) -> nn.Module:
        r"""An untrained network."""
        s = self.settings
        model = models.build(s.arch, self.images.num_classes, self.images.shape, seed, purpose, s.weights)
        return model.to(self.compute.device)

    def task(self, name: str, seed: int, repeat: int = 0, source: str | None = None) -> Task:
        r"""What a method receives for a seed of pre-training and a repeat of unlearning."""
        if name == "original":
            return self.first_task(seed)
        transition = self.lab.transition(source) if methods.method(name).guided else None
        # Repeat 0 has the seed of pre-training; others meet that of no original.
        return self._task(self.unlearned("original", seed), seed + 10_000 * repeat, transition)

    def first_task(self, seed: int, purpose: str = "original") -> Task:
        r"""The task of training an untrained network."""
        return self._task(self.new(seed, purpose), seed)

    def _task(self, original, seed, transition=None):
        s, given = self.settings, (original, self.images, self.split, self.forgotten, transition)
        return Task(*given, s.retain_images, s.arch, s.training, seed, self.compute, weights=s.weights)

    def train(self, name: str, task: Task, changes: dict | None = None) -> nn.Module:
        r"""The new model of a method.

        Raises: SettingsError where ``settings.original`` is of another architecture, or no better than chance.
        """
        if name != "original":
            return methods.method(name).unlearn(task, self.parameters(name, changes))
        if not self.settings.original.path:
            return self._fit(task, self.split.train, f"original, seed {task.seed}")
        path, images = Path(self.settings.original.path), self.images
        model = read_model(path, self.settings.arch, images.num_classes, images.shape)
        check_accuracy(model.to(self.compute.device), images, self.split.train, _CHECK)
        return model

    def trained(self, seed: int, purpose: str, index: Int[Tensor, " n"], label: str) -> nn.Module:
        r"""A network, not kept, trained on images ``index`` by the original's recipe."""
        return self._fit(self.first_task(seed, purpose), index, label)

    def _fit(self, task, index, label):
        return task.train_new(task.original, index, label)

    def make(self, name: str, seed: int, repeat: int = 0, changes: dict | None = None) -> tuple[nn.Module, dict]:
        r"""(a model, not kept; facts: seconds by part, peak memory in MB); ``changes`` (dotted name -> value) of the
        method's settings and `OF_RUN`."""
        self.started()
        task, own, total = *self._changed(name, seed, repeat, changes), Stopwatch()
        where = self.compute.device
        device.fresh_peak(where)  # the task may have made other models
        with total("total"):
            model = self.train(name, task, own)
        # What all devices spend is compared with methods that run on one.
        size = self.compute.team.size
        seconds = {part: size * value for part, value in {**task.clock.seconds, **total.seconds}.items()}
        facts = {"seconds": seconds, "peak_memory_mb": round(device.peak_memory_mb(where))}
        return model, facts | ({"processes": size, "wall_seconds": total.total} if size > 1 else {})

    def _changed(self, name, seed, repeat, changes):
        # (Task, changes of the method's own settings)
        own = dict(changes or {})
        source, most = (own.pop(key, None) for key in OF_RUN)
        task = self.task(name, seed, repeat, source)
        return replace(task, retain_images=most or task.retain_images), own

    def unlearned(self, name: str, seed: int) -> nn.Module:
        r"""The model of a method (`REFERENCES` too) and seed, in eval mode, made once."""
        about = {"method": name, "seed": seed, "arch": self.settings.arch, "digest": hash_json(self.run.about)}
        keep = self.share if name in REFERENCES else self.run.once
        file, make = kept_file("models", name, seed), partial(self.make, name, seed)
        save = partial(models.save, about=about)
        return keep(file, make, save, lambda path: models.load(path, self.new(seed, "blank")))

    def share(self, name: str, make: Callable, save: Callable, load: Callable):
        r"""`RunDirectory.once` for what runs share: originals and shadow models, which are of no request, and retrained
        models, which are of a split."""
        place = self._shared_place(name)
        shared = partial(self.shared.once, place, make, save, load)
        if not self.copies:
            return shared()
        return self.run.once(name, lambda: (shared(), self.shared.facts(place)), save, load)

    def _shared_place(self, name):
        return f"{self.split.digest()}/{name}" if name.startswith("models/retrain-") else name

    def facts(self, name: str, seed: int) -> dict:
        r"""What was recorded when a kept model was made."""
        file = kept_file("models", name, seed)
        return self.run.facts(file) if self.copies else self.shared.facts(self._shared_place(file))

    def outputs(self, name: str, seed: int) -> Outputs:
        r"""Those of a kept model on every part of the split."""

        def make():
            return self._look(self.unlearned(name, seed))

        load = partial(load_outputs, device=self.compute.device)
        return self.run.once(kept_file("outputs", name, seed), make, save_outputs, load)

    def _look(self, model):
        clock = Stopwatch()
        with clock("evaluation"):
            outputs = collect_outputs(model, self.images, self.split)
        return outputs, {"seconds": clock.seconds}

    def references(self, seed: int) -> References:
        r"""What the models of a seed of pre-training are compared with."""
        if seed not in self._references:
            count, split, new = self.settings.shadows, self.split, partial(self.new, seed, "untrained")
            blank = predict(new(), self.images, split.forget)
            parts = {"forget": split.forget, "test_forget": split.test_forget}
            compat = {part: blank_logits(new(), self.images, index) for part, index in parts.items()}
            attack = shadows.confidences(self, count) if count else None
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
            name, seed, repeat, changes: see `make`.
            what: of metrics, relearn, patterns, start (`megu.methods.megu.at_start`), prepared: percent of a `sample`
                of forget images that is named right `otherwise`, and of retained ones that get these names.
            keep: the model and its outputs, as always those of `REFERENCES`.
        """
        if keep or name in REFERENCES:
            model, outputs = None, self.outputs(name, seed)
            made, look = self.facts(name, seed), self.run.facts(kept_file("outputs", name, seed))
        else:
            model, made = self.make(name, seed, repeat, changes)
            outputs, look = self._look(model)
        tables = []
        if "metrics" in what:
            found = metrics(outputs, self.images, self.split, self.references(seed))
            tables.append(rows(name, seed, found, repeat))
        if "relearn" in what:
            steps = relearn_steps(self.task("retrain", seed), model or self.unlearned(name, seed))
            tables.append(rows(name, seed, {"relearn_steps": steps}, repeat))
        if "start" in what:
            task, own = self._changed(name, seed, repeat, changes)
            tables.append(_plain(name, seed, repeat, at_start(task, self.parameters(name, own))))
        if "prepared" in what:
            tables.append(_plain(name, seed, repeat, self._prepared(model or self.unlearned(name, seed))))
        if "patterns" in what:
            tables.append(self._patterns(name, seed, outputs))
        return pd.concat(tables, ignore_index=True), {**made, "seconds": {**made["seconds"], **look["seconds"]}}

    def _prepared(self, model):
        gone, kept = (self.images.only(sample(index)) for index in (self.split.forget, self.split.retain))
        out = {how: 100 * right.double().mean().item() for how, _, right in otherwise(model, gone)}
        for k in self.forgotten:
            for how, _, named in otherwise(model, replace(kept, y=torch.full_like(kept.y, k))):
                out[f"retained {how}"] = out.get(f"retained {how}", 0.0) + 100 * named.double().mean().item()
        return out

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


def _plain(name, seed, repeat, values):
    about = {"method": name, "seed": seed, "repeat": repeat}
    return pd.DataFrame([{**about, "metric": key, "value": value} for key, value in values.items()])


def kept_file(kind: str, name: str, seed: int) -> str:
    r"""Where a kept model's ``models`` or ``outputs`` lie."""
    return f"{kind}/{name}-{seed}.safetensors"
