"""What a local model is checked for: shared work that changes nothing, log-odds in float32, one beginning of text,
probability of the words."""

import numpy as np
import pytest
import torch
from tiny_mllm import CHAT, llava
from tokenizers.processors import TemplateProcessing
from transformers import LlavaProcessor

from megu import guide
from megu.guide import Book, LocalMllm, Question
from megu.settings.config import Guide

LABELS = ("shirt", "bag")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny LLaVA."""
    path = tmp_path_factory.mktemp("mllm") / "llava"
    llava(path)
    return path


def local(path, **more):
    return LocalMllm(LABELS, settings=Guide(path=str(path), **{"shots": 0, "dtype": "float32", **more}))


def asked():
    return [
        Question(image, label)
        for image in np.random.default_rng(0).integers(0, 255, (2, 3, 28, 28), dtype=np.uint8)
        for label in LABELS
    ]


def looks_ahead(*args, inputs_embeds, attention_mask, **more):
    """Every token sees every other one, also those that come later."""
    n, length = inputs_embeds.shape[:2]
    seen = attention_mask[:, None, None].bool().expand(n, 1, length, -1)
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)


def test_a_model_whose_image_tokens_look_ahead_is_refused_before_any_answer(folder, monkeypatch):
    assert np.isfinite(list(local(folder).score(asked()))).all()
    monkeypatch.setattr("transformers.models.llama.modeling_llama.create_causal_mask", looks_ahead)
    book = Book()
    with pytest.raises(
        guide.GuideUnavailableError, match=r"answers .* where work is shared and .* set guide.reuse=False"
    ):
        guide.ask(local(folder), asked(), book)
    assert not book.answers
    assert np.isfinite(list(local(folder, reuse=False).score(asked()))).all()  # asked as whole prompts it may answer


def test_log_odds_are_taken_in_float32(folder):
    one = local(folder)
    logits = (20 + torch.randn(50, 300, generator=torch.Generator().manual_seed(0))).bfloat16()
    true, false = (logits.double()[:, tokens].logsumexp(1) for tokens in one._loaded[2])
    rounded = [logits[:, tokens].logsumexp(1) for tokens in one._loaded[2]]
    assert one._log_odds(logits) == pytest.approx((true - false).tolist(), abs=1e-4)
    assert (rounded[0] - rounded[1] - (true - false)).abs().max() > 0.03  # what bfloat16 would have made of them


@pytest.mark.parametrize("reuse", [True, False])
def test_the_probability_of_either_word_is_in_the_cost(folder, reuse):
    one, questions = local(folder, reuse=reuse), asked()
    list(one.score(questions))
    texts, images = zip(*map(one._rendered, questions), strict=True)
    with torch.no_grad():
        p = one._run(one._inputs(list(texts), list(images), "left")).logits[:, -1].softmax(1)
    assert (
        one.cost.mass == pytest.approx(p[:, sum(one._loaded[2], [])].sum().item(), abs=1e-5)
        and 0 < one.cost.mass < one.cost.answers
    )


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
    text, images = one._rendered(asked()[0])
    tokens = one._inputs([text], [images], "left")["input_ids"][0]
    assert (tokens == 1).sum() == expected and (tokens[0] == 1) == bool(expected)
