"""Who says which concepts are alike.

A question is an exemplar and a candidate label, an answer one number.  A source is a subclass of `base.Guide`, imported
below and named in `megu.settings.config.Source`.
"""

# ruff: noqa: F401
from megu.guide.answers import Answer, AnswerStore, ask, shipped_answers
from megu.guide.base import SOURCES, AnswersMissingError, Guide, GuideContext, GuideUnavailableError, ImageGuide

# The sources, in the order of every table.
from megu.guide import composed, tiny, features, names, classifier, shuffled  # isort: skip
from megu.guide import clip, mllm, served, replay  # isort: skip

from megu.guide.exchange import export_answers, import_answers, read_batch, write_batch
from megu.guide.questions import Question, codes, draw_exemplars, draw_shots, questions_for
from megu.guide.session import GuideSession, Scores, data_settings
