"""Around a request: its plan, what callbacks hear, one file for everything, and where the numbers go."""

import csv
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from conftest import needs_weights
from own_model import NAMES, QUICK, files_of, forget
from PIL import Image
from refusals import refused
from safetensors.torch import save_file

import megu
from megu.cli import main as command
from megu.core.loading import weights_digest
from megu.guide import GuideUnavailableError
from megu.guide.composed import lite0
from megu.measure.count import counting, total
from megu.own import estimate
from megu.runs.loggers import loggers
from megu.settings.errors import StageError


class Told:
    """The stages, epochs and bars of a call."""

    def __init__(self):
        self.stages, self.epochs, self.bars, self.result = [], [], {}, None

    def on_stage(self, stage):
        self.stages.append(stage)

    def on_epoch(self, training, epoch, values):
        self.epochs.append((training, epoch, values["loss"]))

    def on_progress(self, what, done, total):
        self.bars[what] = done, total

    def on_end(self, result):
        self.result = result


def test_callbacks_hear_every_stage_and_epoch_and_change_nothing(model, parts, done):
    told = Told()
    result = forget(model, parts, callbacks=[told])
    assert told.stages == ["reading", "guide", "labels", "noise", "fine-tuning", "check", "evaluation"]
    assert told.epochs == [("MeGU", i, loss) for i, loss in enumerate(result.history["MeGU"], 1)]
    assert told.bars["noise"] == (10, 10) and told.bars["MeGU"] == (33, 33) and told.result is result
    assert weights_digest(result.model) == weights_digest(done.model)


@pytest.mark.slow
def test_the_guides_questions_are_told(model, parts):
    needs_weights(lite0)
    told = Told()
    forget(model, parts, guide="features", callbacks=[told], settings={**QUICK, "guide.exemplars": 1})
    assert (100, 100) in told.bars.values()


def test_a_dry_run_writes_nothing_and_says_what_will_be_done(model, parts, tmp_path, monkeypatch):
    monkeypatch.setattr(megu.own.unlearn, "carry_out", lambda *_: pytest.fail("work began"))
    plan = forget(model, parts, what=[3, 7], dry_run=True, out=tmp_path / "out", log="csv")
    assert list(plan.lines) == ["forget", "retain", "model", "method", "guide", "time"] and str(plan).count("\n") == 5
    assert "single images: 3, 7, 2 of 400" in str(plan) and set(plan.seconds) == {
        "guide",
        "search",
        "method",
        "evaluation",
    }
    assert not (tmp_path / "out").exists()
    with refused("did you mean 'trouser'"):
        forget(model, parts, what="trousers", dry_run=True)


@pytest.mark.parametrize("method", ["megu", "finetune", "scrub", "ssd", "unsir"])
def test_the_plan_counts_the_images_that_the_method_passes(method, model, parts, monkeypatch):
    """With a second for each image, its seconds are what hooks count on the real network."""
    how = {"method": method, "settings": QUICK if method == "megu" else {}}
    monkeypatch.setattr(estimate, "_seconds_per_image", lambda *_: (1.0, 1.0, 1.0))
    expected = forget(model, parts, dry_run=True, **how).seconds["method"]
    passes, unlearned = [], megu.own.unlearn._unlearned

    def counted(checked, store, matrix):
        with counting(checked.original) as batches:
            made = unlearned(checked, store, matrix)
        passes.append(total(batches))
        return made

    monkeypatch.setattr(megu.own.unlearn, "_unlearned", counted)
    forget(model, parts, **how)
    assert 0.7 < (passes[0].trained + passes[0].noised + passes[0].seen) / expected < 1.4


class Patient:
    """A guide that takes a hundredth of a second for each image, and the clock that says so."""

    name, costly, now = "patient", False, 0.0

    def score(self, questions):
        Patient.now += 0.01 * len({one.image_hash for one in questions})
        return [0.0] * len(questions)

    @contextmanager
    def __call__(self, part):
        start = Patient.now
        yield
        self.total = Patient.now - start


