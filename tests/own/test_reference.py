"""Requests whose verdict is known: nothing changed, all ruined; and the reference that is made on request."""

import copy
import re
from unittest.mock import patch

import pytest
import torch
from own_model import NAMES, alike, column, forget, network
from pixels import as_dataset, check, reader
from refusals import refused
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Subset

from megu.core import models
from megu.own.estimate import plan
from megu.own.request import CheckedRequest, Request
from megu.own.unlearn import Unlearned


def test_a_method_that_changes_nothing_and_one_that_ruins_the_model_have_their_words(model, parts):
    still = forget(model, parts, range(240, 280), method="finetune", settings={"recipe.lr": 1e-12}).report["verdict"]
    assert still["word"] == "cannot be told with 100 unseen images" or still["parts"]["trace"] == "trace"
    ruined = forget(model, parts, "shirt", method="amnesiac", settings={"recipe.lr": 0.5, "recipe.batch": 32}).report[
        "verdict"
    ]
    assert ruined["word"].startswith("forgotten, model ruined")
    assert "test images of what is retained named right" in ruined["findings"][0]  # the shell's first line


def test_the_reference_is_made_on_request_from_retained_images_alone(model, parts, tmp_path, caplog):
    more = {"method": "finetune", "retrain": True, "out": tmp_path}
    settings = {"recipe.epochs": 1, "training.epochs": 12, "training.lr": 0.1, "training.batch": 32}
    request = Request(model, parts[0], "trouser", test=parts[1], classes=NAMES, retrain=True, settings=settings)
    planned = plan(CheckedRequest(request))
    assert planned.lines["retrain"] == "the reference, 12 epochs on 360 images" and planned.seconds["retraining"] > 0
    result = forget(model, parts, settings=settings, **more)
    acc = {(row["model"], row["part"]): row["percent"] for row in result.report["accuracy"]}
    assert acc["reference", "forget"] == 0 and acc["reference", "retain"] > 40
    assert set(result.report["files"]) == {"model.safetensors", "reference.safetensors"}
    how = "the reference is retrained from new weights, 12 epochs of batches of 32, learning rate 0.1"
    assert re.search(f"{re.escape(how)}, which takes (about [0-9]|under 1 s)", caplog.text)
    assert how in result.report["done"]["notices"], "without the time, which is another each time"
    assert result.seconds["retraining"] > 0 and column(result, "after")["js_retrain"] > 0
    again = network()
    again.load_state_dict(load_file(tmp_path / "reference.safetensors"))
    given = forget(model, parts, settings=settings, method="finetune", reference=again).report
    assert given["accuracy"] == result.report["accuracy"]
    with refused("retrain and reference are both given"):
        forget(model, parts, reference=again, settings=settings, **more)


@pytest.mark.parametrize("make", [
    lambda model: copy.deepcopy(model).half(), lambda model: nn.Sequential(copy.deepcopy(model)).bfloat16(),
])  # fmt: skip
def test_the_model_itself_under_other_names_and_rounded_is_no_reference(make, model, parts):
    with refused("reference has the weights of the model itself"):
        CheckedRequest(Request(model, parts[0], range(20), classes=NAMES, reference=make(model)))


def test_a_reference_of_another_architecture_is_said_to_be_one(model, parts):
    other = network()
    other[3], other[8] = nn.Conv2d(16, 8, 5, 2), nn.Linear(32, 10)
    for reference, said in ((other, True), (alike(model), False)):
        given = Request(model, parts[0], "trouser", classes=NAMES, test=parts[1], reference=reference)
        notices = str(CheckedRequest(given).notices)
        assert ("the reference is of another architecture" in notices) == said


@pytest.mark.parametrize(("order", "said"), [
    ((0, 2, 3, 1), "the outputs of reference follow another order: 33 % of 18 retained images are named right in tha"),
    ((0, 2, 3), "reference gives .8, 3. for 8 images of 4 classes: train it with as many outputs as the model"),
])  # fmt: skip
def test_a_reference_that_was_trained_without_the_folder_of_the_class(order, said):
    with refused(said):
        check(reader(range(4)), as_dataset(), "1", reference=reader(order, blind=(3,)))
    check(reader(range(4)), as_dataset(), "1", reference=reader(range(4), blind=(1,)))


