"""What particular guides answer: sensible neighbours, calibration, controls."""

import numpy as np
import pytest
import torch
from conftest import needs_weights

from megu import guide
from megu.guide import SOURCES, GuideContext, Question, composed
from megu.guide.agreement import sensible_hits
from megu.runs.experiment import Experiment
from megu.settings.config import Guide


def test_shuffled_labels_are_a_derangement_of_the_composed_guides(mini, monkeypatch):
    lengths = lambda self, questions: [float(len(question.label)) for question in questions]  # noqa: E731
    monkeypatch.setattr(composed.ComposedGuide, "score", lengths)
    shuffled = SOURCES["shuffled"](GuideContext(mini.classes))
    questions = [Question(mini.x[0].numpy(), label) for label in mini.classes]
    assert sorted(shuffled.score(questions)) == sorted(lengths(None, questions))
    assert all(label != other for label, other in shuffled._instead.items())
    assert set(shuffled._instead.values()) == set(mini.classes)
    assert questions[0].key(shuffled) != questions[0].key(SOURCES["composed"](GuideContext(mini.classes)))


class Biased(guide.Guide):
    """Likes one label whatever it sees; else says the brightness."""

    source, name, version, log_odds = "composed", "biased", "1", True

    def score(self, questions):
        return [5.0 * (one.label == self.class_names[3]) + one.image.mean() / 255 for one in questions]


def test_what_a_guide_says_of_nothing_is_taken_off_and_its_rivals_are_centred(tiny_overrides, tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "composed", Biased)
    values, similar = {}, {}
    for calibration in ("content-free", "none"):
        overrides = {**tiny_overrides, "guide": {"exemplars": 2, "calibration": calibration}}
        run = Experiment(run_dir=tmp_path / calibration, overrides=overrides)
        values[calibration] = run.guide.scores().values
        similar[calibration] = run.similarities(sources=("composed", "posterior", "confusion", "own-features"))
        sims = similar[calibration].values()
        assert len(sims) == 4 and all((0 <= sim).all() and (sim <= 1).all() for sim in sims)
    free, biased = values["content-free"], values["none"]
    mean = free.reshape(10, 2, 10).mean(1)[:, :1]
    assert similar["content-free"]["composed"] == pytest.approx(np.repeat(mean, 10, 1), abs=1e-6)
    assert free.shape == (20, 10) and free.std(1).max() < 1e-6  # the bias is gone: no label is preferred
    assert biased.std(1).min() > 0.1 and biased[:, 3].min() > 0.99


def test_embedded_guides_are_sensible_on_fresh_exemplars(tmp_path):
    needs_weights(composed.lite0, composed.minilm)
    run = Experiment(run_dir=tmp_path)
    table, pairs = run.agreement(draws=(110, 111), sources=("composed", "features"))
    table = table.query("draw >= 110")
    hits = table.groupby("guide")["hits"].mean()
    assert hits["composed"] >= 6 and hits["features"] >= 6 and pairs["order"].min() > 0.3
    assert table["shuffled"].max() < 4 and table["p"].max() <= 0.05
    names, similarity = run.images.classes, run.similarity("names")
    sneaker = dict(zip(names, similarity[names.index("sneaker")], strict=True))
    assert sneaker["ankle boot"] > sneaker["dress"] and sensible_hits(similarity, names) >= 5


def test_a_language_model_on_names_alone(mini):
    needs_weights(guide.tiny.smollm2)
    exemplars = guide.draw_exemplars(mini, torch.arange(mini.num_train), 1)
    one = SOURCES["llm-names"](GuideContext(mini.classes, Guide(), mini, exemplars))
    images = mini.x[exemplars[[7, 9, 1]]].numpy()  # sneaker, ankle boot, trouser
    questions = [Question(image, label) for image in images for label in mini.classes]
    scores = np.array(list(one.score(questions))).reshape(3, 10)
    assert scores.max() < 0 and np.isfinite(scores).all()
    # By hand: log-probability of one label after one class, without any batch.
    tokenizer, model = guide.names._speaker()
    by_hand, label = [], tokenizer.encode(" ankle boot", add_special_tokens=False)
    for template in guide.names.TEMPLATES:
        before = tokenizer.encode(template.format("sneaker"), add_special_tokens=False)
        with torch.no_grad():
            log_p = model(input_ids=torch.tensor([before + label])).logits[0].float().log_softmax(1)
        by_hand.append(sum(log_p[len(before) - 1 + j, word].item() for j, word in enumerate(label)))
    assert scores[0, 9] == pytest.approx(np.mean(by_hand), abs=0.1)
    assert scores[0, 9] > scores[2, 9] + 1  # an ankle boot is more like a sneaker than like trousers
