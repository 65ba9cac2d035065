r"""A multimodal LLM on this machine, asked the paper's True/False question; the part that questions share is computed once."""

import copy
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from megu.guide.base import GuideUnavailableError
from megu.store import sha256

PROMPT = 'Does this image show a photo of "{label}"? Answer True or False.'
PROMPT_VERSION = 1  # goes up with every change of the words above


def image_of(pixels):
    r"""``(C, H, W)`` uint8 to an RGB image; grey becomes RGB."""
    return Image.fromarray(np.ascontiguousarray(np.asarray(pixels).transpose(1, 2, 0).squeeze())).convert("RGB")


def conversation(question):
    r"""The chat of a question, worked examples first: each image, the question about the same label, True or False.

    Returns: (messages, images in their order).  Source: arXiv 2602.17088 section 4.1.
    """
    asked = {"type": "text", "text": PROMPT.format(label=question.label)}
    messages, images = [], []
    for image, holds in (*question.shots, (question.image, None)):
        messages.append({"role": "user", "content": [{"type": "image"}, asked]})
        images.append(image_of(image))
        if holds is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": str(holds)}]})
    return messages, images


def answer_tokens(tokenizer):
    r"""Token ids that say True and those that say False: of every spelling ("True", " True", "true", ...) that is one token.

    Raises: GuideUnavailableError where the tokenizer has no such token.
    """
    out = []
    for word in ("True", "False"):
        spelt = [tokenizer.encode(form, add_special_tokens=False) for form in (word, f" {word}", word.lower(), f" {word.lower()}")]
        out.append(sorted({ids[0] for ids in spelt if len(ids) == 1}))
    if not all(out) or set(out[0]) & set(out[1]):
        raise GuideUnavailableError("this model's tokenizer has no single token for True and for False: choose another model")
    return out


