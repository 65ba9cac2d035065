"""Small real data, a small trained experiment, and no network."""

import os

# These tests are about the CPU, wherever they run.
os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
if "PYTEST_XDIST_WORKER" in os.environ:  # several share the cores
    os.environ["OMP_NUM_THREADS"] = "1"
for name in [name for name in os.environ if name.startswith("MEGU_")]:
    del os.environ[name]

import itertools
import signal
from functools import partial
from pathlib import Path

from jaxtyping import install_import_hook

# Before megu is imported: the shapes in signatures of these modules are checked at every call.
TYPED = "noise_pair core.models measure.attacks measure.distances measure.outputs measure.patterns measure.views"
install_import_hook([f"megu.{name}" for name in TYPED.split()], "beartype.beartype")

import archives
import hypothesis
import numpy as np
import pytest
import torch
from loopback import Servers
from own_model import forget, network
from recording import recorded
from torch.nn.functional import pad
from torch.utils.data import TensorDataset

from megu import methods
from megu.core import models
from megu.core.device import Compute, choose, generator, seeded
from megu.core.splits import forgotten_classes, make_split
from megu.core.train import fit
from megu.datasets.sources import load
from megu.guide import GuideUnavailableError
from megu.methods.task import Task
from megu.perturbing_labels import transition_matrix
from megu.runs.engine import Engine
from megu.runs.experiment import Experiment
from megu.runs.runner import Inline
from megu.runs.study import paper_grid
from megu.settings.class_names import CIFAR10, FASHION
from megu.settings.config import Recipe
from megu.settings.profiles import resolve

for name, count in (("torture", 1400), ("usual", 140)):
    hypothesis.settings.register_profile(name, max_examples=count)
    hypothesis.settings.load_profile(name)

ROOT = Path(__file__).parents[1]
CIFAR = ROOT.parent / "shared" / "data"
QUICK = {"training.batch": 32, "retain_images": 60, "guide.exemplars": 2}
SHORT = {**QUICK, "training.epochs": 2, "training.lr": 0.1, "seeds": 2}
ARCHS = ("resnet-small", "vit-tiny")
BRIEF = Recipe(epochs=1, batch=32, lr=0.05)
session = pytest.fixture(scope="session")
TWO = ("data=cifar10,arch=resnet-small,method=megu|finetune",)


def pytest_collection_modifyitems(items):
    for item in items:  # what starts a server is slow
        if "serve" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def ctrl_c():
    """As in a terminal: a shell that starts the tests in the background has it ignored, dask_jobqueue takes it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def serve():
    servers = Servers()
    yield servers
    servers.stop()


@session
def mini():
    """The embedded images."""
    return load(resolve())


@session
def tiny_npz(tmp_path_factory):
    """The images of `parts` as an .npz with superclasses."""
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    archives.save(archives.embedded(lambda x: x[:, 0]), path, FASHION)
    return path


@session
def tiny_overrides(tiny_npz):
    """Settings of a run that trains in a second."""
    return {**SHORT, "data.name": "npz", "data.path": str(tiny_npz)}


@session
def tiny(tiny_overrides, tmp_path_factory):
    """A run on the tiny data, class-wise."""
    return Experiment(run_dir=tmp_path_factory.mktemp("run"), overrides=tiny_overrides)


@session
def cifar_like(tmp_path_factory):
    """Two folders with 40 and 30 training images of each embedded class, as CIFAR-10."""
    folders = [tmp_path_factory.mktemp("cifar") for _ in range(2)]
    for folder, train in zip(folders, (400, 300), strict=True):
        parts = archives.embedded(lambda x: pad(x, (2, 2, 2, 2)).expand(-1, 3, -1, -1).movedim(1, 3), train)
        archives.save(parts, folder / "cifar10_tiny.npz", CIFAR10)
    return folders


@session
def changes(cifar_like):
    """Settings with which a spec takes a second, and needs no weights."""
    return {**QUICK, "data.path": str(cifar_like[0]), "training.epochs": 1, "guide.source": "posterior"}


@session
def inline(changes, tmp_path_factory):
    """(engine, specs) of `TWO`, measured in this process."""
    engine, specs = Engine("small", tmp_path_factory.mktemp("inline")), paper_grid("small", TWO, 1, changes=changes)
    assert not engine.carry_out(specs, Inline)
    return engine, specs


def values(engine, specs):
    """What an engine measured, without seconds."""
    return engine.tables(specs)[0]


def needs_weights(*load):
    """Skip where one of these loaders of pip-installed weights finds none."""
    try:
        for one in load:
            one()
    except GuideUnavailableError as missing:
        pytest.skip(f"needs the guide's weights: {missing}")


def similarity_like(num_classes):
    """A similarity matrix in which neighbours in the order of the classes are alike."""
    place = np.arange(num_classes)
    return np.exp(-abs(place - place[:, None]) / 2.0)


def confident(y, p, k=3):
    """Logits that give class y the probability p and share the rest."""
    return torch.full((len(y), k), (1 - p) / (k - 1)).scatter(1, y[:, None], p).log()


class Narrow(torch.nn.Module):
    """A device with room for ``room`` images when they are trained on."""

    def __init__(self, net, room=10):
        super().__init__()
        self.net, self.room = net, room

    def forward(self, x):
        if self.training and len(x) > self.room:
            raise torch.OutOfMemoryError("no room")
        return self.net(x)


@session
def tasks(tiny_overrides):
    """(scenario, architecture) -> a small request with a briefly trained original."""
    made = {}
    for scenario, arch in itertools.product(methods.ANY, ARCHS):
        settings = resolve(overrides={**tiny_overrides, "forget.scenario": scenario, "forget.count": 30})
        images = load(settings)
        split, k = make_split(images, settings), images.num_classes
        forgotten, transition = forgotten_classes(images, split, settings), transition_matrix(similarity_like(k))
        model = models.build(arch, k, images.shape, 0)
        task = Task(model, images, split, forgotten, transition, 60, arch, BRIEF, 0, choose(settings))
        task.train_on(model, split.train, images.y[split.train], BRIEF)
        made[scenario, arch] = task
    return made


@session
def parts():
    """40 training and 10 test images of each class, as Datasets, in [0, 1]."""
    return tuple(TensorDataset(x, y) for x, y in archives.embedded(lambda x: x.float() / 255).values())


@session
def model(parts):
    (x, y), recipe = parts[0].tensors, Recipe(epochs=12, batch=32, lr=0.1)
    with seeded(generator(0, "test")):
        trained = network()
        fit(trained, lambda i: (x[i], y[i]), 400, recipe, generator(0, "order"), Compute(torch.device("cpu"), False))
    trained.zero_grad()
    return trained


@session
def done(model, parts):
    return forget(model, parts)


@pytest.fixture
def task(tasks):
    return tasks["class", "resnet-small"]


@pytest.fixture
def calls(task, monkeypatch):
    """What a method trains on that task, and how."""
    return partial(recorded, monkeypatch, task)
