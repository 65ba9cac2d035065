"""Your own model: the call, the command and the report, on a network that is not ours."""

import copy
import hashlib
import os
import random
import signal
import subprocess
import sys
import time

import jsonschema
import numpy as np
import pytest
import torch
from conftest import ROOT, Narrow
from killing import child, ended, often
from own_model import NAMES, QUICK, SCHEMA, column, files_of, forget, network, same
from safetensors.torch import load_file
from torch.utils.data import TensorDataset

import megu
from megu.core.device import generator, seeded
from megu.core.loading import weights_digest
from megu.core.train import DivergedError
from megu.guide import GuideUnavailableError
from megu.measure.metrics import METRICS
from megu.methods.task import Task
from megu.own import guide_choice
from megu.own import unlearn as unlearning
from megu.own.request import CheckedRequest, Request
from megu.settings.errors import StageError
from megu.settings.files import alone

UNIFORM = np.full((10, 10), 0.1)


@pytest.fixture(scope="module")
def photos(parts, model, tmp_path_factory):
    """The same images as a folder by class, and the model's file beside it."""
    return files_of(model, parts, tmp_path_factory.mktemp("own"))


def test_a_new_model_forgets_and_the_given_one_stays_as_it_is(model, parts):
    model.train()
    before, drawn = weights_digest(model), torch.get_rng_state()
    result = forget(model, parts)
    assert weights_digest(model) == before and model.training and torch.equal(torch.get_rng_state(), drawn)
    assert all(p.grad is None for p in model.parameters()) and all(p.requires_grad for p in result.model.parameters())
    model.eval()
    acc = {(row["model"], row["part"]): row["percent"] for row in result.report["accuracy"]}
    assert acc["before", "forget"] > 60 > 20 > acc["after", "forget"]
    assert acc["after", "test_retain"] > acc["before", "test_retain"] - 15
    word = "forgotten, model damaged, a trace cannot be told with 10 unseen images"  # 13 points retained
    assert result.report["verdict"]["word"] == word and not result.model.training
    done = result.report["done"]["model"]
    assert (done["sha256_before"], done["sha256_after"]) == (before, weights_digest(result.model))
    assert set(result.seconds) >= {"reading", "guide", "labels", "noise", "fine-tuning", "evaluation"}
    assert len(result.history["MeGU"]) == 3


def test_same_seed_same_bits_and_another_seed_others(model, parts, done):
    again, other = (weights_digest(forget(model, parts, seed=seed).model) for seed in (0, 1))
    assert again == weights_digest(done.model) != other


def test_what_is_not_available_is_said_and_never_guessed(model, parts, done):
    why = column(done, "not_available")
    assert why["js_retrain"] == "needs a retrained reference model" and why["acc_forget_test"] is None
    assert why["mia_lira_online_auc"] == "needs shadow models" and column(done, "after")["js_retrain"] is None
    bare = forget(model, parts, test=None, trained_on=60_000)
    assert bare.report["attacks"] == [] and {row["part"] for row in bare.report["accuracy"]} == {"forget", "retain"}
    verdict, why = str(bare.report["verdict"]), column(bare, "not_available")
    assert "Without a retrained model" in verdict
    assert "Only 400 of 60,000" in verdict and "No attack looked at 40 of the 40" in verdict
    needs_test = {name for name, about in METRICS.items() if "test" in about.needs.split()}
    assert all(why[name] for name in needs_test) and needs_test > {name for name in METRICS if name.startswith("mia")}
    with seeded(generator(5, "reference")):
        reference = network()
    whole = forget(model, parts, reference=reference)
    assert column(whole, "after")["js_retrain"] > 0 and "Without a retrained model" not in str(whole.report["verdict"])


