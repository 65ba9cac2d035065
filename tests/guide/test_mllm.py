"""A multimodal LLM as guide: real classes with tiny random weights; the shared part is computed once and changes
nothing."""

import json

import numpy as np
import pytest
from tiny_mllm import FAMILIES, llava

from megu.guide import Book, GuideUnavailableError, LocalMllm, Question, ask, conversation
from megu.runs.experiment import Experiment
from megu.settings.config import Guide

LABELS = ("shirt", "ankle boot", "a", "bag of many things")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Family -> folder of the model."""
    root = tmp_path_factory.mktemp("mllm")
    for name, build in FAMILIES.items():
        build(root / name)
    return root


def pictures(n, seed=0):
    return list(np.random.default_rng(seed).integers(0, 255, (n, 3, 28, 28), dtype=np.uint8))


def asked(shots, n=3):
    examples = pictures(len(LABELS), 1)
    around = {label: ((examples[k], True), (examples[k - 1], False)) if shots else () for k, label in enumerate(LABELS)}
    return [Question(image, label, around[label]) for image in pictures(n) for label in LABELS]


@pytest.mark.parametrize("shots", [0, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_questions_share_is_computed_once_and_changes_no_score(folders, family, shots):
    questions, path = asked(shots), str(folders / family)
    found = {}
    for reuse, batch in ((True, 16), (True, 3), (False, 5), (False, 1)):
        guide = LocalMllm(LABELS, settings=Guide(path=path, shots=shots, reuse=reuse, batch=batch, dtype="float32"))
        order = sorted(range(len(questions)), key=lambda i: guide.shared(questions[i]))  # as `ask` sorts them
        scores = dict(zip(order, guide.score([questions[i] for i in order]), strict=True))
        found[reuse, batch] = np.array([scores[i] for i in range(len(questions))])
        assert guide.cost.prefills == (
            len(questions) if not reuse else len(LABELS) if shots else 3
        ) and guide.cost.answers == len(questions)
    naive = found[False, 1]
    assert all(np.abs(scores - naive).max() < 1e-4 for scores in found.values())
    by_label, by_image = naive.reshape(3, -1).std(1).max(), naive.reshape(3, -1).std(0).max()
    assert min(by_label, by_image) > 1e-3  # label and image both matter, ten times more than the tolerance
    assert list(guide.score(questions[::-1])) == pytest.approx(naive[::-1], abs=1e-4)


def test_the_prompt_is_the_papers_two_shot_question():
    messages, images = conversation(asked(2)[0])
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant", "user"]
    assert [message["content"][0]["text"] for message in messages[1::2]] == ["True", "False"]
    assert len(images) == 3 and all('"shirt"' in message["content"][1]["text"] for message in messages[::2])
    assert len(conversation(asked(0)[0])[1]) == 1


def test_shared_work_saves_prefills_and_tokens_with_a_hundred_labels(folders):
    labels = [f"label number {k}" for k in range(100)]
    costs = {}
    for reuse in (True, False):
        guide = LocalMllm(labels, settings=Guide(path=str(folders / "llava"), shots=0, reuse=reuse, dtype="float32"))
        list(guide.score([Question(image, label) for image in pictures(2) for label in labels]))
        costs[reuse] = guide.cost
    assert costs[True].prefills == 2 and costs[False].prefills == 200
    assert costs[True].tokens < costs[False].tokens


def test_a_run_is_guided_by_a_local_model(folders, tiny_overrides, tmp_path):
    path = folders / "llava"
    lab = Experiment(
        run_dir=tmp_path / "run",
        overrides={**tiny_overrides, "guide": {"exemplars": 2, "source": "mllm", "path": str(path)}},
    )
    transition = lab.transition()
    assert transition.shape == (10, 10) and np.allclose(transition.sum(0), 1) and np.ptp(transition) > 1e-4
    assert len(Book(tmp_path / "run" / "answers.jsonl").answers) == 10 * 2 * 10
    manifest = (tmp_path / "run" / "manifest.json").read_text()
    answers = (tmp_path / "run" / "answers.jsonl").read_text()
    assert (
        str(path.parent) not in manifest + answers
        and "files " in answers
        and "llava" in json.loads(manifest)["notes"]["guide mllm"]
    )
    assert "200 asked before" in lab.ask_guide()[2]


def test_answers_are_never_those_of_another_model_or_prompt(folders):
    question, other = asked(2)[0], asked(0)[0]
    guides = [
        LocalMllm(LABELS, settings=Guide(path=str(folders / family), shots=shots))
        for family in FAMILIES
        for shots in (0, 2)
    ]
    assert len({q.key(g) for g in guides for q in (question, other)}) == 2 * len(guides)


def test_every_spelling_that_is_one_token_counts_and_a_model_without_any_is_refused(tmp_path):
    llava(tmp_path / "one", words=("true", "false"))
    guide = LocalMllm(LABELS, settings=Guide(path=str(tmp_path / "one"), shots=0))
    assert [len(ids) for ids in guide._loaded[2]] == [1, 1]
    llava(tmp_path / "none", words=("yes", "no"))
    with pytest.raises(GuideUnavailableError, match="no single token for True"):
        ask(LocalMllm(LABELS, settings=Guide(path=str(tmp_path / "none"), shots=0)), asked(0), Book())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs guide.model"),
        ({"model": "some/model"}, "cannot be found"),
        ({"path": "/nowhere"}, "holds no .safetensors"),
    ],
)
def test_what_is_missing_is_said_in_one_line(settings, message):
    with pytest.raises(GuideUnavailableError, match=message):
        LocalMllm(LABELS, settings=Guide(**settings))


def test_a_model_that_is_not_here_is_said_before_any_answer():
    with pytest.raises(GuideUnavailableError, match="could not be loaded"):
        list(LocalMllm(LABELS, settings=Guide(model="nobody/nothing", revision="a" * 40)).score(asked(0)))
