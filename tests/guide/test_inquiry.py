"""The guide and answers commands: any data and classes, what asking would cost, and errors of one line."""

import json
import math
import re

import numpy as np
import pytest
from loopback import odds_of, reply
from PIL import Image
from typer.testing import CliRunner

from megu import guide
from megu.cli.main import app
from megu.guide import Book, ServedMllm
from megu.guide.prompt import PROMPT
from megu.runs.experiment import Experiment
from megu.settings.errors import SettingsError
from megu.settings.profiles import resolve

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
    return (
        "guide",
        *SERVED,
        "--data",
        tiny_npz,
        "--classes",
        "shirt, coat,bag",
        "--exemplars",
        2,
        "--out",
        tmp_path / "a.jsonl",
    )


def test_a_dry_run_asks_nothing_and_says_what_asking_would_take(asking, tmp_path):
    text = math.ceil(sum(len(PROMPT.format(label=label)) for label in ("shirt", "coat", "bag")) * 6 / 4)
    said = megu(*asking, "--dry-run", "--price", 1000, "--image-tokens", 500)
    assert said.startswith(
        f"18 of 18 questions to tiny (served) are open: 18 requests, 18 images, about {text} tokens of text, "
    )
    assert said.endswith(f"{18 * 500 + text} tokens with the images, a price of {(18 * 500 + text) / 1000:.2f}")
    assert "for the text alone: give --image-tokens" in megu(*asking, "--dry-run", "--price", 1000)
    assert "54 images" in megu(*asking, "--set", "guide.shots=2", "--dry-run") and not (tmp_path / "a.jsonl").exists()


def test_a_command_that_is_repeated_asks_only_what_is_open(asking, serve, tmp_path):
    url, seen = serve(lambda body, number: (200, reply(odds_of(body))))
    assert re.match(
        r"18 answers of tiny \(served\): 18 asked now in .* s \(.*18 answers.*\), 0 asked before",
        megu(*asking, "--set", f"guide.url={url}"),
    )
    assert (
        megu(*asking, "--set", f"guide.url={url}") == "18 answers of tiny (served): 0 asked now, 18 asked before"
        and seen["requests"] == 18
    )
    assert megu(*asking, "--dry-run") == "0 of 18 questions to tiny (served) are open"
    megu(*asking, "--write-batch", tmp_path / "in.jsonl")
    assert not (tmp_path / "in.jsonl").exists()  # nothing is open
    assert {answer.data for answer in Book(tmp_path / "a.jsonl").answers.values()} == {"npz"}


def test_a_batch_goes_out_and_comes_back(asking, tmp_path):
    assert megu(*asking, "--write-batch", tmp_path / "in.jsonl").startswith("written: in.jsonl\n18 of 18")
    lines = [json.loads(line) for line in open(tmp_path / "in.jsonl")]
    done = [
        {"custom_id": line["custom_id"], "response": {"body": json.loads(reply(odds_of(line["body"])))}}
        for line in lines
    ]
    (tmp_path / "out.jsonl").write_text("\n".join(map(json.dumps, done)) + "\nhalf\n")
    said = megu(*asking, "--read-batch", tmp_path / "out.jsonl").splitlines()
    assert said[0] == "out.jsonl: 18 answers put in; 1 lines left out: no reply to any of the questions" and said[
        1
    ].startswith("0 of 18 questions")


def test_classes_are_a_choice_of_the_same_questions(tiny_npz):
    settings = resolve(
        overrides={
            "forget.scenario": "random",
            "guide": {"model": "tiny", "exemplars": 2},
            **guide.data_settings(str(tiny_npz)),
        }
    )
    one, all_questions = guide.inquire(ServedMllm, settings)
    _, some = guide.inquire(ServedMllm, settings, classes=("bag", "shirt"))
    assert (
        len(all_questions) == 200 and len(some) == 8 and [question.label for question in some[:2]] == ["bag", "shirt"]
    )
    assert {question.key(one) for question in some} < {question.key(one) for question in all_questions}
    found, asked = guide.inquire(guide.FeatureGuide, settings, classes=("bag", "shirt"))
    assert found.class_names == ("bag", "shirt") and sorted(found._y.tolist()) == [0, 0, 1, 1] and len(asked) == 8


