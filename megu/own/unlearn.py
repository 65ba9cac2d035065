r"""Your own classifier and your own images: one call from a deletion request to a new model and its report."""

import json
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from megu import methods
from megu.core import models
from megu.core.device import Stopwatch, generator, seeded
from megu.core.loading import has_features, weights_digest
from megu.core.train import DivergedError, predict
from megu.measure.disentanglement import disentanglement, forgotten_concepts
from megu.measure.metrics import load_seen, observe, save_seen
from megu.methods.task import Task
from megu.own import report
from megu.own.findings import Models
from megu.own.guide_choice import matrix_of
from megu.own.plan import heard, prepare
from megu.runs.store import CODE, PACKAGES, Run
from megu.settings.errors import SettingsError, StageError
from megu.settings.files import alone

MEASURED = 5000  # retain images that accuracies are taken on, at most
SCORED, MOST_CLASSES = (
    1000,
    200,
)  # images of a part for the disentanglement score, and classes: its statistics grow with both


@dataclass(frozen=True)
class Unlearned:
    r"""What `unlearn` returns.

    Attributes:
        model: the new classifier, in eval mode; the one that was given is untouched.
        history: mean loss of each epoch, by the training's name.
        seconds: by stage.
        report: the deletion report as a dictionary, see ``megu/own/assets/report.schema.json``.
        folder: where everything was written, or None.
    """

    model: nn.Module = field(repr=False)
    history: dict
    seconds: dict
    report: dict = field(repr=False)
    folder: Path | None = field(default=None, repr=False)

    def save(self, folder):
        r"""Write model.safetensors, report.html and report.json into a folder."""
        models.save(
            self.model,
            report.write(self.report, folder) / "model.safetensors",
            {"report": self.report["asked"]["index_sha256"]},
        )


def unlearn(
    model, data, forget, *, test=None, classes=None, subclasses=None, guide=None, method="megu", seed=0, reference=None, normalise="imagenet", size=None,
    retain_images=None, trained_on=None, settings=None, out=None,
):  # fmt: skip
    r"""Make a copy of a classifier forget, and say what was done and what can still be seen.

    Args:
        model: ``nn.Module``, images ``(n, C, H, W)`` to logits ``(n, K)``; it stays as it is, bit for bit.
        data: the images that it was trained on, or a sample of the retained ones with all that go: a folder
            ``<class>/*.jpg`` (perhaps ``<class>/<sub-class>/*.jpg``), one with ``train`` and ``test`` (or ``val``)
            folders of this kind, or a torch Dataset of (image, class) pairs.
        forget: names of classes or of sub-classes (``"tops/shirt"``); or positions of training images; or a
            `pathlib.Path` of a file of them.
        test: unseen images, a folder by class or a Dataset; without them no attack can be measured.
        classes: names in the order of the model's outputs; by default the sorted names of the folders, or
            ``data.classes``.
        subclasses: for a Dataset, the name of each image's sub-class.
        guide: who says which classes are alike: a name in `megu.guide.SOURCES`, ``"model"`` (its own features), a ``(K,
            K)`` transition matrix or its file; None for the composed guide, or what can stand in for it.
        method: name in `megu.methods.METHODS`.
        seed: of everything random.
        reference: a model that was retrained without the forget images, if there is one.
        normalise: what the model expects of 8-bit images: ``imagenet``, ``unit`` ([0, 1]), ``half`` ([-1, 1]),
            ``cifar100`` (its moments), ``data`` (those of these images) or (mean, std).
        size: images of a folder are resized to size x size pixels; by default their own where all have one, else 224.
        retain_images: retain images to fine-tune on, at most; by default a fifth, at least 1,600.
        trained_on: how many images the model was trained on, where ``data`` holds only a sample of them.
        settings: dictionary of the method's settings (``"recipe.lr"``), of the guide's (``"guide.exemplars"``), or
            device, threads, autocast.
        out: folder for answers, model and report; what is finished there is kept, and an interrupted call goes on.
    Returns: `Unlearned`.
    Raises: SettingsError before any work where something does not fit; DivergedError with ``last_good`` where the
        training runs away.
    """
    return carry_out(
        prepare(
            model,
            data,
            forget,
            test=test,
            classes=classes,
            subclasses=subclasses,
            guide=guide,
            method=method,
            seed=seed,
            reference=reference,
            normalise=normalise,
            size=size,
            retain_images=retain_images,
            trained_on=trained_on,
            settings=settings,
        ),
        out,
    )


