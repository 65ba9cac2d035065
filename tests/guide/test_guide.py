"""Guides: asked once, in any order, through crashes; sensible on exemplars that no choice was made on."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import needs_weights
from safetensors.torch import save_file

from megu import guide
from megu.guide import composed
from megu.guide.agreement import nearest, same_nearest, same_order, sensible_hits, shuffled_hits
from megu.runs.experiment import Experiment
from megu.settings.class_names import SENSIBLE_NEIGHBOURS
from megu.settings.config import Guide


class CountingGuide:
    """Answers with the mean of the image, and counts."""

    name, version = "counting", "1"

    def __init__(self, fail_after=None):
        self.asked, self.fail_after = 0, fail_after

    def score(self, questions):
        for question in questions:
            if self.asked == self.fail_after:
                raise KeyboardInterrupt
            self.asked += 1
            yield float(question.image.mean()) + len(question.label)


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
    assert kept == 50 and rest.asked == len(questions) - kept
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

    class Half(CountingGuide):
        def score(self, questions):
            return [score if i % 2 else float("nan") for i, score in enumerate(super().score(questions))]

    with pytest.raises(guide.AnswersMissingError, match="200 of 200 answers of counting are missing"):
        guide.ask(Broken(), questions, guide.Book())
    book, half = guide.Book(), Half()
    with pytest.raises(guide.AnswersMissingError, match="100 of 200 .* The others are kept"):
        guide.ask(half, questions, book)
    guide.ask(whole := CountingGuide(), questions, book)
    assert len(book.answers) == 200 and whole.asked == 100  # what was answered is not asked again


def test_a_damaged_line_is_left_out_counted_and_asked_again(questions, tmp_path):
    path = tmp_path / "a.jsonl"
    first = guide.ask(CountingGuide(), questions, guide.Book(path))
    lines = path.read_text().splitlines()
    lines[3] = lines[3].replace('"raw": ', '"raw": 9')  # a bit that fell over
    path.write_text("\n".join(lines) + "\n")
    book, again = guide.Book(path), CountingGuide()
    assert book.damaged == 1 and len(book.answers) == len(questions) - 1
    assert [a.raw for a in guide.ask(again, questions, book)] == [a.raw for a in first] and again.asked == 1


def test_several_writers_lose_no_answer(questions, tmp_path):
    answers = guide.ask(CountingGuide(), questions, guide.Book())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda answer: guide.Book(tmp_path / "a.jsonl").add([answer]), answers))
    book = guide.Book(tmp_path / "a.jsonl")
    assert len(book.answers) == len(questions) and not book.damaged


def test_clip_scores_are_log_odds_among_the_labels(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    vision, text = (
        {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
        {"width": 64, "heads": 2, "layers": 2},
    )
    (tmp_path / "tiny-clip.json").write_text(
        json.dumps(
            {"embed_dim": 64, "vision_cfg": vision, "text_cfg": {"context_length": 77, "vocab_size": 49408, **text}}
        )
    )
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    save_file(open_clip.create_model("tiny-clip").state_dict(), tmp_path / "w.safetensors")
    labels, settings = ("shirt", "coat", "bag"), Guide(model="tiny-clip", path=str(tmp_path / "w.safetensors"), batch=2)
    images = np.random.default_rng(0).integers(0, 255, (3, 1, 28, 28), dtype=np.uint8)
    questions = [guide.Question(image, label) for image in images for label in labels]
    scores = np.array(list(guide.ClipGuide(labels, settings=settings).score(questions)))
    assert np.allclose((1 / (1 + np.exp(-scores))).reshape(3, 3).sum(1), 1) and scores.std() > 0
    assert list(guide.ClipGuide(labels, settings=settings).score(questions[::-1])) == pytest.approx(
        scores[::-1], abs=1e-4
    )
    wrong = (
        ({}, "needs guide.model"),
        ({"model": "tiny-clip"}, "and guide.revision"),
        ({"model": "tiny-clip", "path": str(tmp_path / "x")}, "'x' is no file"),
        ({"model": "tiny-clip", "revision": "laion", "path": str(tmp_path / "w.safetensors")}, "both name weights"),
    )
    for values, message in wrong:
        with pytest.raises(guide.GuideUnavailableError, match=message) as refused:
            guide.ClipGuide(labels, settings=Guide(**values))
        assert str(tmp_path) not in str(refused.value)


def test_names_alone_know_that_a_sneaker_is_like_a_boot(quick):
    needs_weights(composed.lite0, composed.minilm)
    names, similarity = quick.images.classes, quick.similarity("names")
    sneaker = dict(zip(names, similarity[names.index("sneaker")], strict=True))
    assert sneaker["ankle boot"] > sneaker["dress"] and sensible_hits(similarity, names) >= 5


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


def test_agreement_of_two_guides_by_hand():
    rng = np.random.default_rng(0)
    one, other = rng.random((20, 20)), rng.random((20, 20))
    assert same_order(one, one**3) == pytest.approx(1) and same_nearest(one, one**3) == 1  # only the order counts
    assert same_order(one, -one) == pytest.approx(-1) and same_nearest(one, -one) == 0
    four, another = rng.random((4, 4)), rng.random((4, 4))
    assert (
        same_nearest(four, four) == 1 and min(same_nearest(rng.permuted(four, axis=1), another) for _ in range(20)) < 1
    )  # one of three, not all
    assert np.isnan(same_nearest(four[:2, :2], another[:2, :2]))
    assert abs(same_order(one, other)) < 0.15 and same_nearest(one, other) < 0.4
    assert same_order(one, one + 5 * np.eye(20)) == pytest.approx(1)  # the diagonal plays no part


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return Experiment(run_dir=tmp_path_factory.mktemp("quick"))


def test_composed_guide_is_sensible_on_fresh_exemplars(quick):
    needs_weights(composed.lite0, composed.minilm)
    table, pairs = quick.agreement(draws=(110, 111), sources=("composed", "features"))
    table = table.query("draw >= 110")
    hits = table.groupby("guide")["hits"].mean()
    assert hits["composed"] >= 6 and hits["features"] >= 6 and pairs["order"].min() > 0.3
    assert table["shuffled"].max() < 4 and table["p"].max() <= 0.05


@pytest.mark.parametrize("source", ["composed", "features"])
@pytest.mark.parametrize("scenario", ["class", "subclass"])
def test_shipped_answers_are_what_the_guide_says(quick, source, scenario, tmp_path):
    needs_weights(composed.lite0, composed.minilm)
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
        composed.verified(tmp_path / "w.pth", composed.LITE0_SHA)


def test_grey_on_black_is_inverted_and_colour_is_not():
    black = np.zeros((1, 1, 28, 28), "uint8")
    assert composed.photo_like(black).mean() > 0.9
    assert composed.photo_like(255 - black).mean() > 0.9
    assert composed.photo_like(np.zeros((1, 3, 32, 32), "uint8")).mean() < -0.9
