"""Guides: asked once, in any order, through crashes; sensible on exemplars that no choice was made on."""

import json

import numpy as np
import pytest
import torch

from megu import guide
from megu.classes import SENSIBLE_NEIGHBOURS
from megu.experiment import Experiment
from megu.guide import composed
from megu.guide.agreement import nearest, sensible_hits, shuffled_hits


class CountingGuide:
    """Answers with the mean of the image, and counts."""

    name, version = "counting", "1"

    def __init__(self, fail_after=None):
        self.asked, self.fail_after = 0, fail_after

    def score(self, questions):
        if self.fail_after is not None and self.asked >= self.fail_after:
            raise KeyboardInterrupt
        self.asked += len(questions)
        return [float(question.image.mean()) + len(question.label) for question in questions]


@pytest.fixture
def questions(tiny):
    return list(guide.questions_for(tiny.images, tiny.exemplars()))


def test_asked_once_in_any_order(questions, tmp_path):
    one = CountingGuide()
    first = guide.ask(one, questions, guide.Book(tmp_path / "a.jsonl"))
    again = guide.ask(one, questions[::-1], guide.Book(tmp_path / "a.jsonl"))
    assert one.asked == len(questions) == len((tmp_path / "a.jsonl").read_text().splitlines())
    assert again == first[::-1]


def test_an_interrupt_loses_nothing(questions, tmp_path):
    path = tmp_path / "a.jsonl"
    with pytest.raises(KeyboardInterrupt):
        guide.ask(CountingGuide(fail_after=50), questions, guide.Book(path), at_once=20)
    kept = len(path.read_text().splitlines())
    with open(path, "a") as file:  # killed in the middle of a line
        file.write('{"question": "abc", "ima')
    rest = CountingGuide()
    answers = guide.ask(rest, questions, guide.Book(path), at_once=20)
    assert kept == 60 and rest.asked == len(questions) - kept
    assert [a.raw for a in answers] == [a.raw for a in guide.ask(CountingGuide(), questions, guide.Book())]
    assert len(guide.Book(path).answers) == len(questions)


def test_another_guide_version_image_or_label_never_reuses_an_answer(questions):
    one, two = CountingGuide(), CountingGuide()
    two.version = "2"
    other = guide.Question(255 - questions[0].image, questions[0].label)
    shot = guide.Question(questions[0].image, questions[0].label, ((questions[1].image, True),))
    keys = {questions[0].key(one), questions[0].key(two), other.key(one), shot.key(one), questions[1].key(one)}
    assert len(keys) == 5


def test_unusable_answers_are_refused(questions):
    class Broken(CountingGuide):
        def score(self, questions):
            return [float("nan")] * len(questions)

    with pytest.raises(ValueError, match="0 usable answers to 100 questions"):
        guide.ask(Broken(), questions, guide.Book())


def test_exemplars_are_training_images_of_every_class_and_no_validation_images(tiny):
    chosen = tiny.exemplars()
    assert torch.bincount(tiny.images.y[chosen]).tolist() == [2] * 10
    held_out = torch.cat([tiny.split.val_retain, tiny.split.val_forget, tiny.split.test_retain, tiny.split.test_forget])
    assert not set(chosen.tolist()) & set(held_out.tolist())
    assert not torch.equal(chosen, tiny.exemplars(draw=1))


def test_hits_by_hand():
    names = tuple(SENSIBLE_NEIGHBOURS)
    perfect = np.array([[float(b in SENSIBLE_NEIGHBOURS[a]) for b in names] for a in names])
    assert sensible_hits(perfect, names) == 9 and sensible_hits(1 - perfect - 9 * np.eye(9), names) == 0
    assert nearest([[9, 1, 2], [3, 9, 1], [1, 2, 9]]).tolist() == [2, 0, 1]
    mean, p = shuffled_hits(perfect, names)
    assert mean < 4 and p < 0.01
    noise = np.random.default_rng(0).random((9, 9))
    assert shuffled_hits(noise, names)[1] > 0.05


def needs_weights():
    try:
        composed.lite0()
        composed.minilm()
    except guide.GuideUnavailableError as missing:
        pytest.skip(f"needs the guide's weights: {missing}")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return Experiment(run_dir=tmp_path_factory.mktemp("quick"))


def test_composed_guide_is_sensible_on_fresh_exemplars(quick):
    needs_weights()
    table = quick.agreement(draws=(110, 111)).query("draw >= 110")
    hits = table.groupby("guide")["hits"].mean()
    assert hits["composed"] >= 6 and hits["features"] >= 6
    assert table["shuffled"].max() < 4 and table["p"].max() <= 0.05


@pytest.mark.parametrize("source", ["composed", "features"])
@pytest.mark.parametrize("scenario", ["class", "subclass"])
def test_shipped_answers_are_what_the_guide_says(quick, source, scenario, tmp_path):
    needs_weights()
    lab = quick if scenario == "class" else Experiment(run_dir=tmp_path, overrides={"forget.scenario": scenario})
    questions = list(guide.questions_for(lab.images, lab.exemplars()))[::7]
    asked = guide.SOURCES[source](lab.images.classes, lab.images, lab.exemplars())
    book = guide.shipped("fashion-mini")
    live = list(asked.score(questions))
    assert np.abs(np.array(live) - [book.answers[q.key(asked)].raw for q in questions]).max() < 1e-3


def test_without_weights_the_shipped_answers_are_replayed_and_it_is_said(monkeypatch, tmp_path, quick):
    def missing(name, package):
        raise guide.GuideUnavailableError(f"{package} is not installed")

    monkeypatch.setattr(composed, "_module", missing)
    monkeypatch.setattr(composed, "lite0", lambda: missing("", "efficientnet-lite-pytorch"))
    lab = Experiment(run_dir=tmp_path)
    scores, of_class, origin = lab.ask_guide()
    assert scores.shape == (200, 10) and "replayed from the package because" in origin
    assert "replayed" in json.loads((tmp_path / "manifest.json").read_text())["notes"]["guide composed"]
    with pytest.raises(guide.GuideUnavailableError, match="not installed"):
        lab.ask_guide(draw=5)


def test_wrong_weights_are_refused(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"other")
    with pytest.raises(guide.GuideUnavailableError, match="not the pinned file"):
        composed._verified(tmp_path / "w.pth", composed.LITE0_SHA)


def test_grey_on_black_is_inverted_and_colour_is_not():
    black = np.zeros((1, 1, 28, 28), "uint8")
    assert composed.photo_like(black).mean() > 0.9
    assert composed.photo_like(255 - black).mean() > 0.9
    assert composed.photo_like(np.zeros((1, 3, 32, 32), "uint8")).mean() < -0.9
