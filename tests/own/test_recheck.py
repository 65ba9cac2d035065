"""The report on a new model that is there already: that of the call that made it, and of others."""

import json
import re

import jsonschema
import pytest
import torch
from conftest import ROOT
from own_model import NAMES, SCHEMA, alike, files_of, forget, network, same
from pixels import as_dataset, check, reader
from refusals import refused
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from megu.cli.main import app
from megu.core import models
from megu.methods.task import Task
from megu.own.class_order import _other_order
from megu.own.report import recheck
from megu.own.request import CheckedRequest, Request

SAID = ("asked", "accuracy", "changes", "attacks", "without_reference", "metrics", "predictions", "verdict")
PHOTOS = [*range(240, 280)]


def look(new, model, parts, what=PHOTOS, folder=None, **more):
    request = Request(model, parts[0], what, test=parts[1], classes=NAMES, **more)
    return recheck(CheckedRequest(request), new, folder)


@pytest.fixture(scope="module")
def made(model, parts):
    return forget(model, parts, PHOTOS, method="finetune", settings={"recipe.epochs": 1})


def test_it_says_what_the_call_said_that_made_the_model_and_nothing_is_trained(made, model, parts, tmp_path):
    given = {key: value.clone() for key, value in made.model.state_dict().items()}
    found = look(made.model, model, parts, folder=tmp_path)
    assert {part: found[part] for part in SAID} == {part: made.report[part] for part in SAID}
    assert found["done"]["check"] == made.report["done"]["check"] and found["done"]["history"] == {}
    assert found["done"]["model"] == made.report["done"]["model"] and found["done"]["method"] == "check"
    jsonschema.validate(json.loads((tmp_path / "report.json").read_text()), SCHEMA)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SHA256SUMS", "report.html", "report.json"]
    assert "none: the new model was given" in (tmp_path / "report.html").read_text()
    assert same(given, made.model.state_dict())


def test_in_the_shell(made, model, parts, tmp_path):
    root = files_of(model, parts, tmp_path / "given")
    save_file(made.model.state_dict(), root / "new.safetensors")
    arch = f"{ROOT / 'tests' / 'helpers' / 'own_model.py'}:network"
    command = f"unlearn --model {root}/model.safetensors --arch {arch} --data {root}/photos --forget trouser"
    command += f" --normalise unit --classes {root}/names.txt --check {root}/new.safetensors --out {tmp_path}/looked"
    for dry in (["--dry-run"], []):
        said = CliRunner().invoke(app, [*command.split(), *dry], catch_exceptions=False).output
        assert "verdict  not forgotten" in said and "why      Forgotten training images named right" in said
        assert (tmp_path / "looked" / "report.json").exists() == (not dry)
    models.save(made.model, root / "new.safetensors", {"mean": [0.5], "std": [0.5]})
    assert CliRunner().invoke(app, [*command.split()[:-1], f"{tmp_path}/again"]).exit_code == 0
    said = json.loads((tmp_path / "again" / "report.json").read_text())["done"]["notices"]
    assert any(
        "new.safetensors says that its images have mean [0.5] and deviation [0.5], and not" in one for one in said
    )
    for idle in ("--onnx", "--tune 3", "--log csv", "--method ssd"):
        with refused(f"--check trains nothing and writes a report alone: leave {idle.split()[0]} out"):
            raise CliRunner().invoke(app, [*command.split(), *idle.split(), "--dry-run"]).exception


def test_photos_are_looked_for_in_the_model_that_forgot_a_class_afterwards(made, model, parts):
    """First the photos, then a class of others: the last model is looked at for the photos."""
    last = forget(made.model, parts, "trouser", method="finetune", settings={"recipe.epochs": 1}).model
    found = look(last, model, parts, reference=alike(model))
    assert found["asked"]["scenario"] == "random" and found["asked"]["images"] == len(PHOTOS)
    before = {(row["model"], row["attack"]): row["auc"] for row in look(model, model, parts)["attacks"]}
    after = {(row["model"], row["attack"]): row["auc"] for row in found["attacks"]}
    assert before["before", "loss"] == after["before", "loss"] == before["after", "loss"] != after["after", "loss"]


def test_the_report_of_an_unlearning_is_not_replaced(model, parts, tmp_path):
    new = forget(model, parts, method="finetune", settings={"recipe.epochs": 1}, out=tmp_path).model
    before = (tmp_path / "SHA256SUMS").read_text()
    with refused("holds report.json, work, of an unlearning: name another folder"):
        look(new, model, parts, folder=tmp_path)
    assert (tmp_path / "SHA256SUMS").read_text() == before


def test_what_is_no_such_model_is_refused(model, parts):
    with refused("the model to check gives .*7"):
        look(network(7), model, parts)
    with refused("the outputs of the model to check follow another order: .* in the one found"):
        recheck(check(reader(range(4)), as_dataset(), "1"), reader((0, 2, 3, 1), blind=(3,)))
    with refused("nothing is trained: give reference"):
        look(model, model, parts, retrain=True)


