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
from typer.testing import CliRunner

from megu.cli.main import app
from megu.core import keymap, models
from megu.core.device import generator, seeded
from megu.core.loading import read_model


class Theirs(nn.Module):
    """Written from the names and shapes alone: stem conv1, stages conv2_x to conv5_x of basic blocks, head fc."""

    class Block(nn.Module):
        def __init__(self, into, width, stride):
            super().__init__()
            self.residual_function = nn.Sequential(
                nn.Conv2d(into, width, 3, stride, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, 1, 1, bias=False),
                nn.BatchNorm2d(width),
            )
            short = (
                (nn.Conv2d(into, width, 1, stride, bias=False), nn.BatchNorm2d(width))
                if stride > 1 or into != width
                else ()
            )
            self.shortcut = nn.Sequential(*short)

        def forward(self, x):
            return torch.relu(self.residual_function(x) + self.shortcut(x))

    def __init__(self, num_classes, channels=3, widths=(64, 128, 256, 512), blocks=2):
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        into = widths[0]
        for stage, width in enumerate(widths):
            layers = [self.Block(into if i == 0 else width, width, 2 if stage and not i else 1) for i in range(blocks)]
            setattr(self, f"conv{stage + 2}_x", nn.Sequential(*layers))
            into = width
        self.fc = nn.Linear(into, num_classes)

    def forward(self, x):
        x = self.conv5_x(self.conv4_x(self.conv3_x(self.conv2_x(self.conv1(x)))))
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def lived(model, channels=3):
    """With batch statistics and affine parameters that are not those of a new network."""
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(16, channels, 32, 32) * 2 + 1)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def original():
    with seeded(generator(0, "theirs")):
        return lived(Theirs(7))


def written(model, tmp_path, change=lambda state: state):
    save_file(
        change(
            {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in model.state_dict().items()}
        ),
        tmp_path / "theirs.safetensors",
    )
    return tmp_path / "theirs.safetensors"


def test_the_logits_are_the_same(original, tmp_path):
    ours = read_model(written(original, tmp_path), "resnet18", 7, (32, 32))
    x = torch.randn(4, 3, 32, 32, generator=generator(1, "x"))
    with torch.no_grad():
        expected, found = original(x), ours(x)
        assert expected.std() > 0.1 and (found - expected).abs().max() < 1e-5
        blind = models.copy_of(ours)
        for module in blind.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
        assert (blind(x) - expected).abs().max() > 0.01  # without the batch statistics they are others
    assert isinstance(ours, models.ResNet) and not ours.training


def test_other_depths_and_grey_images(tmp_path):
    with seeded(generator(0, "grey")):
        theirs = lived(Theirs(5, 1, models.RESNETS["resnet-small"][1], 1), 1)
    ours = read_model(written(theirs, tmp_path), "resnet-small", 5, (32, 32))
    x = torch.randn(4, 1, 32, 32)
    with torch.no_grad():
        assert (ours(x) - theirs(x)).abs().max() < 1e-5


def test_a_classifier_trained_elsewhere_can_be_made_to_forget(tiny, tmp_path):
    """The command takes such a file, and finds that the model knows its training images."""
    arch, images = tiny.settings.arch, tiny.images
    state = {
        keymap.theirs(name, models.RESNETS[arch][0]): tensor.contiguous()
        for name, tensor in tiny.original(0).state_dict().items()
    }
    save_file(state, tmp_path / "theirs.safetensors")
    for i, (x, k) in enumerate(zip(images.x[:200, 0].numpy(), images.y[:200].tolist(), strict=True)):
        (place := tmp_path / "photos" / images.classes[k]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(x).save(place / f"{i}.png")
    (tmp_path / "names.txt").write_text("\n".join(images.classes))
    words = [
        "--model",
        tmp_path / "theirs.safetensors",
        "--arch",
        arch,
        "--data",
        tmp_path / "photos",
        "--classes",
        tmp_path / "names.txt",
        "--dry-run",
    ]
    done = CliRunner().invoke(
        app, ["unlearn", *map(str, words), "--forget", "trouser", "--guide", "model", "--normalise", "data"]
    )
    assert done.exit_code == 0, done.exception
    assert int(re.search(r"model    ResNet, .* 10 classes, images 1x28x28; names (\d+) %", done.output)[1]) > 40


def test_a_function_that_gives_one_of_our_networks(tiny, tmp_path, monkeypatch):
    made = ModuleType("someones")
    made.network = lambda num_classes: models.ResNet(num_classes, 1, *models.RESNETS["resnet-small"])
    monkeypatch.setitem(sys.modules, "someones", made)
    own = tiny.original(0).state_dict()
    save_file(
        {keymap.theirs(name, (1, 1, 1, 1)): tensor.contiguous() for name, tensor in own.items()},
        tmp_path / "theirs.safetensors",
    )
    model = read_model(tmp_path / "theirs.safetensors", "someones:network", 10, (28, 28))
    assert all(tensor.equal(own[name]) for name, tensor in model.state_dict().items())
    made.network = lambda num_classes: models.ResNet(num_classes, 1, (2, 1, 1, 1), models.RESNETS["resnet-small"][1])
    with refused("is no someones:network with 10 classes .* tensors are missing, e.g. conv2_x.1"):
        read_model(tmp_path / "theirs.safetensors", "someones:network", 10, (28, 28))


@pytest.mark.parametrize("names", ["theirs", "ours"])
def test_files_of_a_wrapped_network_and_without_counts_of_batches(tmp_path, names):
    """As ``DataParallel`` saves it, and as versions of PyTorch before 0.4.1 did."""
    theirs = lived(Theirs(7, 3, models.RESNETS["resnet-small"][1], 1))
    plain = read_model(written(theirs, tmp_path), "resnet-small", 7, (32, 32))
    saved = theirs if names == "theirs" else plain
    x = torch.randn(4, 3, 32, 32, generator=generator(1, "x"))
    for change in (
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {name: tensor for name, tensor in state.items() if "num_batches_tracked" not in name},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items() if "num_batches_tracked" not in name},
    ):
        found = read_model(written(saved, tmp_path, change), "resnet-small", 7, (32, 32))
        assert torch.equal(found(x), plain(x)) and found.state_dict().keys() == plain.state_dict().keys()
    for change in (
        lambda state: {
            ("module." if i else "") + name: tensor for i, (name, tensor) in enumerate(state.items())
        },  # the control: not all of them
        lambda state: {name: tensor for name, tensor in state.items() if "running_mean" not in name},
    ):
        with refused("is no resnet-small with 7 classes .* tensors are missing"):
            read_model(written(saved, tmp_path, change), "resnet-small", 7, (32, 32))