def test_the_new_model_itself_is_no_reference(model, parts):
    brief = {"method": "finetune", "settings": {"recipe.epochs": 1}}
    new = forget(model, parts, **brief).model
    with refused("reference has the weights of the new model, by which it would be measured: give a model retrained"):
        forget(model, parts, reference=new, **brief)


class Empty(nn.Sequential):
    """Counts as false: its length is that of a list of its own."""

    def __len__(self):
        return 0


def test_a_reference_that_counts_as_false_is_looked_at(model, parts, tmp_path):
    with refused("the outputs of reference follow another order"):
        check(reader(range(4)), as_dataset(), "1", reference=Empty(reader((0, 2, 3, 1), blind=(3,))))
    assert not Empty(*alike(model))
    brief = {"method": "finetune", "settings": {"recipe.epochs": 1}}
    found = forget(model, parts, reference=Empty(*alike(model)), out=tmp_path / "out", **brief)
    assert "js_retrain" in column(found, "after")


def test_a_reference_that_is_worse_on_retained_images_is_said_to_be_in_doubt(model, parts, caplog):
    poor = network()
    poor.load_state_dict(model.state_dict())
    poor[0].weight.data += 0.45 * torch.randn(poor[0].weight.shape, generator=torch.manual_seed(0))
    for reference, doubtful in ((poor, True), (alike(model), False)):
        caplog.clear()
        found = forget(model, parts, range(20), method="finetune", reference=reference, settings={"recipe.epochs": 1})
        limits = " ".join(found.report["verdict"]["limits"])
        assert ("reference is in doubt: it names the" in limits) == doubtful == ("is in doubt" in caplog.text)


def test_a_reference_that_knows_a_small_one_of_two_classes_is_no_measure(model, parts):
    (x, y), (trouser, bag) = parts[0].tensors, map(NAMES.index, ("trouser", "bag"))
    rare = (y == bag).nonzero()[8:, 0].tolist()  # as of the request before, that did not ask for it
    train = Subset(parts[0], [i for i in range(len(x)) if i not in rare])
    seen = copy.deepcopy(model)
    seen[-1].bias.data[trouser] = -100.0
    settings = {"recipe.epochs": 1, "recipe.lr": 1e-6}  # keeps what was to go
    found = forget(model, (train, parts[1]), ["trouser", "bag"], reference=seen, method="finetune", settings=settings)
    said = found.report["verdict"]
    assert any("names images of bag right, which a model that never saw" in limit for limit in said["limits"])
    assert said["than"] == "before" and said["parts"]["forgetting"] in ("partly", "not forgotten")
    assert found.report["done"]["check"]["parts"]["forget"]["goal"] == 0


def test_a_reference_without_the_whole_class_is_no_measure_for_single_images_of_it():
    given = reader(range(4)), as_dataset(n=30), list(range(10))
    blind = "reference names 0 of 20 retained training images of '0' right, the model 20, as if the class had been"
    with refused(blind):
        check(*given, reference=reader(range(4), blind=(0,)))
    assert check(*given, reference=reader(range(4), blind=(1,))), "the control"
    few = check(reader(range(4)), as_dataset(n=60), list(range(40)), reference=reader(range(4), blind=(0,))).notices
    assert any("names 0 of 20 retained" in line and "few beside those of other classes" in line for line in few)


def test_the_reference_that_was_made_is_saved_with_the_report(model, parts, tmp_path):
    settings = {"recipe.epochs": 1, "training.epochs": 2, "training.batch": 32}
    asked = {"method": "finetune", "retrain": True, "settings": settings, "out": tmp_path / "out"}
    with patch("megu.own.unlearn.measure", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        forget(model, parts, **asked)
    found = forget(model, parts, **asked)  # goes on; what was said before is reported all the same
    assert "retrained from new weights, 2 epochs" in str(found.report["done"]["notices"])
    found.save(tmp_path / "saved")
    there = {path.name for path in (tmp_path / "saved").iterdir()}
    assert there == {"SHA256SUMS", "model.safetensors", "reference.safetensors", "report.html", "report.json"}
    assert models.about(tmp_path / "saved" / "reference.safetensors")["method"] == "retrain"
    assert "reference.safetensors" in (tmp_path / "saved" / "SHA256SUMS").read_text()
    found.model[-1].bias.data += 1
    for write in (Unlearned.save, Unlearned.write_onnx):
        with refused("the weights have changed since the report was made"):
            write(found, tmp_path / "again")
