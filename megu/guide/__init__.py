r"""Who says which concepts are alike: one protocol, one file per source."""

from megu.guide.base import Answer, Book, Guide, GuideUnavailableError, Question, answer_matrix, ask, draw_exemplars, questions_for, shipped
from megu.guide.composed import ComposedGuide
from megu.guide.features import FeatureGuide

SOURCES = {"composed": ComposedGuide, "features": FeatureGuide}

__all__ = [
    "SOURCES", "Answer", "Book", "ComposedGuide", "FeatureGuide", "Guide", "GuideUnavailableError", "Question",
    "answer_matrix", "ask", "draw_exemplars", "questions_for", "shipped",
]  # fmt: skip
