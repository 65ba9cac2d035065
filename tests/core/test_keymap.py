"""Classifiers trained elsewhere: a ResNet with weiaicunzai's names gives the same logits here; a wrong name is one
line."""

import re
import sys
from types import ModuleType

import pytest
import torch
from PIL import Image
from refusals import refused
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18
from training import same
from typer.testing import CliRunner

from megu.cli.main import app
from megu.core import keymap, models
from megu.core.architectures import read_model
from megu.core.device import generator, seeded

SMALL = models.RESNETS["resnet-small"]


def layers(into, width, stride=1, size=3):
    return nn.Conv2d(into, width, size, stride, size // 2, bias=False), nn.BatchNorm2d(width)


class Block(nn.Module):
    def __init__(self, into, width, stride):
        super().__init__()
        self.residual_function = nn.Sequential(*layers(into, width, stride), nn.ReLU(), *layers(width, width))
        self.shortcut = nn.Sequential(*layers(into, width, stride, 1) if stride > 1 or into != width else ())

    def forward(self, x):
        return torch.relu(self.residual_function(x) + self.shortcut(x))


class Theirs(nn.Module):
    """Written from the names and shapes alone: stem conv1, stages conv2_x to conv5_x of basic blocks, head fc."""

    def __init__(self, num_classes, channels=3, blocks=(2, 2, 2, 2), widths=(64, 128, 256, 512)):
        super().__init__()
        into = widths[0]
        self.conv1 = nn.Sequential(*layers(channels, into), nn.ReLU())
        for stage, width in enumerate(widths):
            first = Block(into, width, 2 if stage else 1)
            rest = [Block(width, width, 1) for _ in range(blocks[stage] - 1)]
            setattr(self, f"conv{stage + 2}_x", nn.Sequential(first, *rest))
            into = width
        self.fc = nn.Linear(into, num_classes)

    def forward(self, x):
        x = self.conv5_x(self.conv4_x(self.conv3_x(self.conv2_x(self.conv1(x)))))
        return self.fc(x.mean((2, 3)))


def lived(*size):
    """One with batch statistics and affine parameters that are not those of a new network."""
    with seeded(generator(0, "theirs")), torch.no_grad():
        model = Theirs(*size)
        for _ in range(3):
            model(torch.randn(16, model.conv1[0].in_channels, 32, 32) * 2 + 1)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
    return model.eval()


@pytest.fixture
def written(tmp_path):
    """A function that writes a changed model to a file."""

    def write(model, change=lambda state: state):
        state = {
            name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in model.state_dict().items()
        }
        save_file(change(state), tmp_path / "theirs.safetensors")
        return tmp_path / "theirs.safetensors"

    return write


def test_a_checkpoint_holds_the_network_under_a_name_of_its_own(written, caplog):
    theirs = resnet18(num_classes=7).eval()
    state = {f"model.{name}": x for name, x in theirs.state_dict().items()} | {"criterion.weight": torch.ones(7)}
    found = read_model(written(theirs, lambda _: state), "resnet18", 7, (32, 32))
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(found(x), theirs(x), atol=1e-5)
    assert "1 tensors beside the network were left out, e.g. criterion.weight" in caplog.text
    twice = state | {f"ema.{name}": x + 1 for name, x in theirs.state_dict().items()}
    with refused("the weights are there 2 times, as ema, model: save one alone"):
        read_model(written(theirs, lambda _: twice), "resnet18", 7, (32, 32))


def with_their_names(blocks):
    return lambda state: {keymap.theirs(name, blocks): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(("arch", "size"), [("resnet18", (7, 3)), ("resnet-small", (5, 1, *SMALL))])
def test_the_logits_are_the_same(written, arch, size):
    theirs = lived(*size)
    ours = read_model(written(theirs), arch, size[0], (32, 32))
    x = torch.randn(4, size[1], 32, 32, generator=generator(1, "x"))
    with torch.no_grad():
        expected, found = theirs(x), ours(x)
        assert expected.std() > 0.1 and (found - expected).abs().max() < 1e-5
        blind = models.copy_of(ours)
        for module in blind.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
        assert (blind(x) - expected).abs().max() > 0.01  # without the batch statistics they are others
    assert isinstance(ours, models.ResNet) and not ours.training


def test_a_classifier_trained_elsewhere_can_be_made_to_forget(tiny, tmp_path, written):
    """The command takes such a file, and finds that the model knows its training images."""
    arch, images = tiny.settings.arch, tiny.images
    file = written(tiny.original(0), with_their_names(models.RESNETS[arch][0]))
    for i, (x, k) in enumerate(zip(images.x[:200, 0].numpy(), images.y[:200].tolist(), strict=True)):
        (place := tmp_path / "photos" / images.classes[k]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(x).save(place / f"{i}.png")
    (tmp_path / "names.txt").write_text("\n".join(images.classes))
    words = ["--model", file, "--arch", arch, "--data", tmp_path / "photos", "--classes", tmp_path / "names.txt"]
    words += ["--forget", "trouser", "--guide", "model", "--normalise", "data", "--dry-run"]
    done = CliRunner().invoke(app, ["unlearn", *map(str, words)])
    assert done.exit_code == 0, done.exception
    assert int(re.search(r"model    ResNet, .* 10 classes, images 1x28x28; names (\d+) %", done.output)[1]) > 40


def test_a_function_that_gives_one_of_our_networks_also_wrapped(tiny, written, monkeypatch):
    monkeypatch.setitem(sys.modules, "someones", module := ModuleType("someones"))

    def read(file, make):
        module.network = make
        return read_model(file, "someones:network", 10, (28, 28))

    file = written(tiny.original(0), with_their_names(SMALL[0]))
    assert same(read(file, lambda k: models.ResNet(k, 1, *SMALL)), tiny.original(0))
    with refused("is no someones:network with 10 classes .* tensors are missing, e.g. conv2_x.1"):
        read(file, lambda k: models.ResNet(k, 1, (2, 1, 1, 1), SMALL[1]))
    own = nn.DataParallel(models.ResNet(10, 1, *SMALL))
    assert same(read(written(own), lambda k: nn.DataParallel(models.ResNet(k, 1, *SMALL))), own)


def wrapped(state):
    return {f"module.{name}": tensor for name, tensor in state.items()}


def half_wrapped(state):
    return {("module." if i else "") + name: tensor for i, (name, tensor) in enumerate(state.items())}


def without(part):
    return lambda state: {name: tensor for name, tensor in state.items() if part not in name}


@pytest.mark.parametrize("names", ["theirs", "ours"])
def test_files_of_a_wrapped_network_and_without_counts_of_batches(written, names):
    """As ``DataParallel`` saves it, and as versions of PyTorch before 0.4.1 did."""
    theirs, old = lived(7, 3, *SMALL), without("num_batches_tracked")
    plain = read_model(written(theirs), "resnet-small", 7, (32, 32))
    saved = theirs if names == "theirs" else plain
    x = torch.randn(4, 3, 32, 32, generator=generator(1, "x"))
    for change in (wrapped, old, lambda state: wrapped(old(state))):
        found = read_model(written(saved, change), "resnet-small", 7, (32, 32))
        assert torch.equal(found(x), plain(x)) and found.state_dict().keys() == plain.state_dict().keys()
    for change in (half_wrapped, without("running_mean")):
        with refused("is no resnet-small with 7 classes .* tensors are missing"):
            read_model(written(saved, change), "resnet-small", 7, (32, 32))


def renamed(state):
    return {name.replace(f"{BODY}.4", f"{BODY}.5"): tensor for name, tensor in state.items()}


BODY = "conv4_x.1.residual_function"


@pytest.mark.parametrize(("change", "classes", "expected"), [
    (without("conv3_x.0.shortcut.1.running_var"), 7, "1 tensors are missing, e.g. conv3_x.0.shortcut.1.running_var"),
    (renamed, 7, f"5 tensors are missing, e.g. {BODY}.4.weight; 5 are unknown, e.g. {BODY}.5."),
    (lambda state: {**state, "extra.weight": torch.zeros(2)}, 7, "1 are unknown, e.g. extra.weight"),
    (lambda state: state, 10, "fc.weight is (7, 512), not (10, 512)"),
])  # fmt: skip
def test_a_wrong_or_missing_name_is_one_line(written, change, classes, expected):
    with refused(re.escape(f"theirs.safetensors is no resnet18 with {classes} classes ({expected}")):
        read_model(written(Theirs(7), change), "resnet18", classes, (32, 32))


@pytest.mark.parametrize(("arch", "shape"), [
    ("resnet-small", (1, 28, 28)), ("resnet-small", (3, 32, 32)), ("resnet18", (3, 32, 32)), ("vit-tiny", (1, 28, 28)),
])  # fmt: skip
def test_our_own_files_are_read_too(arch, shape, tmp_path, written):
    model = models.build(arch, 4, shape, 0).eval()
    models.save(model, tmp_path / "ours.safetensors", {})
    assert same(read_model(tmp_path / "ours.safetensors", arch, 4, shape[1:]), model)
    assert same(read_model(written(nn.DataParallel(model)), arch, 4, shape[1:]), model)
