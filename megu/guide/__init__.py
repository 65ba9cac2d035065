r"""Who says which concepts are alike: one protocol, one file per source."""

from megu.guide.base import AnswersMissingError, Guide, GuideUnavailableError, Question, answer_matrix, ask, draw_exemplars, draw_shots, questions_for
from megu.guide.batchfile import read_batch, write_batch
from megu.guide.book import Answer, Book, shipped
from megu.guide.clip import ClipGuide
from megu.guide.composed import ComposedGuide
from megu.guide.features import FeatureGuide
from megu.guide.inquiry import Inquiry, data_settings, inquire
from megu.guide.mllm import LocalMllm
from megu.guide.names import NamesGuide
from megu.guide.prompt import conversation
from megu.guide.replay import ReplayGuide
from megu.guide.served import ServedMllm
from megu.guide.table import export_answers, import_answers

SOURCES = {
    "composed": ComposedGuide, "features": FeatureGuide, "names": NamesGuide, "clip": ClipGuide, "mllm": LocalMllm, "served": ServedMllm,
    "replay": ReplayGuide,
}  # fmt: skip
EMBEDDED = ("composed", "features", "names")  # need nothing but what pip installs

__all__ = [
    "EMBEDDED", "SOURCES", "Answer", "AnswersMissingError", "Book", "ClipGuide", "ComposedGuide", "FeatureGuide", "Guide", "GuideUnavailableError", "Inquiry",
    "LocalMllm", "NamesGuide", "Question", "ReplayGuide", "ServedMllm", "answer_matrix", "ask", "conversation", "data_settings", "draw_exemplars",
    "draw_shots", "export_answers", "import_answers", "inquire", "questions_for", "read_batch", "shipped", "write_batch",
]  # fmt: skip