def test_data_may_be_a_folder(tmp_path):
    for part in ("train", "test"):
        for name, grey in (("cat", 10), ("dog", 200)):
            (tmp_path / "pets" / part / name).mkdir(parents=True)
            for i in range(12):
                Image.fromarray(np.full((8, 8, 3), grey + i, np.uint8)).save(
                    tmp_path / "pets" / part / name / f"{i}.png"
                )
    said = megu(
        "guide", *SERVED, "--data", tmp_path / "pets", "--exemplars", 3, "--dry-run", "--out", tmp_path / "a.jsonl"
    )
    assert said.startswith("12 of 12 questions")


def test_a_run_replays_what_the_command_has_collected(serve, tiny_npz, tiny_overrides, tmp_path):
    url, seen = serve(lambda body, number: (200, reply(odds_of(body))))
    every_class = "guide", *SERVED, "--data", tiny_npz, "--exemplars", 2, "--out", tmp_path / "a.jsonl"
    megu(*every_class, "--set", f"guide.url={url}")
    replayed = {**tiny_overrides, "guide": {"source": "replay", "path": str(tmp_path / "a.jsonl"), "exemplars": 2}}
    lab = Experiment(run_dir=tmp_path / "run", overrides=replayed)
    transition = lab.transition()
    assert np.allclose(transition.sum(0), 1) and np.ptp(transition) > 1e-3 and seen["requests"] == 200
    assert "200 answers of tiny (served) (replayed)" in lab.ask_guide()[2]
    with pytest.raises(guide.AnswersMissingError, match="not in a.jsonl"):
        lab.ask_guide(draw=5)  # other exemplars, which nobody was asked about


WRONG = {
    "class": (("--classes", "shirt,coatt"), "did you mean 'coat'"),
    "one class": (("--classes", "shirt,shirt"), "names 1 class: give at least two"),
    "data": (("--data", "cifar11"), "did you mean 'cifar10'"),
    "no such file": (("--data", "nowhere.npz"), "'nowhere.npz' does not exist"),
    "no requests": (("--source", "features", "--write-batch", "in.jsonl"), "source=features sends no requests"),
    "no batch": (("--source", "names", "--read-batch", __file__), "source=names sends no requests"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(case, asking):
    words, message = WRONG[case]
    with pytest.raises(SettingsError, match=re.escape(message)) as refused:
        megu(*asking, *words)
    assert "\n" not in str(refused.value)


def test_a_guide_that_is_a_runs_own_classifier_is_for_a_run():
    class Own:
        needs_model = True

    with pytest.raises(SettingsError, match="asks the classifier of a run: `python -m megu run"):
        guide.inquire(Own, resolve())


def test_the_answers_command_says_whose_they_are_and_moves_them(asking, serve, tmp_path):
    url, _ = serve(lambda body, number: (200, reply(odds_of(body))))
    megu(*asking, "--set", f"guide.url={url}")
    said = megu("answers", tmp_path / "a.jsonl", "--export", tmp_path / "a.csv")
    assert said.startswith("18 answers of tiny (served) (as served, 0-shot")
    (tmp_path / "a.csv").write_text((tmp_path / "a.csv").read_text().replace(",log-odds", ",percent", 1))
    said = megu("answers", tmp_path / "b.jsonl", "--import", tmp_path / "a.csv").splitlines()
    assert said[0] == "a.csv: 17 answers put in; 1 rows left out: no answer (scale)" and said[1].startswith(
        "17 answers of tiny"
    )
    with open(tmp_path / "b.jsonl", "a") as file:
        file.write("half")
    assert megu("answers", tmp_path / "b.jsonl").splitlines()[1] == "1 damaged lines were left out"
    with pytest.raises(SettingsError, match="'c.jsonl' does not exist"):
        megu("answers", tmp_path / "c.jsonl")
