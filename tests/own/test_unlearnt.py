"""What ``megu unlearn`` writes is read again by others, by its own header, and by the request that comes next."""

import copy
import dataclasses
import hashlib
import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from own_model import NAMES, column, forget, network
from pixels import check, reader, write
from refusals import refused
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import TensorDataset

import megu
from megu.core import models
from megu.core.loading import weights_digest
from megu.core.splits import split_of
from megu.datasets.folder import ImagePart
from megu.datasets.images import Images
from megu.datasets.user_images import pool_parts
from megu.own import report
from megu.own.checkpoint import Checkpoint
from megu.own.class_order import check_known

SAID = "the model names 0 of 40 of 'bag' right, no more than chance would"


@pytest.fixture(scope="module")
def written(model, parts, tmp_path_factory):
    """Two folders of the same request: of float images, and of 8-bit ones with moments."""
    root, how = tmp_path_factory.mktemp("unlearnt"), {"classes": NAMES, "method": "finetune"}
    x, y = parts[0].tensors
    pixels = TensorDataset((x * 255).round().byte(), y)
    made = {
        "float": megu.unlearn(model, parts[0], "trouser", **how, out=root / "float"),
        "pixels": megu.unlearn(model, pixels, "trouser", **how, normalise="unit", out=root / "pixels"),
    }
    return root, made, x[:5]


@pytest.mark.parametrize("kind", ["float", "pixels"])
def test_a_folder_is_read_with_the_module_of_its_kind(written, kind):
    root, made, x = written
    net = network()
    before = weights_digest(net)
    found = Checkpoint.from_pretrained(root / kind, net=net)
    assert weights_digest(net) == before and weights_digest(found.net) == weights_digest(made[kind].model)
    assert torch.allclose(found(x), made[kind].model(x)) and found.about.classes == NAMES
    pixels = (x * 255).round().byte()
    if kind == "pixels":
        assert torch.allclose(found(pixels), made[kind].model(pixels / 255), atol=1e-5)
        for other in (x - 0.5, x * 255, x.where(x < x.max(), torch.nan)):
            with refused("float images are not in .0, 1.: divide levels by 255, and do not normalise them"):
                found(other)
    else:
        with refused("takes float images as those of its training data"):
            found(pixels)
    for other in (x[0], x[..., :24, :24], x.permute(0, 2, 3, 1), nn.functional.pad(x, (14,) * 4), x[0].numpy()):
        with refused(r"images are .*: give a tensor \(n, 1, 28, 28\), resized as for the training"):
            found(other)
    with refused("hand that folder over"):
        found.save_pretrained(root / "again")


def test_a_module_that_takes_the_weights_and_answers_otherwise_is_refused(written):
    root, made, _ = written
    (other := network())[2] = nn.Tanh()
    with refused("the network has its weights, but gives other logits .*: give one of the code that the file was"):
        Checkpoint.from_pretrained(root / "pixels", net=other)
    about = models.about(root / "pixels" / "model.safetensors")
    found = models.fingerprint(made["pixels"].model, (1, 28, 28), len(NAMES))
    assert found == pytest.approx(about["fingerprint"], abs=1e-5) and len(found) == 8
    models.check_fingerprint(other, (1, 28, 28), len(NAMES), None, "a file of before")


def test_by_the_name_of_an_architecture_and_when_it_is_saved_later(written, tmp_path):
    root, made, x = written
    made["float"].save(tmp_path / "later")
    changed = dataclasses.replace(made["float"], model=copy.deepcopy(made["float"].model))
    changed.model[-1].bias.data += 1
    with refused("weights have changed since the report was made: write a report of them"):
        changed.save(tmp_path / "changed")
    assert not (tmp_path / "changed").exists()
    arch = "own_model:network"
    for folder in (root / "float", tmp_path / "later"):
        assert torch.allclose(Checkpoint.from_pretrained(folder, arch=arch)(x), made["float"].model(x))
    (tmp_path / "other").mkdir()
    state, header = load_file(root / "float" / "model.safetensors"), models.about(root / "float" / "model.safetensors")
    models.save(made["float"].model, tmp_path / "other" / "model.safetensors", header | {"arch": arch})
    assert torch.allclose(Checkpoint.from_pretrained(tmp_path / "other")(x), made["float"].model(x))
    with torch.no_grad():
        state["8.bias"] = state["8.bias"] + 1
    changed = network()
    changed.load_state_dict(state)
    models.save(changed, tmp_path / "other" / "model.safetensors", header)
    with refused("holds other weights than its header names .by their hash.: get it again"):
        Checkpoint.from_pretrained(tmp_path / "other", net=network())