def carry_out(prepared, out=None):
    r"""The work of `unlearn` on what `prepare` checked: guide, method, observation, report.  Returns: `Unlearned`."""
    folder = None if out is None else Path(out)
    with alone(folder) if folder else nullcontext(), heard(prepared.notices):
        work = Work(prepared, folder)
        new = work.unlearned()
        found = work.observed(new)
        facts = work.report(new, found)
        if folder:
            report.write(facts, folder)
            work.run.note("report", facts["done"]["model"]["sha256_after"])
    return Unlearned(new, facts["done"]["history"], facts["done"]["seconds"], facts, folder)


class Work:
    r"""The steps of a request; with a folder, each is made once and kept there."""

    def __init__(self, prepared, folder):
        self.p, self.run, self.facts = prepared, None, {}
        p = prepared
        self.before = weights_digest(p.given)
        if folder:
            about = {
                "settings": p.settings.model_dump(
                    mode="json", include={"seed", "device", "threads", "autocast", "retain_images"}
                ),
                "guide": (
                    {**p.settings.guide.model_dump(mode="json"), "source": p.guide.source}
                    if methods.method(p.method).guided
                    else {}
                ),
                "parameters": {p.method: p.parameters.model_dump(mode="json")},
                "data": p.images.digest(),
                "normalise": [value.tolist() for value in (p.images.mean, p.images.std)],
                "model": self.before,
                "reference": p.reference and weights_digest(p.reference),
                "forget": p.request.digest,
                "code": CODE,
            }
            if p.guide.matrix is not None:
                about["guide"]["matrix"] = p.guide.matrix.tolist()
            self.run = Run(folder, about, [p.settings.seed])

    def kept(self, name, make, save, load):
        r"""What ``make()`` gives, an object and facts: made once where there is a folder."""
        if self.run is None:
            content, self.facts[name] = make()
            return content
        content = self.run.once(name, make, save, load)
        self.facts[name] = {
            key: value for key, value in self.run.manifest["artefacts"][name].items() if key != "sha256"
        }
        return content

    def transition(self):
        r"""The guide's transition matrix and what the report says about it; None where the method asks none."""
        p = self.p
        if not methods.method(p.method).guided:
            return None, None
        path, clock = self.run and self.run.path / "answers.jsonl", Stopwatch()
        with clock("guide"):
            matrix, about = matrix_of(
                p.guide, p.original, p.images, p.request.split.train, p.settings.guide, p.compute.device, path
            )
        if self.run:
            self.run.same(
                "transition matrix", about["matrix_sha256"][:16]
            )  # of another guide it would belong to another model
            # A repeated call finds the answers: origin and seconds are those of the first
            first = self.run.manifest["notes"].get("guide", {"about": about, "seconds": clock.seconds})
            self.run.note("guide", first)
            about, clock = {**about, "origin": first["about"]["origin"]}, Stopwatch(first["seconds"])
        p.clock.seconds.update(clock.seconds)
        return matrix, about

    def unlearned(self):
        r"""The new model."""
        p, entry = self.p, methods.method(self.p.method)
        self.matrix, self.guide = self.transition()
        forgotten = (
            tuple(sorted(p.images.y[p.request.split.forget].unique().tolist())) if p.request.scenario == "class" else ()
        )

        def make():
            task = Task(
                p.original,
                p.images,
                p.request.split,
                forgotten,
                self.matrix,
                p.settings.retain_images,
                None,
                p.settings.training,
                p.settings.seed,
                p.compute,
            )
            with seeded(
                generator(p.settings.seed, "unlearn", "layers")
            ):  # dropout and the like draw from the global generator
                new = entry.unlearn(task, p.parameters)
            if not predict(new, p.images, p.request.split.forget[:1]).isfinite().all():
                raise DivergedError(f"{entry.title}: the new model's logits are no numbers; nothing was kept")
            return new.eval(), {
                "seconds": {part: round(value, 3) for part, value in task.clock.seconds.items()},
                "history": task.history,
            }

        try:
            save = partial(models.save, about={"method": p.method, "forget": p.request.digest})
            new = self.kept("model.safetensors", make, save, lambda path: models.load(path, models.copy_of(p.original)))
        except DivergedError as error:
            if self.run and error.last_good is not None:
                models.save(error.last_good, self.run.path / "last_good.safetensors", {"method": p.method})
                error.args = (f"{error}; the last good state is kept in last_good.safetensors",)
            raise
        for mine, theirs in zip(new.parameters(), p.given.parameters(), strict=True):
            mine.requires_grad_(theirs.requires_grad)
        return new

    def observed(self, new):
        r"""`megu.own.findings.Models` of original, new and reference model, on the split that is measured."""
        p = self.p
        self.has_features = looked = has_features(p.original, p.images)
        keep = (
            torch.randperm(len(p.request.split.retain), generator=generator(p.settings.seed, "measured"))[:MEASURED]
            .sort()
            .values
        )
        self.split = replace(p.request.split, retain=p.request.split.retain[keep.to(p.images.y.device)])
        look = models.features if looked else lambda model, x: (model(x), model(x))
        seen, took = {}, 0.0
        for name, model in {"before": p.original, "after": new, "reference": p.reference}.items():
            if model is not None:
                file, make = f"seen-{name}.safetensors", partial(self.looked_at, model, look)
                seen[name] = self.kept(file, make, save_seen, partial(load_seen, device=p.compute.device))
                took += self.facts[file]["seconds"]
        p.clock.seconds["evaluation"] = took
        try:
            blank = observe(
                models.reset(p.original, p.settings.seed, "untrained"), p.images, self.split, 100, look
            ).logits
        except SettingsError:
            blank = None
        return Models(seen, blank, looked)

    def looked_at(self, model, look):
        r"""(`megu.measure.metrics.Seen` of a model, its seconds)."""
        clock = Stopwatch()
        with clock("evaluation"):
            found = observe(model, self.p.images, self.split, 100, look)
        return found, {"seconds": round(clock.total, 3)}

    def report(self, new, found):
        r"""The deletion report as a dictionary."""
        p = self.p
        made = self.facts["model.safetensors"]
        done = {
            "method": p.method,
            "title": methods.method(p.method).title,
            "settings": p.parameters.model_dump(mode="json"),
            "seed": p.settings.seed,
            "guide": self.guide,
            "device": str(p.compute.device.type),
            "precision": "bfloat16 autocast" if p.compute.autocast else "float32",
            "versions": {name: version(name) for name in PACKAGES},
            "history": made["history"],
            "notices": list(dict.fromkeys(p.notices)),
            "seconds": {**{k: round(v, 3) for k, v in p.clock.seconds.items()}, **made["seconds"]},
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": {
                "class": type(p.given).__name__,
                "parameters": sum(w.numel() for w in p.given.parameters()),
                "sha256_before": self.before,
                "sha256_after": weights_digest(new),
                "reference": p.reference is not None,
            },
        }
        if weights_digest(p.given) != self.before:
            raise StageError(
                "the model that was given has changed while its copy was at work: give one that no other thread trains"
            )
        facts = report.compose(p.request, p.images, self.split, p.ids, p.trained_on, done, found, self.matrix)
        return json.loads(json.dumps({**facts, "disentanglement": self.disentanglement(new)}, allow_nan=False))

    def disentanglement(self, new):
        r"""The disentanglement score as list of dictionaries (model, view, measure, value, low, high), or None: not
        measured.

        Measured on at most `SCORED` images of a part, where whole (sub-)classes are forgotten and the model has
        features to look at.
        """
        p = self.p
        if (
            not (self.has_features and forgotten_concepts(p.images, p.request.split))
            or len(p.images.fine_classes) > MOST_CLASSES
        ):
            return None

        def some(index):
            return index[
                torch.randperm(len(index), generator=generator(p.settings.seed, "scored"))[:SCORED]
                .sort()
                .values.to(index.device)
            ]

        part = replace(self.split, retain=some(self.split.retain), test_retain=some(self.split.test_retain))
        with p.clock("evaluation"):
            found = disentanglement(p.original, new, p.reference, p.images, part, draws=100, seed=p.settings.seed)
        return found.astype(object).where(found.notna(), None).round(4).to_dict("records")