@pytest.mark.parametrize("images", [0, 1, 3, 50])
def test_a_guides_time_grows_with_its_open_questions(images, monkeypatch):
    monkeypatch.setattr(estimate, "Stopwatch", Patient)
    questions = [SimpleNamespace(image_hash=str(i // 10)) for i in range(10 * images)]
    _, seconds = estimate._asked(SimpleNamespace(open_questions=lambda: (Patient(), questions)), "")
    assert seconds == pytest.approx(0.01 * images)


def test_a_guide_that_costs_is_not_asked_by_a_plan(model, parts):
    plan = forget(model, parts, dry_run=True, guide="served", settings={
        "guide.url": "http://localhost:1/v1", "guide.model": "none", "guide.exemplars": 1,
    })  # fmt: skip
    assert "guide" not in plan.seconds and "100 questions" in plan.lines["guide"]
    assert "without the guide" in plan.lines["time"]


def test_the_plan_names_what_stands_in_for_a_guide(model, parts, monkeypatch):
    def missing(*_):
        raise GuideUnavailableError("the weights are not installed")

    monkeypatch.setattr(estimate, "session_of", missing)
    assert "own features, since" in forget(model, parts, guide=None, dry_run=True).lines["guide"]
    with pytest.raises(GuideUnavailableError):
        forget(model, parts, guide="features", dry_run=True)


@pytest.mark.slow
def test_the_estimate_is_within_a_factor_of_two(model, parts):
    how = {"settings": {"recipe.epochs": 20, "noise.steps": 200}}
    expected = sum(forget(model, parts, dry_run=True, **how).seconds.values())
    start = time.perf_counter()
    forget(model, parts, **how)
    assert 0.5 < expected / (time.perf_counter() - start) < 2


def test_a_file_stands_for_the_arguments_and_what_is_given_wins(model, parts, tmp_path):
    (file := tmp_path / "request.toml").write_text(
        'forget = ["coat"]\nguide = "model"\nmethod = "finetune"\n[settings.recipe]\nepochs = 1\nbatch = 64\n'
    )
    more = {"data": parts[0], "classes": NAMES, "config": file}
    result = megu.unlearn(model, **more, settings={"recipe.batch": 32})
    done = result.report["done"]
    assert (result.report["asked"]["names"], done["method"]) == (["coat"], "finetune")
    assert (done["settings"]["recipe"]["epochs"], done["settings"]["recipe"]["batch"]) == (1, 32)
    assert "bag" in megu.unlearn(model, forget="bag", **more, dry_run=True).lines["forget"]
    with refused("model is None"):
        megu.unlearn(**more)
    with refused("did you mean 'normalise'"):
        megu.unlearn(model, **more, normalize="unit")


def test_the_command_reads_and_writes_the_file(model, parts, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    for i, (x, k) in enumerate(parts[0]):
        (folder := tmp_path / "photos" / NAMES[k]).mkdir(parents=True, exist_ok=True)
        Image.fromarray((x[0] * 255).round().byte().numpy()).save(folder / f"{i:03d}.png")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))  # the model's order, not that of the folders

    def megu_unlearn(*words):
        monkeypatch.setattr(sys, "argv", ["megu", "unlearn", *map(str, words)])
        try:
            command.main()
        except SystemExit as end:
            return end.code, "".join(capsys.readouterr())

    monkeypatch.chdir(tmp_path)
    literal = "((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))"
    words = ["--model", "model.safetensors", "--arch", "own_model:network", "--data", "photos", "--forget", "trouser",
             "--normalise", literal, "--guide", "model", "--dry-run", "--classes", "names.txt"]  # fmt: skip
    code, said = megu_unlearn(*words, "--save-config", "request.yaml")
    assert code == 0 and "class: trouser, 40 of 400" in said and "((0.0" in (tmp_path / "request.yaml").read_text()
    monkeypatch.chdir("/")
    config = ("--config", tmp_path / "request.yaml", "--dry-run")
    assert "class: trouser, 40 of 400" in megu_unlearn(*config)[1]
    assert "class: coat, 40 of 400" in megu_unlearn(*config, "--forget", "coat")[1]
    assert ", megu," in megu_unlearn(*config, "--method", "retrian")[1].partition("choose from")[2]
    assert "retrain" not in megu_unlearn(*config, "--method", "retrian")[1].partition("choose from")[2]
    assert "no out given: add --out" in megu_unlearn(*config[:2])[1]
    assert "no model and no arch given" in megu_unlearn("--data", tmp_path, "--forget", "coat", "--dry-run")[1]


def test_numbers_go_to_a_csv_by_default(model, parts, tmp_path):
    result = forget(model, parts, out=tmp_path)
    rows = list(csv.DictReader(open(tmp_path / "log.csv", encoding="utf-8")))
    loss = [float(row["value"]) for row in rows if row["name"] == "MeGU/loss"]
    assert loss == pytest.approx(result.history["MeGU"])
    assert {"accuracy/forget/after", "attack/loss/after", "seconds/noise"} <= {row["name"] for row in rows}
    loggers(None, tmp_path)[0].on_epoch("MeGU", 4, {"loss": 0.5})  # a call that goes on
    again = (tmp_path / "log.csv").read_text()
    assert again.count("MeGU/loss") == 4 and again.count("time,name") == 1
    (tmp_path / "no" / "log.csv").mkdir(parents=True)
    with refused("log.csv could not be written to 'no' .Is a directory", StageError):
        loggers(None, tmp_path / "no")[0].scalar("loss", 0.5, 0)


def test_one_of_several_processes_is_refused_before_any_work(model, parts, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # as accelerate launch and torchrun set it
    for call in (megu.unlearn, megu.compare):
        with refused("this is one of 2 processes .accelerate launch, torchrun.*start it without a launcher"):
            call(model, parts[0], "trouser", classes=NAMES, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert megu.unlearn(model, parts[0], "trouser", classes=NAMES, guide="model", dry_run=True)


def test_a_folder_of_weights_may_be_text(model, parts, tmp_path):
    root = files_of(model, parts, tmp_path)
    given = {"data": root / "photos", "classes": root / "names.txt", "normalise": "unit", "guide": "model"}
    plan = megu.unlearn(str(root), forget="coat", arch="own_model:network", dry_run=True, **given)
    assert "class: coat, 40 of 400" in plan.lines["forget"]
    with refused("arch 'resnet18' belongs to a file of weights, but model is none"):
        megu.unlearn("resnet18", forget="coat", arch="resnet18", **given)


def test_a_setting_is_refused_by_the_name_that_the_user_gave(model, parts):
    with refused("^setting 'recipe.lrr': the name 'lrr' does not exist; did you mean 'lr'"):
        megu.unlearn(
            model, "photos that are not there", "trouser", settings={"recipe.lrr": 1}
        )  # before images are read