def test_the_report_of_a_finished_folder_keeps_the_time_at_which_the_model_was_made(written, model, parts, monkeypatch):
    root, made, _ = written

    class Later(report.datetime):
        @classmethod
        def now(cls, zone=None):
            return super().now(zone).replace(year=3000)

    monkeypatch.setattr(report, "datetime", Later)
    again = megu.unlearn(model, parts[0], "trouser", classes=NAMES, method="finetune", out=root / "float")
    assert again.report["done"]["time"] == made["float"].report["done"]["time"]


def test_what_its_header_says_is_heeded_by_the_next_request(tmp_path, caplog):
    root, file = write(tmp_path / "photos", ("a", "b", "c")), tmp_path / "model.safetensors"
    net = "net = lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 3))"
    (tmp_path / "net.py").write_text(f"from torch import nn\n{net}")
    for classes, mean, said in (("abc", 0.0, ""), ("abc", 0.4, "have mean"), ("acb", 0.0, "order"), ("abz", 0.0, "")):
        models.save(reader(range(3)), file, {"classes": list(classes), "mean": [mean] * 3, "std": [1.0] * 3})
        caplog.clear()
        words = "says that its outputs are .*'c', 'b'.*: give classes in this order"
        with refused(words) if said == "order" else nullcontext():
            check(file, root, "b", arch=f"{tmp_path}/net.py:net")
        assert ("says that its images have mean" in caplog.text) == (said == "have mean")
    save_file(reader(range(3)).state_dict(), file)  # as transformers writes it, which names the classes beside it
    for classes, other in (("abc", False), ("acb", True)):
        (tmp_path / "config.json").write_text(json.dumps({"id2label": {str(k): c for k, c in enumerate(classes)}}))
        with refused(words) if other else nullcontext():
            check(file, root, "b", arch=f"{tmp_path}/net.py:net")


def test_what_cannot_be_read_is_refused(written, tmp_path):
    root = written[0]
    with refused("was made of an nn.Module: give one like it, net=, or an arch"):
        Checkpoint.from_pretrained(root / "float")
    with refused("does not fit net, a Linear .*missing"):
        Checkpoint.from_pretrained(root / "float", net=nn.Linear(2, 2))
    save_file(network().state_dict(), tmp_path / "model.safetensors")
    with refused(
        "nor did `megu unlearn` write its model.safetensors, so it is no checkpoint of megu: use `megu export`"
    ):
        Checkpoint.from_pretrained(tmp_path)
    header = models.about(root / "float" / "model.safetensors") | {"shape": "wide"}
    models.save(network(), tmp_path / "model.safetensors", header)
    with refused("is no config of a checkpoint .shape: Input should be a valid tuple"):
        Checkpoint.from_pretrained(tmp_path, net=network())


def test_hashes_are_made_as_they_are_documented(written):
    root, made, _ = written
    digest = hashlib.sha256()
    for name, x in made["float"].model.state_dict().items():
        digest.update(f"{name} {x.dtype} {tuple(x.shape)}".encode() + x.numpy().astype("<f4").tobytes())
    digest = digest.hexdigest()
    assert digest == made["float"].report["done"]["model"]["sha256_after"]
    assert digest == models.about(root / "float" / "model.safetensors")["weights"]


@pytest.fixture
def earlier(model):
    """A model that names no bag any more."""
    other = copy.deepcopy(model)
    other[-1].bias.data[NAMES.index("bag")] -= 1000
    return other


def test_a_class_that_was_forgotten_before_and_stays_is_said_to_be_learnt_again(model, earlier, parts):
    found = forget(earlier, parts, "trouser", method="finetune", settings={"recipe.epochs": 1})
    assert any(SAID in line and "[..., 'bag']" in line for line in found.report["done"]["notices"])
    single = forget(earlier, parts, [0, 1], method="finetune", settings={"recipe.epochs": 1}).report["done"]["notices"]
    assert any(SAID in line and "cut off its output first" in line and "[...," not in line for line in single)
    control = forget(model, parts, "trouser", method="finetune", settings={"recipe.epochs": 1})
    assert not any("than chance would" in line for line in control.report["done"]["notices"])


