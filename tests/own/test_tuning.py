"""Settings for a model that nobody tuned for: scaled, searched and checked on training images, never on test images."""

import copy
import dataclasses

import jsonschema
import pytest
import torch
from own_model import NAMES, SCHEMA, alike, forget, same
from pixels import as_dataset, check, reader
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from megu import methods
from megu.core.loading import weights_digest
from megu.datasets.images import same_pixels
from megu.methods.task import Task
from megu.own import report, request, tuning
from megu.own.estimate import calm_training, plan
from megu.own.report import complaints
from megu.own.request import CheckedRequest, Request
from megu.own.tuning import PARTS, Trial, settled, space_of
from megu.settings.errors import SettingsError

BATCH = {"recipe.batch": 32}


def checked(model, data, what="trouser", **more):
    return CheckedRequest(Request(model, data, what, **{"classes": NAMES, "method": "finetune", **more}))


@pytest.fixture(scope="module")
def searched(model, parts, tmp_path_factory):
    out = tmp_path_factory.mktemp("searched")
    return forget(model, parts, method="finetune", settings=BATCH, tune=3, out=out), out


def without_seconds(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_search_is_recorded_keeps_what_was_given_and_takes_its_best_trial(searched):
    result, done = searched[0], searched[0].report["done"]
    jsonschema.validate(result.report, SCHEMA)
    rows, chosen = done["search"]["table"], done["search"]["chosen"]
    assert [row["trial"] for row in rows] == [0, 1, 2] and set(done["search"]["searched"]) == {
        "recipe.lr",
        "recipe.epochs",
    }
    assert rows[chosen]["score"] == max(row["score"] for row in rows) and done["settings"]["recipe"]["batch"] == 32
    for name in ("lr", "epochs"):
        assert done["settings"]["recipe"][name] == rows[chosen][f"recipe.{name}"]
    assert len({row["recipe.lr"] for row in rows}) == 3 and all(type(row["recipe.epochs"]) is int for row in rows)
    assert f"trial {chosen} of 3" in report.html(result.report) and done["seconds"]["search"] > 0


def test_a_search_goes_on_where_it_stopped(searched, model, parts, monkeypatch):
    result, out = searched
    monkeypatch.setattr(Task, "train_on", lambda *_, **__: pytest.fail("trained again"))
    again = forget(model, parts, method="finetune", settings=BATCH, tune=3, out=out)
    assert again.report["done"]["search"] == result.report["done"]["search"]
    assert same(again.model.state_dict(), result.model.state_dict())


def test_test_images_have_no_part_in_it(searched, model, parts):
    x, y = parts[1].tensors
    other = forget(model, (parts[0], TensorDataset(x[::2], y[::2])), method="finetune", settings=BATCH, tune=3)
    one, two = (without_seconds(found.report["done"]["search"]["table"]) for found in (searched[0], other))
    assert one == two and searched[0].report["done"]["check"] == other.report["done"]["check"]
    assert searched[0].report["accuracy"] != other.report["accuracy"]  # the control: they are other images


def test_what_is_held_out_is_not_trained_on(model, parts):
    trial = Trial(checked(model, parts[0]), None)
    held, retain = (set(index.tolist()) for index in (trial.index["held_out"], trial._task.split.retain))
    assert len(held) == 36 and not held & retain and len(held | retain) == 360
    assert max(held | retain) < 400 and set(trial.index["fine_tuned"].tolist()) <= retain


@pytest.mark.parametrize(("share", "doubted"), [(0.4, False), (0.6, True)])
def test_a_reference_that_lost_half_of_what_is_above_chance_sets_no_goal(share, doubted):
    data, model = as_dataset(2, n=100), reader(range(2))
    wrong = torch.arange(200) % 100 < 50 * share  # of two classes half is chance
    weak = Swapped(reader(range(2)), data.tensors[0][wrong])
    found = Trial(check(model, data, list(range(10)), method="finetune", reference=weak), None)
    assert (found.goals["forget"] == 0) != doubted, "none of these are named right by it"
    assert found.goals["fine_tuned"] == found.before["fine_tuned"] == 100, "more than by the reference is no fault"


class Swapped(torch.nn.Module):
    """Names some images as the other class."""

    def __init__(self, inner, x):
        super().__init__()
        self.inner = inner
        self.register_buffer("known", x.float().flatten(1) / 255)

    def forward(self, x):
        out = self.inner(x)
        other = torch.isclose(x.flatten(1)[:, None], self.known).all(2).any(1)
        return torch.where(other[:, None], out.flip(1), out)


def test_no_copy_of_what_is_held_out_is_trained_on(model, parts):
    train = parts[0]
    stays = (train.tensors[1] != NAMES.index("trouser")).nonzero()[:, 0].tolist()
    request = checked(model, ConcatDataset([train, *[Subset(train, stays)] * 2]))
    trial, hashes = Trial(request, None), request.images.hashes
    held, retain = (trial.index["held_out"], trial._task.split.retain)
    assert len(held) == 36 and len(retain) == 3 * (360 - 36)
    assert not same_pixels(hashes(held), hashes(retain))


def test_of_many_small_classes_some_lend_an_image_each_and_the_plan_says_how_many():
    request = check(reader(range(40)), as_dataset(40), "1", method="finetune")
    held = Trial(request, None).index["held_out"]
    assert len(held) == len(request.images.y[held].unique()) == 23  # of 234
    assert plan(request).lines["retain"].startswith("234 images, 211 to fine-tune on, 23 to check on")


@pytest.mark.parametrize(
    ("what", "goal"), [("trouser", lambda goal: goal == 0), (range(30), lambda goal: 20 < goal < 100)]
)
def test_goals_are_those_of_a_retrained_model(model, parts, what, goal):
    request = checked(model, parts[0], what)
    trial = Trial(request, None)
    assert goal(trial.goals["forget"]) and trial.goals["held_out"] == trial.before["held_out"]
    look = trial.look(request.original)
    assert (look["score"] < 0.5) == (what == "trouser") and bool(complaints(look)) == (what == "trouser")
    given = Trial(checked(model, parts[0], what, reference=alike(model)), None)
    if what == "trouser":  # a reference that knows the class is none
        assert given.goals == trial.goals
    else:
        assert given.goals == given.before and given.look(request.original)["score"] == 1


def test_a_method_that_changes_nothing_or_too_much_is_complained_of(model, parts, monkeypatch):
    null = dataclasses.replace(methods.METHODS["finetune"], unlearn=lambda task, settings: copy.deepcopy(task.original))
    monkeypatch.setitem(methods.METHODS, "finetune", null)
    said = forget(model, parts, method="finetune", settings={}).report["done"]["notices"]
    assert any(
        "are still named right, about 0 %" in line and "--tune" in line and "megu compare" in line for line in said
    )


def test_what_the_model_says_of_held_out_images_is_asked_once(model, parts, monkeypatch):
    """By the check of the rate, by the search and by the check after it."""
    asked, predict = [], request.predict

    def counted(model, images, index, *more):
        asked.append((tuple(index.tolist()), weights_digest(model)))
        return predict(model, images, index, *more)

    for module in (request, tuning):
        monkeypatch.setattr(module, "predict", counted)
    result = forget(model, parts, method="finetune", settings=BATCH, tune=1)
    held = tuple(checked(model, parts[0], settings=BATCH).held_out[0].tolist())
    asked = [weights for index, weights in asked if index == held]
    assert asked.count(result.report["done"]["model"]["sha256_before"]) == 2  # one of them two lines above
    assert asked.count(result.report["done"]["model"]["sha256_after"]) >= 1


def part(after, goal, images=400, before=90.0):
    return {"images": images, "before": before, "after": after, "goal": goal}


@pytest.mark.parametrize(("forgotten", "fine_tuned", "held", "words"), [
    (part(0, 0), part(90, 90), part(88, 90), []),
    (part(12, 0), part(90, 90), part(90, 90), ["12 % of the forgotten"]),
    (part(12, 0, images=10), part(90, 90), part(90, 90), []),  # two standard errors of ten images
    (part(30, 48), part(90, 90), part(90, 90), ["only 30 % of the forgotten"]),
    (part(0, 0), part(104, 90), part(60, 90), ["30 points of accuracy are lost", "14 points of accuracy are won"]),
    (part(72, None), part(90, 90), part(90, 90), []),
    (part(0, 0), part(60, 90), part(None, None, images=0, before=None), ["30 points of accuracy are lost on retained"]),
])  # fmt: skip
def test_complaints(forgotten, fine_tuned, held, words):
    said = complaints({"parts": dict(zip(PARTS, (forgotten, fine_tuned, held), strict=True))})
    assert len(said) == len(words) and all(word in line for word, line in zip(words, said, strict=True))


def test_batches_follow_the_images_and_what_is_given_stays(model, parts):
    usual = methods.METHODS["finetune"].settings().recipe
    own = checked(model, parts[0]).parameters.recipe
    assert (usual.batch, own.batch, own.epochs, own.lr) == (128, 33, usual.epochs, usual.lr)
    for given in ({"recipe.batch": 100}, {"recipe": {"batch": 100}}):
        assert checked(model, parts[0], settings=given).parameters.recipe.batch == 100


def test_a_rate_that_raises_the_loss_on_held_out_images_is_lowered(model, parts, tmp_path):
    class Store:
        made = {}

        def once(self, name, make, save, load):
            save(make()[0], tmp_path / "kept")
            self.made[name] = load(tmp_path / "kept")
            return self.made[name]

    def rate(model, **settings):
        request = checked(model, parts[0], settings={"recipe.batch": 32, **settings})
        used, search = settled(request, Store(), None)
        assert search is None and request.parameters.recipe.lr == settings.get("recipe.lr", 0.11)
        return used.parameters.recipe.lr

    steep = torch.nn.Sequential(copy.deepcopy(model), Times(30))
    assert rate(model) == 0.11 and rate(steep) in (0.033, 0.011, 0.0033) and Store.made["tuning/rates.json"]
    assert rate(steep, **{"recipe.lr": 0.5}) == 0.5


def test_a_reference_is_retrained_at_a_rate_that_learns_in_batches_that_follow_the_images(model, parts):
    def changes(net, **settings):
        return calm_training(checked(net, parts[0], retrain=True, settings=settings))

    assert changes(model) == {"batch": 30, "lr": 0.2}
    steep = torch.nn.Sequential(copy.deepcopy(model), Times(30))
    assert changes(steep)["lr"] < 0.2 and changes(steep, **{"training.lr": 0.2}) == {"batch": 30}
    assert changes(steep, training={"lr": 0.2, "batch": 64}) == {}


class Times(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


@pytest.mark.parametrize(("method", "keys"), [
    ("megu", {"recipe.lr", "recipe.epochs", "noise."}), ("megu-no-noise", {"recipe.lr", "recipe.epochs"}),
    ("ssd", {"alpha", "lam"}), ("scrub", {"recipe.lr", "alpha"}),
])  # fmt: skip
def test_what_is_searched_is_what_the_method_registers_and_can_feel(model, parts, method, keys):
    space = space_of(checked(model, parts[0], method=method))
    assert {"noise." if key.startswith("noise.") else key for key in space} == keys


@pytest.mark.parametrize(("more", "said"), [
    ({"tune": 3, "method": "unsir-ssd"}, "nothing left to search"),
    ({"tune": 3, "settings": {"recipe.lr": 0.1, "recipe.epochs": 2}}, "nothing left to search"),
    ({"tune": 3, "settings": {"recipe": {"lr": 0.1, "epochs": 2}}}, "nothing left to search"),
    ({"tune": -1}, "tune is -1"), ({"tune": 2.5}, "tune is 2.5"), ({"tune": True}, "tune is True"),
])  # fmt: skip
def test_a_search_that_cannot_be_made_is_refused(model, parts, more, said):
    with pytest.raises(SettingsError, match=said):
        checked(model, parts[0], **more)
