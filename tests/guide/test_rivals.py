"""Rival sources of labels: the classifier itself, exchanged labels, answers less those about nothing."""

import numpy as np
import pytest
import torch
from conftest import needs_weights

from megu import guide
from megu.core.train import predict
from megu.guide.composed import ComposedGuide
from megu.runs.experiment import Experiment
from megu.settings.config import Guide
from megu.settings.errors import SettingsError


@pytest.mark.parametrize("source", ["posterior", "confusion", "own-features"])
def test_the_classifier_guides_itself(tiny, source):
    scores, of_class, _ = tiny.ask_guide(source)
    transition = tiny.transition(source)
    assert scores.shape == (20, 10) and np.allclose(transition.sum(0), 1)
    # The exemplars' own class stands out, as it must for a classifier that has learnt anything; for another order of
    # the classes it does not.
    own = scores[np.arange(20), of_class] - scores.mean(1)
    other = scores[np.arange(20), (of_class + 3) % 10] - scores.mean(1)
    assert own.mean() > 2 * abs(other.mean())


def test_posterior_and_confusion_by_hand(tiny):
    images, model = tiny.images, tiny.original(0)
    exemplars = tiny.exemplars()
    scores = tiny.ask_guide("posterior")[0]
    p = predict(model, images, exemplars).softmax(1).numpy()
    assert 1 / (1 + np.exp(-scores)) == pytest.approx(p.clip(1e-6, 1 - 1e-6), abs=1e-5)
    asked, questions = tiny.questions("confusion")
    held_out = torch.cat([tiny.split.val_retain, tiny.split.val_forget]).sort().values
    said = predict(model, images, held_out).argmax(1)
    k = int(images.y[exemplars[0]])
    mine = images.y[held_out] == k
    share = ((said[mine] == 4).sum().item() + 1) / (mine.sum().item() + 10)
    question = next(q for q in questions if q.label == images.classes[4])
    assert 1 / (1 + np.exp(-next(iter(asked.score([question]))))) == pytest.approx(share)


def test_another_classifier_gives_other_answers(tiny):
    asked, questions = tiny.questions("posterior")
    other = guide.PosteriorGuide(
        tiny.images.classes, tiny.images, tiny.exemplars(), model=tiny.original(1), held_out=None
    )
    assert questions[0].key(asked) != questions[0].key(other)
    assert list(asked.score(questions[:5])) != list(other.score(questions[:5]))


def test_shuffled_labels_are_a_derangement_of_the_composed_guides(mini, monkeypatch):
    monkeypatch.setattr(
        ComposedGuide, "score", lambda self, questions: [float(len(question.label)) for question in questions]
    )
    shuffled = guide.SOURCES["shuffled"](mini.classes)
    questions = [guide.Question(mini.x[0].numpy(), label) for label in mini.classes]
    assert sorted(shuffled.score(questions)) == sorted(float(len(label)) for label in mini.classes)
    assert all(label != other for label, other in shuffled._instead.items()) and set(shuffled._instead.values()) == set(
        mini.classes
    )
    assert questions[0].key(shuffled) != questions[0].key(ComposedGuide(mini.classes))


class Biased:
    """Likes one label whatever it sees; else says the brightness."""

    name, version, log_odds = "biased", "1", True

    def __init__(self, class_names, *_):
        self.liked = class_names[3]

    def score(self, questions):
        return [5.0 * (question.label == self.liked) + question.image.mean() / 255 for question in questions]


def test_what_a_guide_says_of_nothing_is_taken_off(tiny_overrides, tmp_path, monkeypatch):
    monkeypatch.setitem(guide.SOURCES, "composed", Biased)

    def scores(calibration):
        lab = Experiment(
            run_dir=tmp_path / calibration,
            overrides={**tiny_overrides, "guide": {"exemplars": 2, "calibration": calibration}},
        )
        return lab.ask_guide()[0], lab.similarity()

    free, sim = scores("content-free")
    assert free.shape == (20, 10) and free.std(1).max() < 1e-6  # the bias is gone: no label is preferred
    as_they_are, _ = scores("none")
    assert as_they_are.std(1).min() > 0.1 and as_they_are[:, 3].min() > 0.99
    assert sim == pytest.approx(np.repeat(free.reshape(10, 2, 10).mean(1)[:, :1], 10, 1), abs=1e-6)


def test_a_guides_calibration_is_not_its_rivals(tiny_overrides, tmp_path, monkeypatch):
    monkeypatch.setitem(guide.SOURCES, "composed", Biased)
    for calibration in ("content-free", "none"):
        lab = Experiment(
            run_dir=tmp_path / calibration,
            overrides={**tiny_overrides, "guide": {"exemplars": 2, "calibration": calibration}},
        )
        sims = lab.similarities(sources=("composed", "posterior", "confusion", "own-features"))
        assert len(sims) == 4 and all((0 <= sim).all() and (sim <= 1).all() for sim in sims.values())


def test_guides_that_need_content_are_not_asked_without(tiny_overrides, tmp_path):
    for source in ("names", "features", "confusion"):
        lab = Experiment(
            run_dir=tmp_path / source,
            overrides={**tiny_overrides, "guide": {"exemplars": 2, "source": source, "calibration": "content-free"}},
        )
        with pytest.raises(SettingsError, match="cannot be asked about an image without content"):
            lab.ask_guide()


def test_every_source_can_be_set():
    assert all(Guide(source=source) for source in guide.SOURCES)


def test_a_language_model_on_names_alone(mini, monkeypatch):
    needs_weights(guide.tiny.smollm2)
    exemplars = guide.draw_exemplars(mini, torch.arange(mini.num_train), 1)
    asked = guide.SOURCES["llm-names"](mini.classes, mini, exemplars)
    questions = [
        guide.Question(mini.x[exemplars[k]].numpy(), label) for k in (7, 9, 1) for label in mini.classes
    ]  # sneaker, ankle boot, trouser
    scores = np.array(list(asked.score(questions))).reshape(3, 10)
    assert scores.max() < 0 and np.isfinite(scores).all()
    # By hand: log-probability of one label after one class, without any batch.
    tokenizer, model = guide.llm_names._speaker()
    by_hand = []
    for template in guide.llm_names.TEMPLATES:
        before = tokenizer.encode(template.format("sneaker"), add_special_tokens=False)
        label = tokenizer.encode(" ankle boot", add_special_tokens=False)
        with torch.no_grad():
            log_p = model(input_ids=torch.tensor([before + label])).logits[0].float().log_softmax(1)
        by_hand.append(sum(log_p[len(before) - 1 + j, word].item() for j, word in enumerate(label)))
    assert scores[0, 9] == pytest.approx(np.mean(by_hand), abs=0.1)
    assert (
        scores[0, 9] > scores[2, 9] + 1
    )  # an ankle boot is more like a sneaker than like trousers; labels are compared by column