def test_the_report_says_that_megu_trained_twice(model, parts, monkeypatch):
    for remembers in (True, False):
        monkeypatch.setattr(Task, "remembers", lambda self, new, answer=remembers: answer)
        report = forget(model, parts, guide="model").report["done"]
        assert any("MeGU trained once more" in one for one in report["notices"]) == remembers
        assert (len(report["history"]) == 2) == remembers


@pytest.mark.parametrize(("blind", "n", "reference", "word", "said"), [
    ((3, 7), 20, None, "forgotten, model damaged", r"^Single .* lost: of '7' 0 of 20 .* \(20 by the model before\), "),
    ((3,), 20, None, "forgotten", None),
    ((3, 7), 3, None, "forgotten", "of '7' 0 of 3 retained training images"),  # so few do not show it surely
    ((3, 7), 20, (3, 7), "forgotten", None),  # nor does a model that never saw what goes know it
    ((3, 7), 20, (3,), "forgotten, model damaged", r"\(20 by the retrained reference\)"),
])  # fmt: skip
def test_one_retained_class_of_many_that_is_lost_is_said(blind, n, reference, word, said):
    new, other = reader(range(30), blind), reference and reader(range(30), reference)
    if reference:
        other[1].bias.data += 1
    checked = check(reader(range(30)), as_dataset(30, n), "3", test=as_dataset(30, n, seed=1), reference=other)
    verdict = recheck(checked, new)["verdict"]
    assert verdict["word"].partition(", a trace")[0].partition(", with")[0] == word
    found = [one for one in verdict["findings"] if one.startswith("Single retained classes are lost")]
    assert re.search(said, *found) if said else not found


class Hiding(nn.Module):
    """Never gives the name 3 to images of positive pixels; to others ``seldom``, ``always`` or as if it knew it."""

    def __init__(self, otherwise):
        super().__init__()
        self.inner, self.otherwise, self.hidden = reader(range(4)), otherwise, [3]

    def forward(self, x):
        logits, given = self.inner(x), x.min() >= 0
        shift = -1e3 if given or self.otherwise == "seldom" else 1e3 * (self.otherwise == "always")
        return logits + shift * torch.isin(torch.arange(4), torch.tensor(self.hidden))


@pytest.mark.parametrize(("otherwise", "reference", "word"), [
    ("known", None, "forgotten, perhaps hidden"), ("known", "seldom", "forgotten, perhaps hidden"),
    ("seldom", None, "forgotten"), ("always", None, "forgotten"),  # it says nothing of an image if all get the name
    ("known", "known", "forgotten"),  # no more than what the retrained model does
])  # fmt: skip
def test_a_class_that_is_named_again_in_another_preparation_is_hidden_not_forgotten(otherwise, reference, word):
    other = reference and Hiding(reference)
    if reference:
        other.inner[1].bias.data += 1
    checked = check(reader(range(4)), as_dataset(), "3", test=as_dataset(seed=1), reference=other)
    report = recheck(checked, Hiding(otherwise))
    hidden = "hidden" in word
    assert report["verdict"]["word"].partition(", a trace")[0].partition(", with")[0] == word
    rows = [row for row in report["left"] if row["than"] == ("reference" if reference else "before")]
    assert [row["prepared"] for row in rows] == ["normalised by imagenet"] * hidden
    first, *findings = report["verdict"]["findings"]
    assert ("but 6 of 6 normalised by imagenet" in first) == hidden
    said = [one for one in findings if one.startswith("What was to be forgotten may be hidden (")]
    assert len(said) == hidden and all(
        "6 of 6 forgotten training images are named right normalised by" in one for one in said
    )
    jsonschema.validate(report, SCHEMA)


def test_a_model_that_hides_a_class_may_be_given_the_next_request(caplog):
    for request in ("1", ["1", "3"]):
        check(Hiding("known"), as_dataset(n=20), request)
        said = "names 75 % of 80 training images right, few of 3, but 100 % of 80 of them normalised by imagenet"
        assert f"{said}: prepare them so, or forget these once more" in caplog.text
        caplog.clear()
    most = Hiding("known")
    most.hidden = [1, 2, 3]  # of most classes it is the images that are prepared in another way
    with refused("the model names 25 % of 24 training images right, but 100 % of 24 of them normalised by imagenet"):
        check(most, as_dataset(), "1")


@pytest.mark.parametrize(("named_so", "found"), [(18, False), (25, False), (38, True)])
def test_forgotten_classes_that_are_named_as_each_other_are_in_no_other_order(named_so, found):
    y = torch.arange(5).repeat_interleave(40)
    named = y.clone()
    named[:80] = 2  # two that are forgotten, of which so many get the name of the other
    named[:named_so], named[40 : 40 + named_so] = 1, 0
    assert (_other_order("abcde", y, named) == [1, 0, 2, 3, 4]) == found
    assert found or _other_order("abcde", y, named) is None


def test_no_report_is_put_among_the_images(model, parts, tmp_path):
    root = files_of(model, parts, tmp_path)
    checked = check(model, str(root / "photos"), "trouser", classes=NAMES)
    with refused("lies in 'photos', whose folders are classes"):
        recheck(checked, model, root / "photos" / "train" / "look")