def test_grey_images_of_a_wrapped_network(tmp_path):
    model = models.build("resnet-small", 4, (1, 28, 28), 0).eval()
    found = read_model(written(nn.DataParallel(model), tmp_path), "resnet-small", 4, (28, 28))
    assert all(tensor.equal(model.state_dict()[name]) for name, tensor in found.state_dict().items())


def test_a_network_that_is_wrapped_itself_keeps_its_names(tmp_path, monkeypatch):
    made = ModuleType("wrapping")
    made.network = lambda num_classes: nn.DataParallel(models.ResNet(num_classes, 1, *models.RESNETS["resnet-small"]))
    monkeypatch.setitem(sys.modules, "wrapping", made)
    own = made.network(4)
    found = read_model(written(own, tmp_path), "wrapping:network", 4, (28, 28))
    assert all(tensor.equal(own.state_dict()[name]) for name, tensor in found.state_dict().items())


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


def renamed(state):
    return {
        key.replace("conv4_x.1.residual_function.4", "conv4_x.1.residual_function.5"): value
        for key, value in state.items()
    }


@pytest.mark.parametrize(("change", "classes", "expected"), [
    (without("conv3_x.0.shortcut.1.running_var"), 7, r"1 tensors are missing, e\.g\. conv3_x\.0\.shortcut\.1\.running_var"),
    (renamed, 7, r"5 tensors are missing, e\.g\. conv4_x\.1\.residual_function\.4\.weight; 5 are unknown, e\.g\. conv4_x\.1\.residual_function\.5\."),
    (lambda state: {**state, "extra.weight": torch.zeros(2)}, 7, r"1 are unknown, e\.g\. extra\.weight"),
    (lambda state: state, 10, r"fc\.weight is \(7, 512\), not \(10, 512\)"),
])  # fmt: skip
def test_a_wrong_or_missing_name_is_one_line(original, tmp_path, change, classes, expected):
    with refused(f"theirs.safetensors is no resnet18 with {classes} classes .{expected}"):
        read_model(written(original, tmp_path, change), "resnet18", classes, (32, 32))


@pytest.mark.parametrize("arch", [*models.RESNETS])
def test_every_tensor_has_a_name_of_its_own(arch):
    blocks = models.RESNETS[arch][0]
    own = list(models.build(arch, 3, (3, 32, 32), 0).state_dict())
    assert len({keymap.theirs(name, blocks) for name in own}) == len(own)
    assert not keymap.spoken(dict.fromkeys(own)) and keymap.spoken({keymap.theirs(name, blocks): None for name in own})


@pytest.mark.parametrize(
    ("arch", "shape"),
    [
        ("resnet-small", (1, 28, 28)),
        ("resnet-small", (3, 32, 32)),
        ("resnet18", (3, 32, 32)),
        ("vit-tiny", (1, 28, 28)),
    ],
)
def test_our_own_files_are_read_too(arch, shape, tmp_path):
    model = models.build(arch, 4, shape, 0).eval()
    models.save(model, tmp_path / "ours.safetensors", {})
    x = torch.randn(2, *shape)
    assert torch.equal(read_model(tmp_path / "ours.safetensors", arch, 4, shape[1:])(x), model(x))


def test_a_pth_is_not_opened_and_the_message_says_how_to_convert_it(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "theirs.pth")
    with refused(r"theirs\.pth' is not a safetensors file.*save_file\(.*weights_only=True"):
        read_model(tmp_path / "theirs.pth", "resnet18", 3, (32, 32))
