"""A request after another: what was forgotten before is not learnt again in silence, and may be asked for again."""

import copy

import pytest
import torch
from own_model import NAMES, column, forget
from refusals import refused

SAID = "the model names no image 'bag'"


@pytest.fixture
def earlier(model):
    """A model that names no bag any more."""
    other = copy.deepcopy(model)
    other[-1].bias.data[NAMES.index("bag")] -= 1000
    return other


def test_a_class_that_was_forgotten_before_and_stays_is_said_to_be_learnt_again(model, earlier, parts):
    found = forget(earlier, parts, "trouser", method="finetune", settings={"recipe.epochs": 1})
    assert any(SAID in line and "[..., 'bag']" in line for line in found.report["done"]["notices"])
    control = forget(model, parts, "trouser", method="finetune", settings={"recipe.epochs": 1})
    assert not any("names no image" in line for line in control.report["done"]["notices"])


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


def test_notices_of_a_report_name_no_image(model, parts, caplog):
    x, y = parts[0].tensors
    twice = torch.utils.data.TensorDataset(torch.cat([x, x[:1]]), torch.cat([y, y[:1]]))
    how = {"method": "finetune", "settings": {"recipe.epochs": 1}, "duplicates": "keep"}
    said = forget(model, (twice, parts[1]), [0, 1], **how).report["done"]["notices"]
    assert "0 is an image of" in caplog.text and "(400 = 0)" in caplog.text
    assert any("1 retained images have the pixels" in line for line in said)
    assert not any("0 is an image of" in line or "400 = 0" in line for line in said)
