"""A multimodal LLM on this machine, asked the paper's True/False question; what questions share is computed once."""

import copy
import math
import re
import time
from functools import cached_property
from itertools import groupby
from pathlib import Path

import torch

from megu.guide.base import Guide, batches, need, require, unavailable
from megu.guide.prompt import PROMPT_VERSION, Cost, conversation, files_digest
from megu.guide.reply import ENOUGH
from megu.settings.known import guide_lacks

# Rounding of log-odds in a forward pass, by type of the weights.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}
# Tokenizer, processor and template, too, change the answers.
ANSWER_FILES = (".safetensors", ".json", ".jinja", ".model", ".txt")


def answer_tokens(tokenizer):
    """Token ids of True and of False, of every spelling ("True", " True", "true", " true") that is one token.  Raises:
    GuideUnavailableError where there is none."""
    out = []
    for word in ("True", "False"):
        forms = word, f" {word}", word.lower(), f" {word.lower()}"
        spelt = (tokenizer.encode(form, add_special_tokens=False) for form in forms)
        out.append(sorted({ids[0] for ids in spelt if len(ids) == 1}))
    need(all(out) and set(out[0]).isdisjoint(out[1]), "no single token for True and for False: choose another model")
    return out


class LocalMllm(Guide, source="mllm"):
    r"""Log-odds of True against False as the next token after the question.

    $s(x, l) = \log \sum_{t \in \mathrm{True}} e^{z_t} - \log \sum_{t \in \mathrm{False}} e^{z_t}$ with z the logits of
    the next token, t the spellings of `answer_tokens`.  With ``guide.reuse`` zero-shot questions about one image share
    its prefill, two-shot questions about one label that of the worked examples.
    Raises: GuideUnavailableError where the model cannot be loaded.
    Source: arXiv 2602.17088 section 4.1.  Departs: A12; a chat model in place of MMICL, its words are ours.
    """

    log_odds, costly, _checked, _began = True, True, False, False

    def __init__(self, context):
        super().__init__(context)
        s = self.settings
        self.cost, self.shots, self.name = Cost(), s.shots, s.model or Path(s.path or "").name
        need(not (lacking := guide_lacks("mllm", s)), lacking)
        self._commit = None if s.path else self._newest()
        self.version = f"{self._commit or self._files()}, {s.dtype}, {self.shots}-shot, prompt {PROMPT_VERSION}"

    def _newest(self):
        # The commit that a hub id, branch or tag means now.
        s = self.settings
        if re.fullmatch("[0-9a-f]{40}", s.revision or ""):
            return s.revision
        try:
            return require("transformers").AutoConfig.from_pretrained(s.model, revision=s.revision)._commit_hash
        except (OSError, ValueError) as error:
            raise unavailable(f"{s.model} cannot be found", error) from None

    def _files(self):
        folder = Path(self.settings.path)
        need(any(folder.glob("*.safetensors")), f"guide.path: {self.name!r} holds no .safetensors weights")
        return f"files {files_digest(sorted(one for one in folder.iterdir() if one.suffix in ANSWER_FILES))}"

    def shared(self, question):
        """The image, or the worked examples for the label: what stands before the cut of a prompt."""
        return f"{question.label}|{question.shots_hash}" if question.shots else question.image_hash

    @cached_property
    def _loaded(self):
        hf, s = require("transformers"), self.settings
        weights, where = s.path or s.model, {"device_map": s.device_map} if s.device_map else {}
        try:
            processor = hf.AutoProcessor.from_pretrained(weights, revision=self._commit)
            model = hf.AutoModelForImageTextToText.from_pretrained(
                weights, revision=self._commit, use_safetensors=True, dtype=s.dtype, **where
            )
        except (OSError, ValueError, ImportError) as error:
            raise unavailable(f"{self.name} could not be loaded", error) from None
        template = getattr(processor, "chat_template", None)
        need(template, f"{self.name} has no chat template: choose a model that was tuned for chat")
        model = model if where else model.to(self.context.device)
        return model.eval(), processor, answer_tokens(processor.tokenizer)

    @cached_property
    def _begin(self):
        # What the tokenizer puts before every text, where the template does not.
        tokenizer = self._loaded[1].tokenizer
        begins = tokenizer.bos_token and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        return tokenizer.bos_token if begins else ""

    def score(self, questions):
        """See `Guide.score`; what lies together shares work."""
        if self.settings.reuse:
            for _, group in groupby(questions, key=self.shared):
                yield from self._with_prefix(list(group))
        else:
            for part in batches(questions, self.settings.batch):
                _, start = self._loaded, time.perf_counter()
                odds = self._whole(part)
                self.took((time.perf_counter() - start) / len(part))
                yield from odds

    def _inputs(self, texts, images, side):
        how = {"padding": True, "padding_side": side, "add_special_tokens": False, "return_tensors": "pt"}
        return self._loaded[1](text=list(texts), **({"images": list(images)} if images[0] else {}), **how)

    def _rendered(self, question):
        messages, images = conversation(question)
        text = self._loaded[1].apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return text if text.startswith(self._begin) else self._begin + text, images

    def _log_odds(self, logits):
        logits = logits.float()  # in half precision 20 has steps of 0.1
        true, false = (logits[:, tokens].logsumexp(1) for tokens in self._loaded[2])
        log_p = logits.log_softmax(1)
        together = (torch.logaddexp(true, false) - logits.logsumexp(1)).exp()
        self.cost.add(mass=together.sum().item())
        out = (true - false).tolist()
        for at in (together < ENOUGH).nonzero().flatten().tolist():
            token, p = self._loaded[1].tokenizer.decode(log_p[at].argmax()), log_p[at].max().exp()
            why = f"begins with {token!r} ({p:.0%}), True and False had {together[at]:.2g} of the probability"
            need(self._began or at, f"{self.name} {why}: choose another model")
            self.failures[f"it {why}"] += 1
            out[at] = math.nan
        self._began = True
        return out

    def _whole(self, questions):
        inputs = self._inputs(*zip(*map(self._rendered, questions), strict=True), "left")
        self.cost.add(prefills=len(questions), answers=len(questions), tokens=inputs["attention_mask"].sum().item())
        return self._log_odds(self._run(inputs, logits_to_keep=1).logits[:, -1])

    @torch.no_grad()
    def _run(self, inputs, **more):
        model = self._loaded[0]
        cast = {key: x.to(model.device, model.dtype if x.is_floating_point() else None) for key, x in inputs.items()}
        return model(**cast, **more)

    def _with_prefix(self, questions):
        # At a special token a cut cannot change how the rest is split into tokens.
        token, two_shot = getattr(self._loaded[1], "image_token", None), bool(questions[0].shots)
        need(isinstance(token, str), f"{self.name} has no image token to cut prompts at: set guide.reuse=False")
        rendered = list(map(self._rendered, questions))

        def cut(text):
            return text.rindex(token) + (0 if two_shot else len(token))

        first, images = rendered[0]
        n_shared = len(images) - two_shot
        prefix = self._inputs([first[: cut(first)]], [images[:n_shared]], "right")
        length = prefix["input_ids"].shape[1]
        start = time.perf_counter()
        known = self._run(prefix, use_cache=True, logits_to_keep=1).past_key_values
        shared = (time.perf_counter() - start) / len(rendered)
        self.cost.add(prefills=1, tokens=length, spared=(len(rendered) - 1) * length)
        for part in batches(rendered, self.settings.batch):
            texts, images = [text[cut(text) :] for text, _ in part], [images[n_shared:] for _, images in part]
            start = time.perf_counter()
            odds = self._answers(prefix, self._inputs(texts, images, "right"), known)
            self.took(shared + (time.perf_counter() - start) / len(part))
            if not self._checked:
                self._check(questions[0], odds[0])
            yield from odds

    def _check(self, question, odds):
        # Image tokens may look ahead, a tokenizer may split a cut text otherwise.
        cost, self.cost = self.cost, Cost()
        whole, self.cost, self._checked = self._whole([question])[0], cost, True
        said = f"{self.name} answers {odds:.4g} where work is shared and {whole:.4g} alone"
        need(abs(whole - odds) <= TOLERANCE[self._loaded[0].dtype], f"{said}: set guide.reuse=False")

    def _answers(self, prefix, suffix, known):
        n, seen, cache = len(suffix["input_ids"]), suffix["attention_mask"], copy.deepcopy(known)
        cache.batch_repeat_interleave(n)
        mask = torch.cat([prefix["attention_mask"].expand(n, -1), seen], 1)
        # Logits at every position would fill the memory.
        keep, at = (seen.sum(1) - 1).unique(return_inverse=True)
        inputs = {**suffix, "attention_mask": mask, "position_ids": self._positions(prefix, suffix, mask)}
        logits = self._run(inputs, past_key_values=cache, use_cache=True, logits_to_keep=keep).logits
        self.cost.add(answers=n, tokens=seen.sum().item())
        return self._log_odds(logits[torch.arange(n), at.to(logits.device)])

    def _positions(self, prefix, suffix, mask):
        model, n, before = self._loaded[0], len(mask), prefix["input_ids"].shape[1]
        if not hasattr(model.model, "get_rope_index"):
            return torch.arange(before, mask.shape[1]).expand(n, -1)
        # Qwen's positions have three axes and depend on all images before.
        keys = [key for key in ("input_ids", "mm_token_type_ids") if key in prefix]
        whole = {key: torch.cat([prefix[key].expand(n, -1), suffix[key]], 1) for key in keys}
        grids = [prefix["image_grid_thw"].expand(n, -1, -1)]
        if "image_grid_thw" in suffix:
            grids.append(suffix["image_grid_thw"].view(n, -1, 3))
        grids = torch.cat(grids, 1).flatten(0, 1)
        return model.model.get_rope_index(**whole, image_grid_thw=grids, attention_mask=mask)[0][:, :, before:]