@pytest.mark.parametrize(("blind", "mistakes"), [(None, 0), (9, 0), (9, 90), (None, 90)])
def test_of_many_classes_more_images_are_looked_at_before_one_is_said_to_be_unknown(blind, mistakes, caplog):
    """Of a thousand classes the first look is at two images of each; images of others may be given the name."""
    y = torch.arange(1000).repeat_interleave(30)
    answers = y.where(torch.rand(len(y), generator=torch.manual_seed(0)) > 0.03, (y + 1) % 1000)
    answers = answers.where(answers != (blind or -1), 0)
    answers[600 : 600 + 10 * mistakes : 10] = 9
    x, names = answers.float().view(-1, 1, 1, 1), tuple(map(str, range(1000)))
    images = Images("many", x, y, y, names, names, len(y), torch.zeros(1), torch.ones(1))
    model = nn.Embedding.from_pretrained(torch.eye(1000))
    model.forward = lambda x: model.weight[x.flatten().long()]
    settings = SimpleNamespace(forget=SimpleNamespace(scenario="class", classes=("0",)))
    check_known(SimpleNamespace(images=images, split=split_of(images, y == 0), settings=settings, original=model))
    assert ("names 0 of 30 of '9' right" in caplog.text) == ("than chance would" in caplog.text) == (blind == 9)


def test_it_is_asked_for_again_beside_the_next_and_stays_forgotten(earlier, parts):
    found = forget(earlier, parts, ["trouser", "bag"])
    notices = found.report["done"]["notices"]
    assert any("the name 'bag'" in line and "stays among what is forgotten" in line for line in notices)
    assert not any(SAID in line for line in notices)
    assert found.report["asked"]["names"] == ["trouser", "bag"]
    x, y = parts[0].tensors
    of_bag = x[y == NAMES.index("bag")]
    assert (found.model(of_bag).argmax(1) == NAMES.index("bag")).float().mean() < 0.05
    assert column(found, "after")["acc_forget_train"] < column(found, "before")["acc_forget_train"]
    with refused("the name 'bag' to 0 of .* cannot forget it; check the order"):
        forget(earlier, parts, "bag")


def test_where_its_output_is_cut_off_single_images_are_forgotten_and_the_class_is_not_learnt_again(model, parts):
    bag, state = NAMES.index("bag"), copy.deepcopy(model.state_dict())
    keep = [k for k in range(10) if k != bag]
    for part in ("8.weight", "8.bias"):
        state[part] = state[part][keep].contiguous()
    cut = network(9)
    cut.load_state_dict(state)
    left = [(d.tensors[0][d.tensors[1] != bag], d.tensors[1][d.tensors[1] != bag]) for d in parts]
    train, test = (TensorDataset(x, y - (y > bag).long()) for x, y in left)
    how = {"classes": [NAMES[k] for k in keep], "method": "finetune", "settings": {"recipe.epochs": 1}}
    found = forget(cut.eval(), (train, test), [0, 1], **how)
    assert found.model(train[0][0][None]).shape == (1, 9) and found.report["asked"]["images"] == 2
    assert not any("than chance would" in line for line in found.report["done"]["notices"])


def test_the_moments_of_data_are_those_of_the_training_images(parts):
    given = [TensorDataset((255 * d.tensors[0]).round().byte(), d.tensors[1]) for d in parts]
    darker = TensorDataset(given[1].tensors[0] // 2, given[1].tensors[1])
    x = given[0].tensors[0].double() / 255
    for test in (given[1], darker, None):
        images = pool_parts("given", NAMES, *(as_part(one) for one in (given[0], test)), "data", "cpu")
        assert images.mean.item() == pytest.approx(x.mean().item(), abs=1e-6)
        assert images.std.item() == pytest.approx(x.std().item(), abs=1e-5)


def as_part(data):
    return data and ImagePart(*data.tensors, None, tuple(range(len(data))))


def test_notices_of_a_report_name_no_image(model, parts, caplog):
    x, y = parts[0].tensors
    twice = TensorDataset(torch.cat([x, x[:1]]), torch.cat([y, y[:1]]))
    how = {"method": "finetune", "settings": {"recipe.epochs": 1}, "duplicates": "keep"}
    said = forget(model, (twice, parts[1]), [0, 1], **how).report["done"]["notices"]
    assert "0 is an image of" in caplog.text and "(400 = 0)" in caplog.text
    assert any("1 retained images have the pixels" in line for line in said)
    assert not any("0 is an image of" in line or "400 = 0" in line for line in said)
