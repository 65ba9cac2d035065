r"""Who says which concepts are alike: one protocol, one file per source."""

from megu.guide.base import (
    AnswersMissingError,
    Guide,
    GuideUnavailableError,
    Question,
    answer_matrix,
    ask,
    draw_exemplars,
    draw_shots,
    heard,
    questions_for,
    replayed,
    to_ask,
)
from megu.guide.batchfile import read_batch, write_batch
from megu.guide.book import Answer, Book, shipped
from megu.guide.clip import ClipGuide
from megu.guide.composed import ComposedGuide
from megu.guide.features import FeatureGuide
from megu.guide.inquiry import Inquiry, data_settings, inquire
from megu.guide.llm_names import LlmNamesGuide
from megu.guide.mllm import LocalMllm
from megu.guide.names import NamesGuide
from megu.guide.own import ConfusionGuide, OwnFeatureGuide, PosteriorGuide
from megu.guide.prompt import conversation
from megu.guide.replay import ReplayGuide
from megu.guide.served import ServedMllm
from megu.guide.shuffled import ShuffledGuide
from megu.guide.table import export_answers, import_answers
from megu.guide.tiny import TinyMllm

SOURCES = {
    "composed": ComposedGuide,
    "tiny": TinyMllm,
    "features": FeatureGuide,
    "names": NamesGuide,
    "llm-names": LlmNamesGuide,
    "posterior": PosteriorGuide,
    "confusion": ConfusionGuide,
    "own-features": OwnFeatureGuide,
    "shuffled": ShuffledGuide,
    "clip": ClipGuide,
    "mllm": LocalMllm,
    "served": ServedMllm,
    "replay": ReplayGuide,
}
# Need nothing but what pip installs and the classifier itself.
COMPARED = ("composed", "tiny", "features", "names", "llm-names", "posterior", "confusion", "own-features", "shuffled")

__all__ = [
    "COMPARED",
    "SOURCES",
    "Answer",
    "AnswersMissingError",
    "Book",
    "ClipGuide",
    "ComposedGuide",
    "ConfusionGuide",
    "FeatureGuide",
    "Guide",
    "GuideUnavailableError",
    "Inquiry",
    "LlmNamesGuide",
    "LocalMllm",
    "NamesGuide",
    "OwnFeatureGuide",
    "PosteriorGuide",
    "Question",
    "ReplayGuide",
    "ServedMllm",
    "ShuffledGuide",
    "TinyMllm",
    "answer_matrix",
    "ask",
    "conversation",
    "data_settings",
    "draw_exemplars",
    "draw_shots",
    "export_answers",
    "heard",
    "import_answers",
    "inquire",
    "questions_for",
    "read_batch",
    "replayed",
    "shipped",
    "to_ask",
    "write_batch",
]
