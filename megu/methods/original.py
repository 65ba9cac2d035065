r"""The untouched original: the negative control of every claim that something was forgotten."""

from megu.core.models import copy_of
from megu.settings.config import Part


class OriginalSettings(Part):
    """Nothing to set."""


def unlearn(task, settings):
    r"""A copy of the original model.  Source: arXiv 2602.17088, row "original" of every table."""
    return copy_of(task.original)
