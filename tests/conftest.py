"""Small real data, a small trained experiment, and no network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # these tests are about the CPU, wherever they run
if "PYTEST_XDIST_WORKER" in os.environ:  # several of them, and what they start, share the cores
    os.environ["OMP_NUM_THREADS"] = "1"
for name in [name for name in os.environ if name.startswith("MEGU_")]:
    del os.environ[name]

import dataclasses
from pathlib import Path

from jaxtyping import install_import_hook

# The shapes in the signatures of these modules are checked at every call; before anything of megu is imported.
TYPED = [f"megu.{name}" for name in ("noise_pair", "core.models", "measure.attacks", "measure.distances")]
TYPED += [f"megu.measure.{name}" for name in ("outputs", "patterns", "views")]
install_import_hook(TYPED, "beartype.beartype")

import hypothesis
import numpy as np
import pytest
import torch
from loopback import Servers
from own_model import forget, network
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

hypothesis.settings.register_profile("usual", max_examples=140)
hypothesis.settings.register_profile("torture", max_examples=1400)
hypothesis.settings.load_profile("usual")

ROOT = Path(__file__).parents[1]
CIFAR = ROOT.parent / "shared" / "data"
SHORT = {"training.epochs": 2, "training.batch": 32, "training.lr": 0.1}
SHORT |= {"retain_images": 60, "seeds": 2, "guide.exemplars": 2}
ARCHS = ("resnet-small", "vit-tiny")
BRIEF = Recipe(epochs=1, batch=32, lr=0.05)
TWO = ("data=cifar10,arch=resnet-small,method=megu|finetune",)  # cells of a grid


def pytest_collection_modifyitems(items):
    """What starts a server is slow."""
    for item in items:
        if "serve" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def serve():
    """Start a server on loopback, see `loopback.Servers`."""
    servers = Servers()
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def mini():
    """The embedded images."""
    return load(resolve())


@pytest.fixture(scope="session")
def tiny_npz(tmp_path_factory, mini):
    """40 training and 10 test images of each embedded class as an .npz with superclasses."""
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    coarse = tuple(dict.fromkeys(FASHION.values()))
    x, y = mini.x[:, 0].numpy(), mini.y.numpy()
    np.savez(
        path,
        x_train=x[:400],
        y_train=y[:400],
        x_test=x[10_000:10_100],
        y_test=y[10_000:10_100],
        class_names=np.array(mini.classes),
        coarse_names=np.array(coarse),
        fine_to_coarse=np.array([coarse.index(c) for c in FASHION.values()]),
    )
    return path


@pytest.fixture(scope="session")
def tiny_overrides(tiny_npz):
    """Settings of a run that trains in a second."""
    return {**SHORT, "data.name": "npz", "data.path": str(tiny_npz)}


@pytest.fixture(scope="session")
def tiny(tiny_overrides, tmp_path_factory):
    """A run on the tiny data, class-wise."""
    return Experiment(run_dir=tmp_path_factory.mktemp("run"), overrides=tiny_overrides)


@pytest.fixture(scope="session")
def cifar_like(tmp_path_factory, mini):
    """Two folders with a file named as CIFAR-10's: 40 and 30 training images of each embedded class under its names and
    in its shape."""
    few = torch.cat([mini.x[:400], mini.x[10_000:10_100]])
    x, y = torch.nn.functional.pad(few, (2, 2, 2, 2)).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy(), mini.y.numpy()
    folders = []
    for per_class in (40, 30):
        folder = tmp_path_factory.mktemp("cifar")
        np.savez(
            folder / "cifar10_tiny.npz",
            x_train=x[: 10 * per_class],
            y_train=y[: 10 * per_class],
            x_test=x[400:],
            y_test=y[10_000:10_100],
            class_names=np.array(CIFAR10),
        )
        folders.append(folder)
    return folders


@pytest.fixture(scope="session")
def changes(cifar_like):
    """Settings with which a spec takes a second, and needs no weights."""
    return {
        "data.path": str(cifar_like[0]),
        "training.epochs": 1,
        "training.batch": 32,
        "retain_images": 60,
        "guide.source": "posterior",
        "guide.exemplars": 2,
    }


@pytest.fixture(scope="session")
def inline(changes, tmp_path_factory):
    """(engine, specs) of two cells and two methods, measured in this process."""
    engine, specs = Engine("small", tmp_path_factory.mktemp("inline")), paper_grid("small", TWO, 1, changes=changes)
    assert engine.carry_out(specs, Inline) == {}
    return engine, specs


def values(engine, specs):
    """Everything that an engine measured, without seconds."""
    return engine.tables(specs)[0]


def needs_weights(*load):
    """Skip, naming what is missing, where one of these loaders of pip-installed weights finds none."""
    try:
        for one in load:
            one()
    except GuideUnavailableError as missing:
        pytest.skip(f"needs the guide's weights: {missing}")


def similarity_like(num_classes):
    """A similarity matrix in which neighbours in the order of the classes are alike."""
    distance = np.abs(np.subtract.outer(np.arange(num_classes), np.arange(num_classes)))
    return np.exp(-distance / 2.0)


def confident(y, p, k=3):
    """Logits that give class y the probability p and share the rest."""
    out = torch.full((len(y), k), (1 - p) / (k - 1)).log()
    out[torch.arange(len(y)), y] = np.log(p)
    return out


class Narrow(torch.nn.Module):
    """A device with room for ``room`` images when they are trained on."""

    def __init__(self, net, room=10):
        super().__init__()
        self.net, self.room = net, room

    def forward(self, x):
        if self.training and len(x) > self.room:
            raise torch.OutOfMemoryError("no room")
        return self.net(x)


@pytest.fixture(scope="session")
def tasks(tiny_overrides):
    """(scenario, architecture) -> a small unlearning request with a briefly trained original."""
    made = {}
    for scenario in methods.ANY:
        settings = resolve(overrides={**tiny_overrides, "forget.scenario": scenario, "forget.count": 30})
        images = load(settings)
        split = make_split(images, settings)
        k = images.num_classes
        for arch in ARCHS:
            blank = models.build(arch, k, images.shape, 0)
            task = Task(
                blank,
                images,
                split,
                forgotten_classes(images, split, settings),
                transition_matrix(similarity_like(k)),
                60,
                arch,
                BRIEF,
                0,
                choose(settings),
            )
            original = task.train_on(blank, split.train, images.y[split.train], BRIEF)
            made[scenario, arch] = dataclasses.replace(task, original=original)
    return made


@pytest.fixture(scope="session")
def parts(mini):
    """40 training and 10 test images of each class, as Datasets of float images in [0, 1]."""
    x, y = mini.x.float() / 255, mini.y
    return TensorDataset(x[:400], y[:400]), TensorDataset(x[10_000:10_100], y[10_000:10_100])


@pytest.fixture(scope="session")
def model(parts):
    x, y = parts[0].tensors
    with seeded(generator(0, "test")):
        trained = network()
        fit(
            trained,
            lambda i: (x[i], y[i]),
            400,
            Recipe(epochs=12, batch=32, lr=0.1),
            generator(0, "order"),
            Compute(torch.device("cpu"), False),
        )
    trained.zero_grad()
    return trained


@pytest.fixture(scope="session")
def done(model, parts):
    return forget(model, parts)
