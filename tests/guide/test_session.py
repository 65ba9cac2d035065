"""A session and its commands: any data and classes, what asking would take, what a run asks, errors of one line."""

import itertools
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from loopback import odds_of, reply
from PIL import Image
from refusals import refused
from tiny_mllm import llava
from typer.testing import CliRunner

from megu import guide
from megu.cli.main import app
from megu.datasets.sources import load
from megu.guide import AnswerStore, GuideSession
from megu.guide.prompt import PROMPT
from megu.runs.experiment import Experiment
from megu.runs.store import RunDirectory
from megu.settings.config import Guide
from megu.settings.errors import MeguError, SettingsError
from megu.settings.profiles import resolve

ASK, ANSWERS, OUT = ("guide", "ask"), ("guide", "answers"), ""  # OUT in tmp_path: the folder itself
SERVED = ("--source", "served", "--set", "guide.model=tiny", "--set", "guide.shots=0", "--set", "guide.retries=0")


def megu(*words):
    """What a command prints; its error is raised."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output.strip()


@pytest.fixture
def asking(tiny_npz, tmp_path):
    """The command so far: two exemplars of three classes."""
    classes, out = ("--classes", "shirt, coat,bag"), ("--out", tmp_path / OUT)
    return *ASK, *SERVED, "--data", tiny_npz, *classes, "--exemplars", 2, *out


@pytest.fixture
def url(serve):
    """Of a server that answers every question."""
    return serve(lambda body, number: (200, reply(odds_of(body))))[0]


def test_a_dry_run_asks_nothing_and_says_what_asking_would_take(asking, tmp_path):
    text = math.ceil(sum(len(PROMPT.format(label=label)) for label in ("shirt", "coat", "bag")) * 6 / 4)
    tokens, dry = 18 * 500 + text, (*asking, "--dry-run", "--price", 1000)
    requests = f"18 requests, 18 images, about {text} tokens of text, "
    price = f"{tokens} tokens with the images, a price of {tokens / 1000:.2f}"
    assert megu(*dry, "--image-tokens", 500) == f"18 of 18 questions to tiny (served) are open: {requests}{price}"
    assert "for the text alone: give --image-tokens" in megu(*dry)
    more = ["guide.shots=2" if word == "guide.shots=0" else word for word in dry]
    assert "54 images" in megu(*more) and not (tmp_path / "answers.jsonl").exists()


def test_a_command_that_is_repeated_asks_only_what_is_open(asking, serve, tmp_path):
    url, seen = serve(lambda body, number: (200, reply(odds_of(body))))
    now, again = (megu(*asking, "--set", f"guide.url={url}") for _ in range(2))
    assert re.match(r"18 answers of tiny \(served\): 18 asked now in .* s \(.*18 answers.*\), 0 asked before", now)
    assert again == "18 answers of tiny (served): 0 asked now, 18 asked before" and seen["requests"] == 18
    assert megu(*asking, "--dry-run") == "0 of 18 questions to tiny (served) are open"
    megu(*asking, "--write-batch", tmp_path / "in.jsonl")
    assert not (tmp_path / "in.jsonl").exists()  # nothing is open
    assert {answer.data for answer in AnswerStore(tmp_path / "answers.jsonl").answers.values()} == {"npz"}


def test_a_batch_goes_out_and_comes_back(asking, tmp_path):
    assert megu(*asking, "--write-batch", tmp_path / "in.jsonl").startswith("written: in.jsonl\n18 of 18")
    lines = [json.loads(line) for line in open(tmp_path / "in.jsonl")]
    bodies = [(line["custom_id"], json.loads(reply(odds_of(line["body"])))) for line in lines]
    done = [json.dumps({"custom_id": key, "response": {"body": body}}) for key, body in bodies]
    (tmp_path / "out.jsonl").write_text("\n".join([*done, "half\n"]))
    said = megu(*asking, "--read-batch", tmp_path / "out.jsonl").splitlines()
    assert said[0] == "out.jsonl: 18 answers put in; 1 lines left out: no reply to any of the questions"
    assert said[1].startswith("0 of 18 questions")


def test_classes_are_a_choice_of_the_same_questions(tiny_npz):
    values = {"source": "served", "model": "tiny", "exemplars": 2}
    about = {"forget.scenario": "random", "guide": values, **guide.data_settings(str(tiny_npz))}
    settings = resolve(overrides=about)
    few = GuideSession(settings, load(settings), classes=("bag", "shirt"))
    one, all_questions = GuideSession(settings, load(settings)).questions()
    _, some = few.questions()
    assert len(all_questions) == 200 and [question.label for question in some] == ["bag", "shirt"] * 4
    assert {question.key(one) for question in some} < {question.key(one) for question in all_questions}
    features, questions = few.questions("features")
    assert features.class_names == ("bag", "shirt") and len(questions) == 8
    assert sorted(features.context.exemplar_images[1].tolist()) == [0, 0, 1, 1]


def test_data_may_be_a_folder(tmp_path):
    pets = tmp_path / "pets"
    for part, (name, grey) in itertools.product(("train", "test"), (("cat", 10), ("dog", 200))):
        (pets / part / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(np.full((8, 8, 3), grey + i, np.uint8)).save(pets / part / name / f"{i}.png")
    said = megu(*ASK, *SERVED, "--data", pets, "--exemplars", 3, "--dry-run", "--out", tmp_path / OUT)
    assert said.startswith("12 of 12 questions")


def test_a_run_knows_that_its_answers_are_sampled(serve, tiny_npz, tmp_path):
    url, seen = serve(lambda body, number: (200, reply(odds_of(body), with_probabilities=False)))
    values = {"source": "served", "model": "tiny", "url": url, "exemplars": 1, "shots": 0, "retries": 0}
    about = {"forget.scenario": "random", "guide": values, **guide.data_settings(str(tiny_npz))}
    settings, directory = resolve(overrides=about), RunDirectory(tmp_path, {})
    classes = ("bag", "shirt")
    first, again = (
        GuideSession(settings, load(settings), "cpu", directory, classes=classes).scores() for _ in range(2)
    )
    assert first.origin.startswith("4 answers of tiny (served, sampled): 4 asked now") and seen["requests"] == 1 + 4
    assert again.origin == "4 answers of tiny (served, sampled): 0 asked now, 4 asked before"
    assert ", 10 replies, " in directory.manifest["notes"]["guide served, version"]
    exact = [replace(one, question="0" * 16, source="tiny (served)") for one in first.answers[:1]]
    AnswerStore(both := tmp_path / "both.jsonl").add([*first.answers, *exact])
    with refused("of 2 guides: set guide.model to one of 'tiny .served.', 'tiny .served, sampled.'", MeguError):
        guide.SOURCES["replay"](guide.GuideContext(settings=Guide(path=str(both))))


def test_a_run_replays_what_the_command_has_collected(url, tiny_npz, tiny_overrides, tmp_path):
    every_class = *ASK, *SERVED, "--data", tiny_npz, "--exemplars", 2, "--out", tmp_path / OUT
    megu(*every_class, "--set", f"guide.url={url}")
    values = {"source": "replay", "path": str(tmp_path / "answers.jsonl"), "exemplars": 2}
    run = Experiment(run_dir=tmp_path / "run", overrides={**tiny_overrides, "guide": values})
    assert np.allclose(run.transition().sum(0), 1) and np.ptp(run.transition()) > 1e-3
    assert "200 answers of tiny (served) (replayed)" in run.guide.scores().origin
    with pytest.raises(guide.AnswersMissingError, match="not in answers.jsonl"):
        run.guide.scores(draw=5)  # other exemplars, which nobody was asked about


def test_a_run_is_guided_by_a_local_model(tiny_overrides, tmp_path):
    llava(path := tmp_path / "models" / "llava")
    values = {**tiny_overrides, "guide": {"exemplars": 2, "source": "mllm", "path": str(path)}}
    run = Experiment(run_dir=tmp_path / "run", overrides=values)
    transition = run.transition()
    assert transition.shape == (10, 10) and np.allclose(transition.sum(0), 1) and np.ptp(transition) > 1e-4
    answers, manifest = ((tmp_path / "run" / name).read_text() for name in ("answers.jsonl", "manifest.json"))
    assert len(answers.splitlines()) == 10 * 2 * 10 and str(path.parent) not in manifest + answers
    notes = json.loads(manifest)["notes"]
    assert "files " in notes["guide mllm, version"] and "llava" in notes["guide mllm"]
    assert notes["guide mllm, seconds"] > 0
    assert "200 asked before" in run.guide.scores().origin


def test_exemplars_are_training_images_of_every_class_and_no_validation_images(tiny):
    chosen, split = tiny.guide.exemplars(), tiny.split
    assert torch.bincount(tiny.images.y[chosen]).tolist() == [2] * 10
    held_out = torch.cat([split.val_retain, split.val_forget, split.test_retain, split.test_forget])
    assert not set(chosen.tolist()) & set(held_out.tolist())
    assert not torch.equal(chosen, tiny.guide.exemplars(draw=1))


def test_worked_examples_are_no_exemplars_and_tell_the_truth(mini):
    allowed = torch.arange(500)
    shots = guide.draw_shots(mini, allowed, 3)
    shown = {image.numpy().tobytes() for image in mini.x[guide.draw_exemplars(mini, allowed, 3)]}
    place = {image.numpy().tobytes(): int(k) for image, k in zip(mini.x[:500], mini.y[:500], strict=True)}
    for label, ((positive, yes), (negative, no)) in shots.items():
        assert yes and not no and not {positive.tobytes(), negative.tobytes()} & shown
        assert mini.classes[place[positive.tobytes()]] == label != mini.classes[place[negative.tobytes()]]


WRONG = {
    "class": (("--classes", "shirt,coatt"), "did you mean 'coat'"),
    "one class": (("--classes", "shirt,shirt"), "names 1 class: give at least two"),
    "source": (
        ("--source", "compsed"),
        "choose from: composed, mllm, tiny, features, names, llm-names, shuffled, clip, served, replay",
    ),
    "classes": (("--classes", '"fruit, veg",shirt'), "the class 'fruit, veg' does not exist"),
    "data": (("--data", "cifar11"), "did you mean 'cifar10'"),
    "no such file": (("--data", "nowhere.npz"), "'nowhere.npz' does not exist"),
    "no requests": (("--source", "features", "--write-batch", "in.jsonl"), "source=features sends no requests"),
    "no batch": (("--source", "names", "--read-batch", __file__), "source=names sends no requests"),
    "no classifier": (("--source", "posterior"), "asks the classifier of a run: `python -m megu run"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(case, asking):
    words, message = WRONG[case]
    with pytest.raises(SettingsError, match=re.escape(message)) as refused:
        megu(*asking, *words)
    assert "\n" not in str(refused.value)


def test_the_answers_command_says_whose_they_are_and_moves_them(asking, url, tmp_path):
    megu(*asking, "--set", f"guide.url={url}")
    said = megu(*ANSWERS, tmp_path / "answers.jsonl", "--export", tmp_path / "a.csv")
    assert said.startswith("18 answers of tiny (served) (as served, 0-shot")
    (tmp_path / "a.csv").write_text((tmp_path / "a.csv").read_text().replace(",log-odds", ",percent", 1))
    said = megu(*ANSWERS, tmp_path / "b.jsonl", "--import", tmp_path / "a.csv").splitlines()
    assert said[0] == "a.csv: 17 answers put in; 1 rows left out: no answer (scale)"
    assert said[1].startswith("17 answers of tiny")
    with open(tmp_path / "b.jsonl", "a") as file:
        file.write("half")
    assert megu(*ANSWERS, tmp_path / "b.jsonl").splitlines()[1] == "1 damaged lines were left out"
    with pytest.raises(SettingsError, match="'c.jsonl' does not exist"):
        megu(*ANSWERS, tmp_path / "c.jsonl")
