"""Compute settings: what they turn on, that compiled training is the same training, and that nothing falls back in
silence."""

from functools import partial

import pytest
import torch
from refusals import refused
from torch.nn import functional as F
from training import FLOAT32, far, train

from megu.core import models
from megu.core.device import Compute, choose, generator, in_batches
from megu.runs.experiment import Experiment
from megu.settings.profiles import resolve

COMPILED = Compute(torch.device("cpu"), False, compile=True)
HOW = {"batch": 24, "lr": 0.1, "schedule": "onecycle"}


@pytest.mark.parametrize(("arch", "backend", "count", "tolerance"), [
    pytest.param("vit-tiny", "aot_eager", 48, 1e-5, marks=pytest.mark.slow),
    # Batches of two sizes, which are compiled one by one.
    pytest.param("resnet-small", "aot_eager", 47, 1e-5, marks=pytest.mark.torture),
    pytest.param("vit-tiny", "eager", 47, 0.0, marks=pytest.mark.torture),
])  # fmt: skip
def test_compiled_training_is_the_same_training(tiny, arch, backend, count, tolerance, monkeypatch):
    """Under backends that need no compiler; the network as a whole is captured, and its names stay."""
    (plain, _), called, compile_ = train(tiny, arch, count, **HOW), [], torch.compile

    def compiled(model, **how):
        called.append(how)
        return compile_(model, backend=backend, **how)

    monkeypatch.setattr(torch, "compile", compiled)
    model, _ = train(tiny, arch, count, COMPILED, **HOW)
    assert called == [{"fullgraph": True, "dynamic": False}]
    one, other = model.state_dict(), plain.state_dict()
    assert list(one) == list(other) and max((one[name] - other[name]).abs().max() for name in one) <= tolerance
    start = models.build(arch, 10, tiny.images.shape, 0)
    assert far(start, plain) > 1e-2, "the control: training moves the weights"


@pytest.mark.slow
def test_a_model_that_cannot_be_compiled_is_refused(tiny, monkeypatch):
    class Talks(torch.nn.Linear):
        def forward(self, x):
            torch._dynamo.graph_break()
            return F.linear(x.flatten(1), self.weight, self.bias)

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    with refused(r"training: Talks cannot be compiled here \(Unsupported: .*\): set compile to False"):
        train(tiny, Talks(784, 10), 47, COMPILED, **HOW)
    train(tiny, Talks(784, 10), 47, **HOW)


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it had two GPUs, of which the second one is in use; what is set is put back."""
    cudnn, matmul, empty, set_to = torch.backends.cudnn, torch.backends.cuda.matmul, torch.empty, []
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch, "empty", lambda *shape, device=None: empty(*shape))
    monkeypatch.setattr(torch._C, "_cuda_setDevice", set_to.append, raising=False)
    yield set_to
    torch.use_deterministic_algorithms(False)
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


def flags():
    """What torch was told: deterministic, only to warn, benchmark, TF32."""
    return (
        torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic,
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32,
    )


def chosen(own=False, **settings):
    return choose(resolve(overrides=settings), own)


def test_what_is_set_on_a_gpu(gpu):
    """The default device is named by its number, which torch's own ``set_device`` asks for."""
    usual = chosen()
    assert usual.device == torch.device("cuda:1") and gpu == [1] and str(usual) == "cuda, bfloat16 autocast"
    assert flags() == (True, False, False, False)
    assert chosen(device="cuda:0").device == torch.device("cuda:0") and gpu == [1, 0]
    chosen(own=True)
    assert flags() == (True, True, False, False)
    fast = chosen(deterministic=False, tf32=True, compile=True, autocast="off")
    assert flags() == (False, False, True, True) and str(fast) == "cuda, float32, compiled, not deterministic, TF32"


def test_on_a_cpu_nothing_is_set():
    before = flags()
    found = chosen(deterministic=False, tf32=True, autocast="off")
    assert str(found) == "cpu, float32" and flags() == before


def test_bfloat16_is_never_chosen_for_a_vit_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    assert chosen(arch="resnet-small").autocast is True and chosen(arch="vit-tiny").autocast is False
    assert chosen(arch="vit-tiny", autocast="on").autocast


@pytest.mark.slow
def test_the_manifest_says_how_it_was_computed(tiny_overrides, tmp_path):
    plain, lab = (
        Experiment(run_dir=tmp_path / name, overrides={**tiny_overrides, "compile": compiled, "autocast": "off"})
        for name, compiled in (("plain", False), ("run", True))
    )
    said = [run.run.manifest["notes"]["device"] for run in (plain, lab)]
    assert said == ["cpu, float32", "cpu, float32, compiled"]
    assert lab.shared.path != plain.shared.path, "models of both would be mixed"


@pytest.mark.parametrize(("shape", "size"), [((28, 28), 64), ((32, 32), 224), ((48, 40), 32)])
def test_resizing_has_the_values_of_interpolate_and_stays_float32(shape, size):
    x = torch.randn(2, 3, *shape, generator=generator(0, "x"))
    wanted = F.interpolate(x, size, mode="bilinear", antialias=True)
    assert not torch.allclose(F.interpolate(x, size, mode="nearest"), wanted, atol=0.1), "the control: another resize"
    for compute in (FLOAT32, Compute(torch.device("cpu"), True)):
        with compute.cast():
            found = models.resized(x, size)
            assert torch.allclose(found, wanted, atol=1e-5) and torch.equal(found, models.resized(x.clone(), size))


@pytest.mark.parametrize(("room", "sizes"), [(1 << 40, [32, 68]), (40 * 4 * 8 * 36, [32, 40, 28]), (1, [32] * 3 + [4])])
def test_batches_of_an_evaluation_keep_tensors_below_a_size(monkeypatch, room, sizes):
    """By the largest output of a layer, here 8 maps of 6 x 6; and what is not ``fitted`` stays as it was."""
    net, x = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.MaxPool2d(2)), torch.randn(100, 1, 8, 8)
    monkeypatch.setattr("megu.core.device.MAPPED", room)
    found = [in_batches(lambda part: net(x[part]), torch.arange(100), 90, fitted=fitted) for fitted in (True, False)]
    assert [len(part) for part in found[0]] == sizes and [len(part) for part in found[1]] == [90, 10]
    assert torch.equal(*map(torch.cat, found)) and not torch.nn.modules.module._global_forward_hooks
