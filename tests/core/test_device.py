"""Compute settings: what they turn on, that compiled training is the same training, and that nothing falls back in
silence."""

from functools import partial

import pytest
import torch
from refusals import refused
from torch.nn import functional as F

from megu.core import models
from megu.core.device import Compute, choose, generator
from megu.core.train import fit
from megu.runs.experiment import Experiment
from megu.settings.config import Recipe
from megu.settings.profiles import resolve

CPU = torch.device("cpu")


def trained(tiny, arch, compute, model=None, count=47):
    """An epoch of batches of 24 images, or one less."""
    images, index = tiny.images, tiny.split.train[:count]
    model = model or models.build(arch, 10, images.shape, 0)
    fit(
        model,
        lambda i: (images.batch(index[i]), images.y[index[i]]),
        count,
        Recipe(epochs=1, batch=24, lr=0.1),
        generator(0, "order"),
        compute,
    )
    return model


COMPILED = [
    pytest.param("vit-tiny", "aot_eager", 48, 1e-5, marks=pytest.mark.slow),
    # Batches of two sizes, which are compiled one by one.
    pytest.param("resnet-small", "aot_eager", 47, 1e-5, marks=pytest.mark.torture),
    pytest.param("vit-tiny", "eager", 47, 0.0, marks=pytest.mark.torture),
]


@pytest.mark.parametrize(("arch", "backend", "count", "tolerance"), COMPILED)
def test_compiled_training_is_the_same_training(tiny, arch, backend, count, tolerance, monkeypatch):
    """Under backends that need no compiler; the network as a whole is captured, and its names stay."""
    plain, called, compile_ = trained(tiny, arch, Compute(CPU, False), count=count), [], torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda model, **how: called.append(how) or compile_(model, backend=backend, **how)
    )
    model = trained(tiny, arch, Compute(CPU, False, compile=True), count=count)
    assert called == [{"fullgraph": True, "dynamic": False}] and list(model.state_dict()) == list(plain.state_dict())
    assert (
        max((a - b).abs().max() for a, b in zip(model.state_dict().values(), plain.state_dict().values(), strict=True))
        <= tolerance
    )
    start = models.build(arch, 10, tiny.images.shape, 0)
    assert max((a - b).abs().max() for a, b in zip(start.parameters(), plain.parameters(), strict=True)) > 1e-2, (
        "the control: training moves the weights"
    )


@pytest.mark.slow
def test_a_model_that_cannot_be_compiled_is_refused(tiny, monkeypatch):
    class Talks(torch.nn.Module):
        """Leaves the graph."""

        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(784, 10)

        def forward(self, x):
            torch._dynamo.graph_break()
            return self.net(x.flatten(1))

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    with refused(r"training: Talks cannot be compiled here \(Unsupported: .*\): set compile to False"):
        trained(tiny, None, Compute(CPU, False, compile=True), Talks())
    assert trained(tiny, None, Compute(CPU, False), Talks())


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it had two GPUs, of which the second one is in use; what is set is put back."""
    state = (
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
    )
    empty = torch.empty
    with monkeypatch.context() as patch:
        patch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
        patch.delenv("CUBLAS_WORKSPACE_CONFIG")
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "current_device", lambda: 1)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
        patch.setattr(torch, "empty", lambda *shape, device=None: empty(*shape))
        set_to = []
        patch.setattr(torch._C, "_cuda_setDevice", set_to.append, raising=False)
        yield set_to
    torch.use_deterministic_algorithms(False)
    (
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
    ) = state


def flags():
    """What torch was told: deterministic, only to warn, benchmark, TF32."""
    return (
        torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic,
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32,
    )


def test_what_is_set_on_a_gpu(gpu):
    """The default device is named by its number, which torch's own ``set_device`` asks for."""
    usual = choose(resolve())
    assert usual.device == torch.device("cuda:1") and gpu == [1] and str(usual) == "cuda, bfloat16 autocast"
    assert flags() == (True, False, False, False)
    assert choose(resolve(overrides={"device": "cuda:0"})).device == torch.device("cuda:0") and gpu == [1, 0]
    choose(resolve(), own=True)
    assert flags() == (True, True, False, False)
    fast = choose(resolve(overrides={"deterministic": False, "tf32": True, "compile": True, "autocast": "off"}))
    assert flags() == (False, False, True, True) and str(fast) == "cuda, float32, compiled, not deterministic, TF32"


def test_on_a_cpu_nothing_is_set(monkeypatch):
    before = flags()
    found = choose(resolve(overrides={"deterministic": False, "tf32": True, "autocast": "off"}))
    assert str(found) == "cpu, float32" and flags() == before


@pytest.mark.slow
def test_the_manifest_says_how_it_was_computed(tiny_overrides, tmp_path):
    lab = Experiment(run_dir=tmp_path / "run", overrides={**tiny_overrides, "compile": True, "autocast": "off"})
    plain = Experiment(run_dir=tmp_path / "plain", overrides={**tiny_overrides, "autocast": "off"})
    assert (
        lab.run.manifest["notes"]["device"] == "cpu, float32, compiled"
        and plain.run.manifest["notes"]["device"] == "cpu, float32"
    )
    assert lab.shared.path != plain.shared.path, "models of both would be mixed"


@pytest.mark.parametrize(("shape", "size"), [((28, 28), 64), ((32, 32), 224), ((48, 40), 32)])
def test_resizing_has_the_values_of_interpolate_and_stays_float32(shape, size):
    x = torch.randn(2, 3, *shape, generator=generator(0, "x"))
    wanted = F.interpolate(x, size, mode="bilinear", antialias=True)
    assert torch.allclose(models.resized(x, size), wanted, atol=1e-5)
    assert not torch.allclose(F.interpolate(x, size, mode="nearest"), wanted, atol=0.1), (
        "the control: another resize is far away"
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert (
            torch.equal(models.resized(x, size), models.resized(x.clone(), size))
            and models.resized(x, size).dtype == torch.float32
        )
        assert torch.allclose(models.resized(x, size), wanted, atol=1e-5)
