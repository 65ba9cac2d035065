"""Every method on a user's own request: a table, a picture, a choice with its reasons."""

import copy
import dataclasses
import re
import time

import pandas as pd
import pytest
from own_model import NAMES, files_of
from pixels import as_dataset, reader
from refusals import refused
from typer.testing import CliRunner

import megu
from megu import methods
from megu.cli.main import app
from megu.core.train import DivergedError
from megu.figures import deletion
from megu.methods import METHODS
from megu.methods.task import Task
from megu.own import guide_choice, report
from megu.own.compare import front, recommend
from megu.settings.errors import SettingsError, StageError, WorkError

THREE = ["finetune", "ssd", "megu"]


def compare(model, parts, out, **more):
    usual = {"test": parts[1], "classes": NAMES, "guide": "model", "methods": THREE}
    return megu.compare(model, parts[0], "trouser", out=out, **{**usual, **more})


@pytest.fixture(scope="module")
def compared(model, parts, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    return compare(model, parts, out), out


def test_methods_stand_side_by_side(compared):
    found, out = compared
    table = pd.read_csv(out / "comparison.csv")
    assert (
        list(table) == "method metric value low high interval goal images".split()
        and not table.duplicated(["method", "metric"]).any()
    )
    ends = table.dropna(subset="low").groupby("metric")["interval"].unique().explode()
    assert {ends[name] for name in ends.index if name.startswith("mia")} == {98.3} and ends["acc_retain_test"] == 95
    wide = table.pivot(index="metric", columns="method", values="value")
    assert set(wide) == {"original", *THREE} and found.recommended in THREE and not found.failed
    assert wide.loc["acc_forget_train", "finetune"] < wide.loc["acc_forget_train", "original"]
    assert (
        wide.loc[["acc_retain_test", "mia_loss_auc", "check_held_out", "score", "seconds"], THREE]
        .notna()
        .to_numpy()
        .all()
    )
    page = (out / "comparison.html").read_text()
    assert all(methods.METHODS[name].title in page for name in THREE) and found.reasons[0].split(";")[0] in page
    assert page.count("<svg") == 1 and not re.search(r"(src|href)\s*=\s*[\"'](?!#)", page.replace("xlink:href", "href"))
    assert all((out / name / "report.html").exists() for name in THREE)
    assert not any("it is not used" in (out / name / "report.json").read_text() for name in THREE)


def test_a_comparison_goes_on_where_it_stopped(compared, model, parts, monkeypatch):
    found, out = compared
    monkeypatch.setattr(Task, "train_on", lambda *_, **__: pytest.fail("trained again"))
    again = compare(model, parts, out)
    own = "metric not in ['seconds']"
    assert again.table.query(own).equals(found.table.query(own)) and again.recommended == found.recommended
    with pytest.raises(StageError, match="seed was 0, is 1"):
        compare(model, parts, out, seed=1)


def test_a_method_that_fails_does_not_stop_the_others(model, parts, tmp_path, monkeypatch):
    def diverges(task, settings):
        raise DivergedError("the loss is inf")

    null = dataclasses.replace(methods.METHODS["ssd"], unlearn=lambda task, settings: copy.deepcopy(task.original))
    monkeypatch.setitem(methods.METHODS, "ssd", null)
    monkeypatch.setitem(methods.METHODS, "finetune", dataclasses.replace(methods.METHODS["finetune"], unlearn=diverges))
    found = compare(model, parts, tmp_path / "some", methods=["finetune", "ssd"])
    assert found.recommended == "ssd" and "the loss is inf" in found.failed["finetune"]
    assert any("No method comes near enough" in reason for reason in found.reasons)
    assert "gave no model" in (tmp_path / "some" / "comparison.html").read_text()
    with pytest.raises(
        StageError, match="forget.images is another"
    ):  # none of these asked a guide, or made a reference
        megu.compare(model, parts[0], "shirt", out=tmp_path / "some", classes=NAMES, methods=["amnesiac"])
    with pytest.raises(WorkError, match="no method gave a model: finetune.*the loss is inf"):
        compare(model, parts, tmp_path / "none", methods=["finetune"])


@pytest.mark.parametrize(("more", "said"), [
    ({"methods": ["retrain"]}, "'retrain' is what unlearning is compared with"),
    ({"methods": ["megoo"]}, "did you mean 'megu'"), ({"methods": []}, "method.* give a name, to compare a list"),
    ({"method": "megu"}, "name what to compare by methods"),
    ({"settings": {"recipe.lr": 0.1}}, "'recipe.lr' is of one method"),
    ({"forget": "trousers"}, "did you mean 'trouser'"),
])  # fmt: skip
def test_a_wrong_comparison_is_refused_before_any_work(model, parts, tmp_path, more, said):
    what = more.pop("forget", "trouser")
    with pytest.raises(SettingsError, match=said):
        megu.compare(model, parts[0], what, out=tmp_path / "out", **{"classes": NAMES, **more})
    assert not (tmp_path / "out").exists()


def test_a_method_that_needs_a_whole_class_is_refused_for_single_images(model, parts, tmp_path):
    with refused("'unsir' forgets whole classes or sub-classes, and single images are asked for: choose another"):
        megu.unlearn(model, parts[0], range(20), classes=NAMES, method="unsir", dry_run=True)
    with pytest.raises(SettingsError, match="'unsir' does not fit, as single images are asked for: choose"):
        megu.compare(model, parts[0], range(20), out=tmp_path, classes=NAMES, methods=["finetune", "unsir"])


@pytest.fixture
def command(model, parts, tmp_path):
    """``megu compare`` on files, without what is asked and where it goes."""
    root = files_of(model, parts, tmp_path)
    words = f"compare --model {root}/model.safetensors --arch own_model:network --data {root}/photos"
    return [*words.split(), *f"--normalise unit --guide model --classes {root}/names.txt".split()]


@pytest.mark.slow
def test_the_command_compares_in_processes_and_says_what_to_take(command, tmp_path):
    out = tmp_path / "out"
    words = ["--forget", "trouser", "--method", "finetune", "--method", "ssd", "--workers", "2", "--out", str(out)]
    said = CliRunner().invoke(app, [*command, *words])
    assert said.exit_code == 0, said.output
    assert re.search(r"^take     (finetune|ssd)$", said.output, re.M) and "why      " in said.output
    assert {"comparison.csv", "comparison.html", "finetune", "ssd"} <= {path.name for path in out.iterdir()}


def test_the_command_plans_and_refuses(command, model, parts, tmp_path):
    said = CliRunner().invoke(app, [*command, "--forget", "trouser", "--dry-run", "--tune", "2"])
    fit = [name for name, about in METHODS.items() if "class" in about.scenarios and not about.reference]
    assert (
        said.exit_code == 0 and f"{len(fit)} x 3 times an unlearning" in said.output and not (tmp_path / "out").exists()
    )
    with refused("no forget given: add --forget"):
        raise CliRunner().invoke(app, [*command, "--dry-run"]).exception
    with refused("cannot be sent to other processes .*give workers=1, or files"):
        local = copy.deepcopy(model)
        local.hook = lambda x: x
        compare(local, parts, tmp_path, workers=2)
    for wrong in (0, True, 2.0, "2", pd.Series([1, 1])):
        with refused("workers is .*: give how many processes, at least 1"):
            compare(local, parts, tmp_path, workers=wrong)


def test_the_command_reads_and_writes_the_request(command, tmp_path):
    file = str(tmp_path / "request.toml")
    words = ["--forget", "trouser", "--method", "finetune", "--method", "ssd", "--seed", "3", "--save-config", file]
    first = CliRunner().invoke(app, [*command, *words, "--dry-run"])
    assert first.exit_code == 0 and 'method = ["finetune", "ssd"]' in (tmp_path / "request.toml").read_text()
    again = CliRunner().invoke(app, ["compare", "--config", file, "--dry-run"])
    assert again.output == first.output and "methods  finetune, ssd\n" in again.output
    other = CliRunner().invoke(app, ["compare", "--config", file, "--method", "unsir", "--retrain", "--dry-run"])
    assert "methods  unsir\nwork     1 x 1 times an unlearning, and once its retraining, 10 epochs" in other.output
    with refused("method is .'finetune', 'ssd'.: give one name, or compare several"):
        raise CliRunner().invoke(app, ["unlearn", "--config", file, "--dry-run"]).exception
    with refused("no out given: add --out"):
        raise CliRunner().invoke(app, ["compare", "--config", file]).exception
    with refused("out is None: say which folder"):
        megu.compare(config=file)


def test_the_reference_is_retrained_once_for_all_methods(model, parts, tmp_path, monkeypatch, caplog):
    trained, retrain = [], METHODS["retrain"].unlearn

    def counted(task, settings):
        trained.append(task.seed)
        return retrain(task, settings)

    monkeypatch.setitem(METHODS, "retrain", dataclasses.replace(METHODS["retrain"], unlearn=counted))
    settings = {"training.epochs": 12, "training.lr": 0.1, "training.batch": 32}
    found = compare(model, parts, tmp_path, methods=["finetune", "ssd"], retrain=True, settings=settings)
    assert trained == [0] and (tmp_path / "reference.safetensors").exists() and "of a guide" not in caplog.text
    facts = {name: report.read(tmp_path / name) for name in ("finetune", "ssd")}
    rows = [[row for row in one["accuracy"] if row["model"] == "reference"] for one in facts.values()]
    assert rows[0] == rows[1] and len(rows[0]) == 4
    alone = megu.unlearn(model, parts[0], "trouser", test=parts[1], classes=NAMES, method="ssd", retrain=True,
                         settings=settings)  # fmt: skip
    assert [row for row in alone.report["accuracy"] if row["model"] == "reference"] == rows[0]
    goals = found.table.query("metric == 'check_held_out'")
    assert goals["goal"].nunique() == 1 and goals["goal"].iloc[0] < 100
    seconds = found.table.query("metric == 'seconds'").set_index("method")["value"]
    for name, one in facts.items():  # retraining is no method's time
        assert seconds[name] + one["done"]["seconds"]["retraining"] < sum(one["done"]["seconds"].values())
    with pytest.raises(StageError, match=r"retrain.epochs was 12, is 13"):
        compare(model, parts, tmp_path, methods=["ssd"], retrain=True, settings={**settings, "training.epochs": 13})


def facts(title, score, seconds, forget=0.0, held=90.0, lost=None, word="forgotten"):
    part = {"images": 400, "before": 90.0, "goal": 90.0}
    parts = {"forget": {**part, "after": forget, "goal": 0.0}, "fine_tuned": {**part, "after": 90.0}}
    check = {"score": score, "parts": {**parts, "held_out": {**part, "after": held}}}
    done = {"title": title, "check": check, "seconds": {"fine-tuning": seconds, "evaluation": 1000.0}}
    row = {"than": "before", "part": lost, "class": "ape", "images": 9, "right": 0, "right_by_other": 9, "surely": True}
    named = {"lost": [row] if lost else [], "left": [], "verdict": {"word": word, "than": "before", "limits": [DOUBT]}}
    return {"done": done, **named}


DOUBT = "The reference is in doubt: it names the retained training images worse."
GOOD, QUICK, LEAVES, RUINS = (
    facts("Good", 0.99, 9.0), facts("Quick", 0.98, 2.0), facts("Leaves", 0.88, 1.0, forget=12.0),
    facts("Ruins", 0.6, 1.0, held=60.0),
)  # fmt: skip


@pytest.mark.parametrize(("given", "best", "said"), [
    ([GOOD, LEAVES, RUINS], "Good", "Its score is 0.990 of 1. 1 of 3 methods"),
    ([GOOD, facts("Poor", 0.94, 1.0), LEAVES], "Good", "is 0.990 of 1, the largest of the 2 in question by more than"),
    ([GOOD, QUICK, LEAVES], "Quick", "not told apart from that of Good"),
    ([facts("Best", 0.999, 3.0, forget=12.0), RUINS, QUICK], "Quick", "1 of 3 methods come within"),
    ([LEAVES, RUINS], "Leaves", "No method comes near enough to its goals"),
    ([GOOD, facts("Loses", 0.999, 1.0, lost="retain")], "Good", "1 of 2 methods come within"),
    ([facts("Alone", 0.999, 1.0, lost="retain")], "Alone", "lost: of 'ape' 0 of 9 retained training images are named"),
    ([GOOD, facts("Test", 0.999, 1.0, lost="test_retain", word="forgotten, model damaged")], "Test", "model damaged."),
])  # fmt: skip
def test_the_choice_follows_its_rule(given, best, said):
    name, reasons = recommend({one["done"]["title"].lower(): one for one in given})
    assert name == best.lower() and said in " ".join(reasons)
    assert reasons[0].startswith(best) and "test images had no part" in reasons[-2] and reasons[-3] == DOUBT


def test_few_images_and_the_time_of_the_guide(tmp_path, monkeypatch):
    """Of fewer than ten images of each class none is held out; a guide is asked once, by the job before the methods."""
    chosen = guide_choice._chosen

    def asked(checked, path):
        time.sleep(0 if (tmp_path / "megu").exists() else 1)
        return chosen(checked, path)

    monkeypatch.setattr(guide_choice, "_chosen", asked)
    given = {"out": tmp_path, "methods": ["megu", "ssd"], "guide": "model", "test": as_dataset(seed=1)}
    found = megu.compare(reader(range(4)), as_dataset(), "1", normalise="unit", **given)
    assert "held out" not in found.reasons[0] and "no image is held out" in (tmp_path / "comparison.html").read_text()
    seconds = found.table.query("metric == 'seconds'").set_index("method")["value"]
    spent = {name: report.read(tmp_path / name)["done"]["seconds"] for name in ("megu", "ssd")}
    own = {name: sum(parts.values()) - parts["reading"] - parts["evaluation"] for name, parts in spent.items()}
    assert seconds["megu"] > own["megu"] + 0.9 and seconds["ssd"] < own["ssd"] + 0.01
    with pytest.raises(StageError, match="normalise was .*, is "):
        megu.compare(reader(range(4)), as_dataset(), "1", normalise="half", **given)


def test_the_front_holds_what_no_other_beats():
    table = pd.DataFrame({"forget": [0, 5, 5, 9, 0], "retain": [5, 1, 2, 1, 5]})
    assert front(table) == [True, True, False, False, True]
    rows = [{"title": str(i), "forget": 1.0, "retain": 2.0, "front": True, "recommended": not i} for i in range(3)]
    assert "recommended" in deletion.pareto(rows)
