r"""A multimodal LLM on this machine, asked the paper's True/False question; the part that questions share is computed
once."""

import copy
import re
from functools import cached_property
from itertools import groupby
from pathlib import Path

import torch

from megu.guide.base import GuideUnavailableError
from megu.guide.prompt import PROMPT_VERSION, Cost, conversation, files_digest

TOLERANCE = {
    torch.float32: 1e-3,
    torch.float16: 0.1,
    torch.bfloat16: 0.5,
}  # of log-odds: rounding of a forward pass, by type of the weights


def answer_tokens(tokenizer):
    r"""Token ids that say True and those that say False: of every spelling ("True", " True", "true", ...) that is one
    token.

    Raises: GuideUnavailableError where the tokenizer has no such token.
    """
    out = []
    for word in ("True", "False"):
        spelt = [
            tokenizer.encode(form, add_special_tokens=False)
            for form in (word, f" {word}", word.lower(), f" {word.lower()}")
        ]
        out.append(sorted({ids[0] for ids in spelt if len(ids) == 1}))
    if not all(out) or set(out[0]) & set(out[1]):
        raise GuideUnavailableError(
            "this model's tokenizer has no single token for True and for False: choose another model"
        )
    return out


def newest(model, revision=None):
    r"""The commit that a hub id, or its branch or tag, means now, so that answers name it.  Raises:
    GuideUnavailableError where it cannot be found."""
    from transformers import AutoConfig  # noqa: PLC0415

    try:
        return AutoConfig.from_pretrained(model, revision=revision)._commit_hash
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise GuideUnavailableError(
            f"{model} cannot be found ({why}): check guide.model and the network, set guide.revision, or guide.path to"
            " a folder"
        ) from None