def weights_digest(files):
    r"""Eight hex digits over files of weights."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(bytes.fromhex(sha256(file)))
    return digest.hexdigest()[:8]


@dataclass
class Cost:
    """What the answers took: passes over an image and what stands before the cut, answers, tokens that went through the model."""

    prefills: int = 0
    answers: int = 0
    tokens: int = 0


def newest(model):
    r"""The commit that a hub id means now, so that its answers name it.  Raises: GuideUnavailableError where it cannot be found."""
    from transformers import AutoConfig  # noqa: PLC0415

    try:
        return AutoConfig.from_pretrained(model)._commit_hash
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise GuideUnavailableError(
            f"{model} cannot be found ({why}): check guide.model and the network, set guide.revision, or guide.path to a folder"
        ) from None


class LocalMllm:
    r"""Log-odds of True against False as the next token after the question.

    $s(x, l) = \log \sum_{t \in \mathrm{True}} e^{z_t} - \log \sum_{t \in \mathrm{False}} e^{z_t}$, so that $\sigma(s)$ is the probability of
    True after a softmax over both answers; z are the logits of the next token, t the spellings of `answer_tokens`.

    Zero-shot questions about one image share its prefill; two-shot questions about one label share that of the worked examples, which
    stand before the query as in the paper.  ``guide.reuse=False`` is the naive way, a whole prompt for each question.

    Args:
        class_names, images, exemplars: not used; every source is built by the same call.
        settings: `megu.config.Guide`: model or path, revision, shots, batch, reuse, dtype, device_map.
        device: torch device where no device_map is set.
    Raises: GuideUnavailableError where the model cannot be loaded.
    Source: arXiv 2602.17088 section 4.1.  Departs: A12; a chat model in place of MMICL, its words are ours.
    """

    log_odds = True

    def __init__(self, class_names, images=None, exemplars=None, settings=None, device="cpu"):
        self.settings, self.device, self.shots, self.cost = settings, device, settings.shots, Cost()
        self.name = settings.model or Path(settings.path or "").name
        if not self.name:
            raise GuideUnavailableError("guide.source=mllm needs guide.model (an id on the hub) or guide.path (a folder)")
        self._commit = None if settings.path else settings.revision or newest(settings.model)
        self.version = f"{self._commit or self._weights()}, {self.shots}-shot, prompt {PROMPT_VERSION}"

    def _weights(self):
        if not (files := sorted(Path(self.settings.path).glob("*.safetensors"))):
            raise GuideUnavailableError(f"guide.path: the folder {self.name!r} holds no .safetensors weights")
        return f"weights {weights_digest(files)}"

    def shared(self, question):
        r"""What stands before the cut of a question's prompt: its image, or the worked examples for its label."""
        return f"{question.label}|{question.shots_hash}" if question.shots else question.image_hash

    @cached_property
    def _loaded(self):
        from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: PLC0415  (seconds to import, needed by this guide alone)

        s, source = self.settings, self.settings.path or self.settings.model
        where = {"device_map": s.device_map} if s.device_map else {}
        try:
            processor = AutoProcessor.from_pretrained(source, revision=self._commit)
            model = AutoModelForImageTextToText.from_pretrained(source, revision=self._commit, use_safetensors=True, dtype=s.dtype, **where)
        except (OSError, ValueError, ImportError) as error:
            raise GuideUnavailableError(
                f"{self.name} could not be loaded ({str(error).splitlines()[0]}): check guide.model, the network, or set guide.path"
            ) from None
        model = (model if where else model.to(self.device)).eval()
        return model, processor, answer_tokens(processor.tokenizer)

    def score(self, questions):
        r"""Log-odds of True for every question, in their order."""
        groups = {}
        for i, question in enumerate(questions):
            groups.setdefault(self.shared(question) if self.settings.reuse else i // self.settings.batch, []).append(i)
        out = np.empty(len(questions))
        for members in groups.values():
            asked = [questions[i] for i in members]
            out[members] = self._with_prefix(asked) if self.settings.reuse else self._whole(asked)
        return out.tolist()

    def _inputs(self, texts, images, side):
        _, processor, _ = self._loaded
        images = {"images": images} if images[0] else {}
        return processor(text=texts, **images, padding=True, padding_side=side, add_special_tokens=False, return_tensors="pt")

    def _rendered(self, question):
        messages, images = conversation(question)
        return self._loaded[1].apply_chat_template(messages, add_generation_prompt=True, tokenize=False), images

    def _log_odds(self, logits):
        true, false = self._loaded[2]
        return (logits[:, true].logsumexp(1) - logits[:, false].logsumexp(1)).float().cpu().numpy()

    @torch.no_grad()
    def _whole(self, questions):
        texts, images = zip(*map(self._rendered, questions), strict=True)
        inputs = self._inputs(list(texts), list(images), "left")
        self._count(len(questions), len(questions), inputs["attention_mask"].sum().item())
        return self._log_odds(self._run(inputs, logits_to_keep=1).logits[:, -1])

    def _run(self, inputs, **more):
        model = self._loaded[0]
        inputs = {key: value.to(model.device, model.dtype if value.is_floating_point() else None) for key, value in inputs.items()}
        return model(**inputs, **more)

    def _count(self, prefills, answers, tokens):
        self.cost.prefills += prefills
        self.cost.answers += answers
        self.cost.tokens += tokens

    @torch.no_grad()
    def _with_prefix(self, questions):
        # The cut lies at a special token, where what is left of it cannot change how the rest is split into tokens.
        token, two_shot = self._loaded[1].image_token, bool(questions[0].shots)
        rendered = [self._rendered(question) for question in questions]

        def cut(text):
            at = text.rindex(token)
            return at if two_shot else at + len(token)

        first, images = rendered[0]
        n_shared = len(images) - 1 if two_shot else len(images)
        prefix = self._inputs([first[: cut(first)]], [images[:n_shared]], "right")
        known = self._run(prefix, use_cache=True, logits_to_keep=1).past_key_values
        self._count(1, 0, prefix["input_ids"].shape[1])
        out = []
        for start in range(0, len(rendered), self.settings.batch):
            part = rendered[start : start + self.settings.batch]
            suffix = self._inputs([text[cut(text) :] for text, _ in part], [images[n_shared:] for _, images in part], "right")
            if not start:
                self._same_tokens(prefix, suffix, rendered[0])
            out.append(self._answers(prefix, suffix, known))
        return np.concatenate(out)

    def _same_tokens(self, prefix, suffix, whole):
        joined = torch.cat([prefix["input_ids"][0], suffix["input_ids"][0][suffix["attention_mask"][0].bool()]])
        expected = self._inputs([whole[0]], [whole[1]], "right")["input_ids"][0]
        if not joined.equal(expected):
            raise GuideUnavailableError(f"{self.name} splits a prompt into other tokens when it is cut: set guide.reuse=False")

    def _answers(self, prefix, suffix, known):
        n, before = len(suffix["input_ids"]), prefix["input_ids"].shape[1]
        cache = copy.deepcopy(known)
        cache.batch_repeat_interleave(n)
        mask = torch.cat([torch.ones(n, before, dtype=suffix["attention_mask"].dtype), suffix["attention_mask"]], 1)
        last = suffix["attention_mask"].sum(1) - 1
        inputs = {**suffix, "attention_mask": mask, "position_ids": self._positions(prefix, suffix, mask, before)}
        logits = self._run(inputs, past_key_values=cache, use_cache=True).logits
        self._count(0, n, suffix["attention_mask"].sum().item())
        return self._log_odds(logits[torch.arange(n), last.to(logits.device)])

    def _positions(self, prefix, suffix, mask, before):
        model, n = self._loaded[0], len(mask)
        if not hasattr(model.model, "get_rope_index"):
            return torch.arange(before, mask.shape[1]).expand(n, -1)
        # Qwen's positions have three axes and depend on every image before them.
        whole = {key: torch.cat([prefix[key].expand(n, -1), suffix[key]], 1) for key in ("input_ids", "mm_token_type_ids") if key in prefix}
        grids = [prefix["image_grid_thw"].expand(n, -1, -1)]
        if "image_grid_thw" in suffix:
            grids.append(suffix["image_grid_thw"].view(n, -1, 3))
        return model.model.get_rope_index(**whole, image_grid_thw=torch.cat(grids, 1).flatten(0, 1), attention_mask=mask)[0][:, :, before:]
