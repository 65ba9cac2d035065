"""No image is seen: how alike the names of two classes are to a sentence model and a language model."""

import time
from functools import cache

import torch

from megu.guide.base import Guide
from megu.guide.composed import MINILM_SHA, embed_text
from megu.guide.tiny import SMOLLM2_SHA, smollm2

TEMPLATES = (
    "In a photo, a {} looks a lot like a",
    "A {} is easily mistaken for a",
    "The thing that looks most similar to a {} is a",
    "From far away, a {} looks like a",
    "A child might confuse a {} with a",
    "A {} has almost the same shape as a",
    "In a small blurry picture, a {} may be taken for a",
    "People often mix up a {} and a",
)


class NamesGuide(Guide, source="names", compared=True):
    r"""$s(x, l) = \cos(e(\mathrm{name}(x)), e(l))$ with name(x) that of the class of x and $e$ the embedding of
    all-MiniLM-L6-v2; in [-1, 1].  Source: A12."""

    name, any_image, words = "all-MiniLM-L6-v2 on class names", False, f"minilm {MINILM_SHA[:8]}"

    def __init__(self, context):
        super().__init__(context)
        self.version = f"{self.words}, exemplars {context.exemplar_images[2]}"

    def score(self, questions):
        """Raw scores of questions."""
        pairs = [(self.context.class_of(one.image), one.label) for one in questions]
        texts = list(dict.fromkeys([*(name for name, _ in pairs), *(label for _, label in pairs)]))
        known = dict(zip(texts, embed_text(texts) if texts else (), strict=True))
        return [(known[name] @ known[label]).item() for name, label in pairs]


@cache
def _speaker():
    tokenizer, model = smollm2()
    return tokenizer, model.bfloat16()


class LlmNamesGuide(NamesGuide, source="llm-names", compared=True):
    r"""$s(x, l) = \frac{1}{8} \sum_t \log p(l \mid t(\mathrm{name}(x)))$ over the sentences t, p of
    SmolLM2-135M-Instruct.  Raises: GuideUnavailableError where the weights are not installed.  Source: A12."""

    name, slow = "SmolLM2-135M on class names", True
    words = f"smollm2 {SMOLLM2_SHA[:8]}, bfloat16, {len(TEMPLATES)} sentences"

    def shared(self, question):
        """The class, whose name stands in the sentences."""
        return self.context.class_of(question.image)

    @torch.no_grad()
    def _score_labels(self, name):
        tokenizer, model = _speaker()
        start = time.perf_counter()
        labels = [tokenizer.encode(f" {label}", add_special_tokens=False) for label in self.class_names]
        longest, total = max(map(len, labels)), torch.zeros(len(labels), dtype=torch.float64)
        for template in TEMPLATES:
            before = tokenizer.encode(template.format(name), add_special_tokens=False)
            # Causal: what is padded on the right changes nothing.
            ids = torch.tensor([before + label + [0] * (longest - len(label)) for label in labels])
            log_p = model(input_ids=ids).logits[:, len(before) - 1 : -1].float().log_softmax(2)
            for i, label in enumerate(labels):
                total[i] += log_p[i, torch.arange(len(label)), label].double().sum()
        # Every exemplar of a class has the same answers.
        self.took((time.perf_counter() - start) / len(labels) / self.settings.exemplars)
        return (total / len(TEMPLATES)).tolist()

    def score(self, questions):
        """Raw scores of questions."""
        fit = cache(self._score_labels)
        for one in questions:
            yield fit(self.context.class_of(one.image))[self.column(one.label)]