class LocalMllm:
    r"""Log-odds of True against False as the next token after the question.

    $s(x, l) = \log \sum_{t \in \mathrm{True}} e^{z_t} - \log \sum_{t \in \mathrm{False}} e^{z_t}$, so that $\sigma(s)$
    is the probability of True after a softmax over both answers; z are the logits of the next token, t the spellings of
    `answer_tokens`.

    Zero-shot questions about one image share its prefill; two-shot questions about one label share that of the worked
    examples, which stand before the query as in the paper.  ``guide.reuse=False`` is the naive way, a whole prompt for
    each question.

    Args:
        class_names, images, exemplars: not used; every source is built by the same call.
        settings: `megu.settings.config.Guide`: model or path, revision, shots, batch, reuse, dtype, device_map.
        device: torch device where no device_map is set.
    Raises: GuideUnavailableError where the model cannot be loaded.
    Source: arXiv 2602.17088 section 4.1.  Departs: A12; a chat model in place of MMICL, its words are ours.
    """

    log_odds = dear = True  # dear: an answer takes a second on a small machine

    def __init__(self, class_names, images=None, exemplars=None, settings=None, device="cpu"):
        self.settings, self.device, self.shots, self.cost, self._checked = (
            settings,
            device,
            settings.shots,
            Cost(),
            False,
        )
        self.name = settings.model or Path(settings.path or "").name
        if not self.name:
            raise GuideUnavailableError(
                "guide.source=mllm needs guide.model (an id on the hub) or guide.path (a folder)"
            )
        fixed = re.fullmatch("[0-9a-f]{40}", settings.revision or "")
        self._commit = (
            None if settings.path else settings.revision if fixed else newest(settings.model, settings.revision)
        )
        self.version = f"{self._commit or self._files()}, {settings.dtype}, {self.shots}-shot, prompt {PROMPT_VERSION}"

    def _files(self):
        folder = Path(self.settings.path)
        if not list(folder.glob("*.safetensors")):
            raise GuideUnavailableError(f"guide.path: the folder {self.name!r} holds no .safetensors weights")
        # Tokenizer, processor and template change the answers as the weights do.
        return (
            "files"
            f" {files_digest(sorted(path for path in folder.iterdir() if path.suffix in ('.safetensors', '.json', '.jinja', '.model', '.txt')))}"
        )

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
            model = AutoModelForImageTextToText.from_pretrained(
                source, revision=self._commit, use_safetensors=True, dtype=s.dtype, **where
            )
        except (OSError, ValueError, ImportError) as error:
            raise GuideUnavailableError(
                f"{self.name} could not be loaded ({str(error).splitlines()[0]}): check guide.model, the network, or"
                " set guide.path"
            ) from None
        if not getattr(processor, "chat_template", None):
            raise GuideUnavailableError(f"{self.name} has no chat template: choose a model that was tuned for chat")
        model = (model if where else model.to(self.device)).eval()
        return model, processor, answer_tokens(processor.tokenizer)

    @cached_property
    def _begin(self):
        # What the tokenizer puts before every text, where the chat template leaves that to it.
        tokenizer = self._loaded[1].tokenizer
        begins = tokenizer.bos_token and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        return tokenizer.bos_token if begins else ""

    def score(self, questions):
        r"""Log-odds of True for every question, in their order; what lies together in it shares work, see `shared`."""
        batch = self.settings.batch
        if not self.settings.reuse:
            for start in range(0, len(questions), batch):
                yield from self._whole(questions[start : start + batch])
            return
        for _, group in groupby(questions, key=self.shared):
            yield from self._with_prefix(list(group))

    def _inputs(self, texts, images, side):
        _, processor, _ = self._loaded
        images = {"images": images} if images[0] else {}
        return processor(
            text=texts, **images, padding=True, padding_side=side, add_special_tokens=False, return_tensors="pt"
        )

    def _rendered(self, question):
        messages, images = conversation(question)
        text = self._loaded[1].apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return text if text.startswith(self._begin) else self._begin + text, images

    def _log_odds(self, logits):
        logits = logits.float()  # in half precision the difference of two logits of 20 has steps of 0.1
        true, false = (logits[:, tokens].logsumexp(1) for tokens in self._loaded[2])
        self.cost.mass += (torch.logaddexp(true, false) - logits.logsumexp(1)).exp().sum().item()
        return (true - false).tolist()

    @torch.no_grad()
    def _whole(self, questions):
        texts, images = zip(*map(self._rendered, questions), strict=True)
        inputs = self._inputs(list(texts), list(images), "left")
        self._count(len(questions), len(questions), inputs["attention_mask"].sum().item())
        return self._log_odds(self._run(inputs, logits_to_keep=1).logits[:, -1])

    def _run(self, inputs, **more):
        model = self._loaded[0]
        inputs = {
            key: value.to(model.device, model.dtype if value.is_floating_point() else None)
            for key, value in inputs.items()
        }
        return model(**inputs, **more)

    def _count(self, prefills, answers, tokens):
        self.cost.prefills += prefills
        self.cost.answers += answers
        self.cost.tokens += tokens

    @torch.no_grad()
    def _with_prefix(self, questions):
        # The cut lies at a special token, where what is left of it cannot change how the rest is split into tokens.
        token, two_shot = getattr(self._loaded[1], "image_token", None), bool(questions[0].shots)
        if not isinstance(token, str):
            raise GuideUnavailableError(
                f"the prompts of {self.name} have no image token to cut at: set guide.reuse=False"
            )
        rendered = [self._rendered(question) for question in questions]

        def cut(text):
            at = text.rindex(token)
            return at if two_shot else at + len(token)

        first, images = rendered[0]
        n_shared = len(images) - 1 if two_shot else len(images)
        prefix = self._inputs([first[: cut(first)]], [images[:n_shared]], "right")
        known = self._run(prefix, use_cache=True, logits_to_keep=1).past_key_values
        self._count(1, 0, prefix["input_ids"].shape[1])
        self.cost.spared += (len(rendered) - 1) * prefix["input_ids"].shape[1]
        for start in range(0, len(rendered), self.settings.batch):
            part = rendered[start : start + self.settings.batch]
            suffix = self._inputs(
                [text[cut(text) :] for text, _ in part], [images[n_shared:] for _, images in part], "right"
            )
            found = self._answers(prefix, suffix, known)
            if not self._checked:
                self._check(questions[0], found[0])
            yield from found

    def _check(self, question, found):
        # A model whose image tokens look ahead, or whose tokenizer splits a text otherwise when it is cut, answers
        # otherwise.
        asked, self.cost = self.cost, Cost()
        whole, self.cost, self._checked = self._whole([question])[0], asked, True
        if not abs(whole - found) <= TOLERANCE[self._loaded[0].dtype]:
            raise GuideUnavailableError(
                f"{self.name} answers {found:.4g} where work is shared and {whole:.4g} where it is not: set"
                " guide.reuse=False"
            )

    def _answers(self, prefix, suffix, known):
        n, before = len(suffix["input_ids"]), prefix["input_ids"].shape[1]
        cache = copy.deepcopy(known)
        cache.batch_repeat_interleave(n)
        mask = torch.cat([torch.ones(n, before, dtype=suffix["attention_mask"].dtype), suffix["attention_mask"]], 1)
        last = suffix["attention_mask"].sum(1) - 1
        inputs = {**suffix, "attention_mask": mask, "position_ids": self._positions(prefix, suffix, mask, before)}
        keep, at = last.unique(
            return_inverse=True
        )  # logits of a whole vocabulary at every position would fill the memory
        logits = self._run(inputs, past_key_values=cache, use_cache=True, logits_to_keep=keep).logits
        self._count(0, n, suffix["attention_mask"].sum().item())
        return self._log_odds(logits[torch.arange(n), at.to(logits.device)])

    def _positions(self, prefix, suffix, mask, before):
        model, n = self._loaded[0], len(mask)
        if not hasattr(model.model, "get_rope_index"):
            return torch.arange(before, mask.shape[1]).expand(n, -1)
        # Qwen's positions have three axes and depend on every image before them.
        whole = {
            key: torch.cat([prefix[key].expand(n, -1), suffix[key]], 1)
            for key in ("input_ids", "mm_token_type_ids")
            if key in prefix
        }
        grids = [prefix["image_grid_thw"].expand(n, -1, -1)]
        if "image_grid_thw" in suffix:
            grids.append(suffix["image_grid_thw"].view(n, -1, 3))
        return model.model.get_rope_index(
            **whole, image_grid_thw=torch.cat(grids, 1).flatten(0, 1), attention_mask=mask
        )[0][:, :, before:]
