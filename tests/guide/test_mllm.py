"""A multimodal LLM as guide: real classes with tiny random weights; the shared part is computed once and changes
nothing; what a local model is checked for."""

import numpy as np
import pytest
import torch
from tiny_mllm import CHAT, FAMILIES, llava
from tokenizers.processors import TemplateProcessing
from transformers import LlavaProcessor

from megu.guide import AnswerStore, GuideContext, GuideUnavailableError, Question, ask
from megu.guide.mllm import LocalMllm
from megu.guide.prompt import conversation
from megu.settings.config import Guide

LABELS = ("shirt", "ankle boot", "a", "bag of many things")


def local(path, labels=LABELS, **more):
    return LocalMllm(GuideContext(labels, Guide(path=str(path), **{"shots": 0, "dtype": "float32", **more})))


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
    questions, found, tokens = asked(shots), {}, {}
    for reuse, batch in ((True, 16), (True, 3), (False, 5), (False, 1)):
        guide = local(folders / family, shots=shots, reuse=reuse, batch=batch)
        order = sorted(range(len(questions)), key=lambda i: guide.shared(questions[i]))  # as `ask` sorts them
        scores = dict(zip(order, guide.score([questions[i] for i in order]), strict=True))
        found[reuse, batch] = np.array([scores[i] for i in range(len(questions))])
        assert guide.cost.prefills == (len(questions) if not reuse else len(LABELS) if shots else 3)
        assert guide.cost.answers == len(questions)
        tokens[reuse] = guide.cost.tokens
    naive = found[False, 1]
    assert tokens[True] < tokens[False]
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


def test_answers_are_never_those_of_another_model_or_prompt(folders):
    guides = [local(folders / family, shots=shots) for family in FAMILIES for shots in (0, 2)]
    assert len({asked(shots)[0].key(one) for one in guides for shots in (0, 2)}) == 2 * len(guides)


def test_every_spelling_that_is_one_token_counts_and_a_model_without_any_is_refused(tmp_path):
    llava(tmp_path / "one", words=("true", "false"))
    assert [len(ids) for ids in local(tmp_path / "one")._loaded[2]] == [1, 1]
    llava(tmp_path / "none", words=("yes", "no"))
    with pytest.raises(GuideUnavailableError, match="no single token for True"):
        ask(local(tmp_path / "none"), asked(0), AnswerStore())


def looks_ahead(*args, inputs_embeds, attention_mask, **more):
    """Every token sees every other one, also those that come later."""
    n, length = inputs_embeds.shape[:2]
    seen = attention_mask[:, None, None].bool().expand(n, 1, length, -1)
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)


def test_a_model_whose_image_tokens_look_ahead_is_refused_before_any_answer(folders, monkeypatch):
    assert np.isfinite(list(local(folders / "llava").score(asked(0, 2)))).all()
    monkeypatch.setattr("transformers.models.llama.modeling_llama.create_causal_mask", looks_ahead)
    store = AnswerStore()
    with pytest.raises(GuideUnavailableError, match=r"answers .* where work is shared and .* set guide.reuse=False"):
        ask(local(folders / "llava"), asked(0, 2), store)
    assert not store.answers
    whole = local(folders / "llava", reuse=False)  # asked as whole prompts it may answer
    assert np.isfinite(list(whole.score(asked(0, 2)))).all()


def test_log_odds_are_taken_in_float32(folders):
    one = local(folders / "llava")
    logits = (20 + torch.randn(50, 300, generator=torch.Generator().manual_seed(0))).bfloat16()
    logits[:, sum(one._loaded[2], [])] += 3
    true, false = (logits.double()[:, tokens].logsumexp(1) for tokens in one._loaded[2])
    rounded = [logits[:, tokens].logsumexp(1) for tokens in one._loaded[2]]
    assert one._log_odds(logits) == pytest.approx((true - false).tolist(), abs=1e-4)
    assert (rounded[0] - rounded[1] - (true - false)).abs().max() > 0.03  # what bfloat16 would have made of them


def test_a_model_that_begins_with_something_else_is_refused(folders):
    one, logits = local(folders / "llava"), torch.zeros(2, 264)
    logits[1, 70] = 20.0
    with pytest.raises(
        GuideUnavailableError, match=r"llava begins with 'd' \(100%\), True and False had .* choose another"
    ):
        one._log_odds(logits[1:])
    assert np.isnan(one._log_odds(logits)).tolist() == [False, True]  # later it is one answer that is missing
    assert ["it begins with 'd'" in why for why in one.failures] == [True]


@pytest.mark.parametrize("reuse", [True, False])
def test_the_probability_of_either_word_is_in_the_cost(folders, reuse):
    one, questions = local(folders / "llava", reuse=reuse), asked(0, 2)
    list(one.score(questions))
    texts, images = zip(*map(one._rendered, questions), strict=True)
    with torch.no_grad():
        p = one._run(one._inputs(list(texts), list(images), "left")).logits[:, -1].softmax(1)
    assert one.cost.mass == pytest.approx(p[:, sum(one._loaded[2], [])].sum().item(), abs=1e-5)
    assert 0 < one.cost.mass < one.cost.answers


@pytest.mark.parametrize(
    ("adds", "template", "expected"),
    [(False, CHAT, 0), (True, CHAT, 1), (True, "{{ bos_token }}" + CHAT, 1), (False, "{{ bos_token }}" + CHAT, 1)],
)
def test_a_prompt_begins_once(tmp_path, adds, template, expected):
    llava(tmp_path / "m")
    processor = LlavaProcessor.from_pretrained(tmp_path / "m", chat_template=template.replace("IMAGE", "<image>"))
    if adds:
        processor.tokenizer._tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    processor.save_pretrained(tmp_path / "m")
    one = local(tmp_path / "m")
    text, images = one._rendered(asked(0, 2)[0])
    tokens = one._inputs([text], [images], "left")["input_ids"][0]
    assert (tokens == 1).sum() == expected and (tokens[0] == 1) == bool(expected)
