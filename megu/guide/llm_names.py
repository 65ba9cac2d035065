r"""Text alone, by a language model: which names it expects where a sentence asks for something that looks alike; no
image is seen."""

from functools import cache, lru_cache

import numpy as np
import torch

from megu.guide.base import Guide, source
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


@lru_cache(maxsize=1)
def _speaker():
    tokenizer, model = smollm2()
    return tokenizer, model.bfloat16()


@source("llm-names", compared=True)
class LlmNamesGuide(Guide):
    r"""Mean log-probability of a candidate label after sentences that ask what looks like an exemplar's class.

    $s(x, l) = \frac{1}{8} \sum_t \log p(l \mid t(\mathrm{name}(x)))$ over eight sentences t, p of
    SmolLM2-135M-Instruct; the image only says which class is meant.

    Raises: GuideUnavailableError where the weights are not installed.
    Source: the "LLM on names alone" alternative of A12 in the assumption log.
    """

    name, slow, any_image = "SmolLM2-135M on class names", True, False

    def __init__(self, context):
        super().__init__(context)
        parts = f"smollm2 {SMOLLM2_SHA[:8]}, bfloat16, {len(TEMPLATES)} sentences"
        self.version = f"{parts}, exemplars {context.exemplar_images[2]}"
        self._fit = cache(self._score_labels)

    @torch.no_grad()
    def _score_labels(self, name):
        """Scores of all labels after one class."""
        tokenizer, model = _speaker()
        labels = [tokenizer.encode(f" {label}", add_special_tokens=False) for label in self.class_names]
        longest, total = max(map(len, labels)), np.zeros(len(labels))
        for template in TEMPLATES:
            before = tokenizer.encode(template.format(name), add_special_tokens=False)
            # Causal: what is padded on the right changes nothing.
            ids = torch.tensor([before + label + [0] * (longest - len(label)) for label in labels])
            log_p = model(input_ids=ids).logits[:, len(before) - 1 : -1].float().log_softmax(2)
            total += [sum(log_p[i, j, word].item() for j, word in enumerate(label)) for i, label in enumerate(labels)]
        return total / len(TEMPLATES)

    def score(self, questions):
        r"""Raw scores of questions, log-probabilities."""
        for question in questions:
            scores = self._fit(self.context.class_of(question.image))
            yield float(scores[self.column(question.label)])
