r"""Text alone: how alike the names of two classes are to a sentence model that sees no image."""

import numpy as np

from megu.guide.base import exemplar_images
from megu.guide.composed import MINILM_SHA, embed_text


class NamesGuide:
    r"""Cosine between the name of an exemplar's class and a candidate label.

    $s(x, l) = \cos(e(\mathrm{name}(x)), e(l))$ with $e$ the embedding of all-MiniLM-L6-v2; the image only says which
    class is asked about.

    Args: as of `megu.guide.features.FeatureGuide`.
    Source: the "text embeddings of class names" alternative of A12 in the assumption log.
    """

    name, any_image = "all-MiniLM-L6-v2 on class names", False

    def __init__(self, class_names, images, exemplars, settings=None, device=None):
        x, y, pixels = exemplar_images(images, exemplars)
        self._class_of = {image.tobytes(): class_names[k] for image, k in zip(x, y.tolist(), strict=True)}
        self.version = f"minilm {MINILM_SHA[:8]}, exemplars {pixels}"

    def score(self, questions):
        r"""Raw scores of questions, in [-1, 1]."""
        of = [self._class_of[np.ascontiguousarray(question.image).tobytes()] for question in questions]
        texts = list(dict.fromkeys([*of, *(question.label for question in questions)]))
        known = dict(zip(texts, embed_text(texts), strict=True))
        return [(known[name] @ known[question.label]).item() for name, question in zip(of, questions, strict=True)]