@pytest.fixture
def one_thread():
    """Other threads add in another order, and do not survive a fork."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_the_command_gives_the_same_bits_in_another_process(photos, tmp_path, one_thread):
    out = tmp_path / "out"
    words = (
        f"-m megu unlearn --model {photos}/model.safetensors --data {photos}/photos --out {out} --arch"
        " own_model:network --forget trouser --normalise unit --guide model --set recipe.batch=32 --set threads=1"
        f" --classes {photos}/names.txt"
        " --set recipe.lr=0.2 --set noise.steps=10"
    )
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "helpers")))
    environment = {**os.environ, "PYTHONPATH": path, "MEGU_GUIDE_KEY": "sk-planted", "OMP_NUM_THREADS": "1"}
    how = {"env": environment, "capture_output": True, "text": True, "cwd": tmp_path}
    first = subprocess.run([sys.executable, *words.split()], **how)
    assert first.returncode == 0, first.stderr
    for line in ("forget   class: trouser, 40 of 400 training images", "time     about", "verdict  forgotten"):
        assert line in first.stdout
    model = network()
    model.load_state_dict(load_file(photos / "model.safetensors"))
    more = {"guide": "model", "settings": {**QUICK, "threads": 1}, "out": tmp_path / "here"}
    here = megu.unlearn(model, photos / "photos", "trouser", normalise="unit", classes=NAMES, **more)
    assert same(load_file(out / "model.safetensors"), here.model.state_dict())
    written = {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {"model.safetensors", "report.html", "report.json", "manifest.json"} <= set(written)
    said = b"".join(written.values())
    assert not any(secret in said for secret in (b"sk-planted", str(photos).encode(), str(tmp_path).encode()))
    assert "sk-planted" not in first.stdout + first.stderr


def test_what_is_finished_is_not_made_again(model, parts, tmp_path, monkeypatch):
    one = forget(model, parts, out=tmp_path)
    monkeypatch.setattr(Task, "train_on", lambda *_, **__: pytest.fail("trained again"))
    two = forget(model, parts, out=tmp_path)
    assert same(one.model.state_dict(), two.model.state_dict()) and two.history == one.history
    assert one.report["accuracy"] == two.report["accuracy"]
    assert one.seconds == two.seconds and one.report == two.report, "else the sums that were handed over are no longer"
    for more, wrong in (({"what": "shirt"}, "forget.classes was"), ({"guide": UNIFORM}, "guide.matrix")):
        named = rf"the folder '{tmp_path.name}' \(out=, --out\)"
        with pytest.raises(StageError, match=f"^{named} was made otherwise .{wrong}.*choose another folder$"):
            forget(model, parts, **more, out=tmp_path)
    whole = [TensorDataset(*(torch.cat([a[s], b[t]]) for a, b in zip(*(part.tensors for part in parts), strict=True)))
             for s, t in ((slice(-1), slice(0)), (slice(-1, None), slice(None)))]  # fmt: skip
    with pytest.raises(StageError, match="training_images was 400, is 399.: choose another folder"):
        forget(model, whole, out=tmp_path)  # the last training image is an unseen one now
    with alone(tmp_path / "work"), pytest.raises(StageError, match=f"another run is at work in {named}"):
        forget(model, parts, out=tmp_path)


def test_a_model_that_is_trained_while_its_copy_is_at_work_is_refused(model, parts):
    own = copy.deepcopy(model)
    checked = CheckedRequest(Request(own, parts[0], "trouser", classes=NAMES, method="finetune"))
    own[0].bias.data += 1
    with pytest.raises(StageError, match="has changed while its copy was at work"):
        unlearning.carry_out(checked)


@pytest.mark.parametrize("enough", often(3, 200))
def test_killed_at_random_moments_it_goes_on_to_the_same_model(enough, model, parts, tmp_path, one_thread):
    """Guide, noise, training, observation, report: killed anywhere, and started again until it is done."""
    draw, kills, lives, place, wanted = random.Random(0), 0, 1, tmp_path / "0", forget(model, parts)
    start = time.perf_counter()
    forget(model, parts, out=tmp_path / "quiet")
    quiet = time.perf_counter() - start
    while kills < enough:
        pid = child(lambda place=place: forget(model, parts, out=place))
        time.sleep(draw.uniform(0.02, 1.0) * quiet)
        os.kill(pid, signal.SIGKILL)
        if ended(pid) == 0:  # it came through
            place, lives = tmp_path / str(lives), lives + 1
        else:
            kills += 1
    result = forget(model, parts, out=place)
    assert same(result.model.state_dict(), wanted.model.state_dict())
    tidy = ("asked", "accuracy", "attacks", "metrics", "predictions", "nearest", "verdict")
    assert [result.report[key] for key in tidy] == [wanted.report[key] for key in tidy]
    assert not list(place.rglob("*.part*"))


def test_sub_classes_positions_and_files(model, parts, tmp_path):
    halves = [f"{NAMES[k]}/{'a' if i // 10 % 2 else 'b'}" for i, k in enumerate(parts[0].tensors[1].tolist())]
    result = forget(model, parts, "coat/a", subclasses=halves)
    asked = result.report["asked"]
    assert (asked["scenario"], asked["images"]) == ("subclass", halves.count("coat/a"))
    # The test images name no sub-classes: those of the whole class are no unseen ones of the same kind, nor retained.
    sizes = {row["part"]: row["images"] for row in result.report["accuracy"]}
    assert sizes["test_retain"] == sum(k != NAMES.index("coat") for k in parts[1].tensors[1].tolist())
    assert "10 test images of classes of which a sub-class goes name none of training images: they" in str(
        result.report["done"]
    )
    assert (
        not result.report["attacks"] and "needs test images of the" in column(result, "not_available")["mia_loss_auc"]
    )
    (tmp_path / "ids.txt").write_text("# asked by letter\n3\n\n7\n")
    by_file, by_list = forget(model, parts, tmp_path / "ids.txt"), forget(model, parts, [7, 3])
    assert by_file.report["asked"] == by_list.report["asked"]
    assert same(by_file.model.state_dict(), by_list.model.state_dict())
    assert by_file.report["asked"]["index_sha256"] == hashlib.sha256(b"3\n7").hexdigest()


def test_a_guide_that_cannot_be_asked_is_stood_in_for_and_said(model, parts, monkeypatch):
    def missing(*_):
        raise GuideUnavailableError("the weights are not installed")

    monkeypatch.setattr(guide_choice, "_of_guide", missing)
    done = forget(model, parts, guide=None).report["done"]
    assert done["guide"]["source"] == "model" and "stand in for it" in done["notices"][0]
    with pytest.raises(GuideUnavailableError):
        forget(model, parts, guide="features")
    assert forget(model, parts, guide=UNIFORM).report["done"]["guide"]["source"] == "matrix"


def test_a_training_that_runs_away_keeps_the_last_good_model(model, parts, tmp_path):
    with pytest.raises(
        DivergedError, match=r"try a smaller learning rate than 1e\+08; the last good state is kept in work/last_good"
    ) as caught:
        forget(model, parts, settings={"recipe.lr": 1e8, "recipe.schedule": "constant"}, out=tmp_path)
    assert weights_digest(caught.value.last_good) == weights_digest(model)
    assert not (tmp_path / "model.safetensors").exists()
    assert same(load_file(tmp_path / "work" / "last_good.safetensors"), model.state_dict())


def test_memory_that_does_not_suffice_is_reported_and_changes_little(model, parts, done):
    result = forget(Narrow(model), parts)
    assert "does not hold" in str(result.report["done"]["notices"]) and not done.report["done"]["notices"]
    ours, theirs = ([row["percent"] for row in one.report["accuracy"]] for one in (result, done))
    assert np.abs(np.subtract(ours, theirs)).max() <= 2


@pytest.mark.parametrize("method", ["bad-teacher", "projection", "scrub", "ssd", "unsir"])
def test_methods_that_look_into_the_network_take_a_foreign_one(model, parts, method):
    small = {"unsir": {"noises": 4, "copies": 2}, "ssd": {"images": 20}, "projection": {"images": 50}}
    result = forget(model, parts, method=method, settings=small.get(method, {}))
    jsonschema.validate(result.report, SCHEMA)
    assert method == result.report["done"]["method"]
