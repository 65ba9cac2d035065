"""Architectures by name or by a function, and files of many makes: read, or refused in one line."""

import re
import sys
from types import SimpleNamespace

import pytest
import torch
import torchvision
from refusals import refused
from safetensors.torch import load_file, save_file, save_model
from torch import nn
from training import same
from transformers import BertConfig, ViTConfig, ViTForImageClassification

from megu.core import models
from megu.core.architectures import read_model
from megu.core.keymap import prefixes
from megu.core.models import channels_of

GREY = (1, 28, 28)
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture
def written(tmp_path):
    """A function that writes tensors to a file."""

    def write(state):
        state = {name: x.contiguous().clone() for name, x in state.items()}
        save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
        return tmp_path / "model.safetensors"

    return write


@pytest.fixture
def net():
    return models.build("resnet-small", 4, GREY, 0)


def behind(prefix):
    return lambda state: {prefix + name: x for name, x in state.items()}


def half(state):
    return {name: x.half() if x.is_floating_point() else x for name, x in state.items()}


PREFIXES = ["module.", "model.", "net.", "backbone.", "state_dict.model."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_taken_off_and_said(prefix, net, written, caplog):
    assert same(read_model(written(behind(prefix)(net.state_dict())), "resnet-small", 4, (28, 28)), net)
    assert f"the prefix {prefix!r} of all names was taken off" in caplog.text
    state = behind(prefix)(net.state_dict()) | {"loss.weight": torch.zeros(4)}
    assert same(read_model(written(state), "resnet-small", 4, (28, 28)), net)
    assert "1 tensors beside the network were left out, e.g. loss.weight" in caplog.text
    state = net.state_dict() | {"loss.weight": torch.zeros(4)}  # may be a layer of another network
    with refused("is no resnet-small with 4 classes"):
        read_model(written(state), "resnet-small", 4, (28, 28))


@pytest.mark.parametrize("change", [
    behind("_orig_mod."), behind("_orig_mod.module."), behind("module._orig_mod."),
    lambda state: {name.replace("layers.", "layers._orig_mod."): x for name, x in state.items()},
])  # fmt: skip
def test_names_of_compiled_modules_and_parts(change, net, written, caplog):
    assert same(read_model(written(change(net.state_dict())), "resnet-small", 4, (28, 28)), net)
    assert "'_orig_mod.', which torch.compile writes into names, was taken off" in caplog.text


def test_prefixes_end_at_dots():
    assert prefixes(["ab.c.d", "ab.c.e"]) == ["", "ab.", "ab.c."] and prefixes(["abc.d", "ab.d"]) == [""]


@pytest.mark.parametrize(("more", "said"), [
    ({"total_ops": torch.zeros(1), "layers.0.conv1.total_params": torch.zeros(1)}, "2 counters were left out"),
    ({"n_averaged": torch.tensor(7)}, "1 counters were left out, e.g. n_averaged"),
    ({"total_ops": torch.zeros(2)}, None),
    ({"scale": torch.zeros(1)}, None),
])  # fmt: skip
def test_counters_beside_the_weights_are_left_out_and_weights_are_not(more, said, net, written, caplog):
    file = written(net.state_dict() | more)
    if said:
        assert same(read_model(file, "resnet-small", 4, (28, 28)), net) and said in caplog.text
        file = written(behind("module.")(net.state_dict()) | more)  # as AveragedModel writes it
        assert same(read_model(file, "resnet-small", 4, (28, 28)), net)
    else:
        with refused("1 are unknown, e.g. "):
            read_model(file, "resnet-small", 4, (28, 28))


def test_half_precision_is_read_in_float32_and_integers_are_not_weights(net, written):
    found = read_model(written(half(net.state_dict())), "resnet-small", 4, (28, 28))
    assert {x.dtype for x in found.parameters()} == {torch.float32}
    assert found.head.weight.equal(net.head.weight.half().float())
    state = net.state_dict()
    state["head.weight"] = (state["head.weight"] * 127).to(torch.int8)
    with refused("head.weight holds torch.int8, not torch.float32: no quantised weights"):
        read_model(written(state), "resnet-small", 4, (28, 28))


class Tied(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, num_classes)
        self.two.weight = self.one.weight


def test_tied_weights_as_save_model_writes_them(tmp_path, monkeypatch, written):
    monkeypatch.setitem(sys.modules, "own", SimpleNamespace(Tied=Tied))
    tied = Tied(3)
    save_model(tied, tmp_path / "tied.safetensors")
    assert len(load_file(tmp_path / "tied.safetensors")) == len(tied.state_dict()) - 1
    found = read_model(tmp_path / "tied.safetensors", "own:Tied", 3, (4, 4))
    assert same(found, tied) and found.one.weight is found.two.weight
    with refused("1 tensors are missing, e.g. two.weight"):
        read_model(written(load_file(tmp_path / "tied.safetensors")), "own:Tied", 3, (4, 4))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_called_by_its_name(tmp_path):
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "model.safetensors"))
    with refused(r"is TorchScript, .*torch.jit.load\(file\).state_dict\(\)"):
        read_model(tmp_path / "model.safetensors", "resnet18", 2, (32, 32))


