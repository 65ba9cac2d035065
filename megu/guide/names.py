r"""Text alone: how alike the names of two classes are to a sentence model that sees no image."""

from megu.guide.base import Guide, source
from megu.guide.composed import MINILM_SHA, embed_text


@source("names", compared=True)
class NamesGuide(Guide):
    r"""Cosine between the name of an exemplar's class and a candidate label.

    $s(x, l) = \cos(e(\mathrm{name}(x)), e(l))$ with $e$ the embedding of all-MiniLM-L6-v2; the image only says which
    class is asked about.

    Source: the "text embeddings of class names" alternative of A12 in the assumption log.
    """

    name, any_image = "all-MiniLM-L6-v2 on class names", False

    def __init__(self, context):
        super().__init__(context)
        self.version = f"minilm {MINILM_SHA[:8]}, exemplars {context.exemplar_images[2]}"

    def score(self, questions):
        r"""Raw scores of questions, in [-1, 1]."""
        of = [self.context.class_of(question.image) for question in questions]
        texts = list(dict.fromkeys([*of, *(question.label for question in questions)]))
        known = dict(zip(texts, embed_text(texts) if texts else (), strict=True))
        return [(known[name] @ known[question.label]).item() for name, question in zip(of, questions, strict=True)]