TAKES = {
    "def make(): return Net(4)": 1,
    "def make(num_classes, in_channels=3): return Net(num_classes, in_channels)": 1,
    "def make(width=3, *, n_classes=7): return Net(n_classes)": 1,
    "def make(k): return Net(k)": 1,
    "make = lambda *_, **__: Net(4)": 1,
    "class make(Net): pass": 1,
    "def make(k, width): return Net(k)": "cannot be built .TypeError.*missing 1 required.*called with num_classes and",
    "def make(k): raise SystemExit(0)": "cannot be built .SystemExit: 0.: it is called",
    "def make(k): raise RuntimeError('no such\\nfile')": "cannot be built .RuntimeError: no such.: it is called",
    "def make(): return {}": "gives a dict: let it return a torch.nn.Module",
    "make = 3": "is a int: name a function",
    "made = 3": "in nets.py the function 'make' does not exist; choose from: Net",
    "def make(): pass\nraise SystemExit(2)": "cannot be imported .SystemExit",
    "def make(:": "nets.py, line . cannot be read as Python .*: check file.py:function",
}
BODY = (
    "import torch\nclass Net(torch.nn.Sequential):\n def __init__(self, num_classes, channels=1):\n  super().__init__("
)
BODY += "torch.nn.Flatten(), torch.nn.Linear(channels * 16, num_classes))\n"


@pytest.mark.parametrize("text", TAKES)
def test_a_function_is_called_with_what_it_takes(text, tmp_path, written):
    (tmp_path / "nets.py").write_text(BODY + text)
    file, arch = written({"1.weight": torch.randn(4, 16), "1.bias": torch.zeros(4)}), f"{tmp_path}/nets.py:make"
    if TAKES[text] == 1:
        assert read_model(file, arch, 4, (1, 4, 4))[1].bias.shape == (4,)
    else:
        with refused(f"arch.* {TAKES[text]}"):
            read_model(file, arch, 4, (1, 4, 4))


@pytest.mark.parametrize("arch", ["squeezenet1_1", "resnet18", "googlenet"])
def test_torchvisions_networks_also_for_grey_images(arch, written):
    more = {"init_weights": False, "aux_logits": False} if arch == "googlenet" else {}
    given = torchvision.models.get_model(arch, weights=None, num_classes=3, **more)
    for channels in (3, 1):
        if channels == 1:
            name, first = next(one for one in given.named_modules() if isinstance(one[1], nn.Conv2d))
            how = {"bias": first.bias is not None, "stride": first.stride, "padding": first.padding}
            grey = nn.Conv2d(1, first.out_channels, first.kernel_size, **how)
            setattr(given.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], grey)
        found = read_model(written(given.state_dict()), arch, 3, (64, 64))
        x = torch.randn(2, channels, 64, 64)
        assert channels_of(found) == channels and torch.equal(found(x), given.eval()(x))


@pytest.mark.parametrize(("name", "channels", "size"), [
    ("resnet10t", 3, 32), ("resnet10t", 1, 32), ("vit_tiny_patch16_224", 3, 48), ("vit_tiny_patch16_224", 1, 224),
])  # fmt: skip
def test_timms_networks(name, channels, size, written, caplog):
    timm = pytest.importorskip("timm")
    how = {"img_size": size} if "vit" in name else {}
    given = timm.create_model(name, num_classes=3, in_chans=channels, **how).eval()
    found = read_model(written(given.state_dict()), f"timm:{name}", 3, (size, size))
    x = torch.randn(2, channels, size, size)
    assert torch.equal(found(x), given(x)) and caplog.text.count(f"timm:{name} usually takes") == 1
    with refused("timm has no model 'resnet10x'; did you mean 'resnet10t'"):
        read_model(written(given.state_dict()), "timm:resnet10x", 3, (size, size))


def test_transformers_networks_by_the_folder_that_holds_their_config(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = ViTForImageClassification(ViTConfig(**SIZES, image_size=48, patch_size=16, num_labels=3)).eval()
    given.save_pretrained(tmp_path / "vit")
    file = tmp_path / "vit" / "model.safetensors"
    about = '{"image_mean": [0.5], "image_std": [0.2], "size": 48}'
    (tmp_path / "vit" / "preprocessor_config.json").write_text(about)
    found, x = read_model(file, f"hf:{tmp_path}/vit", 3, (48, 48)), torch.randn(2, 3, 48, 48)
    assert torch.equal(found(x).logits, given(x).logits)
    assert "hf:vit usually takes 48 px and normalise '0.5; 0.2'" in caplog.text  # said in reports: without a path
    with refused(re.escape("classifier.weight is (3, 24), not (4, 24)")):
        read_model(file, f"hf:{tmp_path}/vit", 4, (48, 48))
    assert "several labels" not in caplog.text
    given.config.problem_type = "multi_label_classification"
    given.config.save_pretrained(tmp_path / "vit")
    read_model(file, f"hf:{tmp_path}/vit", 3, (48, 48))
    assert "hf:vit was trained with several labels of an image (problem_type)" in caplog.text
    BertConfig().save_pretrained(tmp_path / "bert")
    for name, words in (("nobody/nothing", "no config.json is on this"), (f"{tmp_path}/bert", "classifies no images")):
        with refused(f"arch 'hf:{name}'.* {words}"):
            read_model(file, f"hf:{name}", 3, (48, 48))


def test_a_vit_by_the_names_of_transformers(tmp_path, written, caplog):
    """Ours stand behind ``net.``; `save_pretrained` writes the names of older versions."""
    ours = models.build("vit-tiny", 4, GREY, 0)
    ours.net.save_pretrained(tmp_path / "theirs")
    old = load_file(tmp_path / "theirs" / "model.safetensors")
    for state in (old, behind("module.")(old), ours.net.state_dict(), behind("model.")(ours.net.state_dict())):
        assert same(read_model(written(state), "vit-tiny", 4, (28, 28)), ours)
    assert "names of another version of transformers were translated" in caplog.text
    old.popitem()
    with refused("is no vit-tiny with 4 classes"):
        read_model(written(old), "vit-tiny", 4, (28, 28))
