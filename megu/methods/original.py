r"""The untouched original: the negative control of every claim that something was forgotten.

Evidence: nothing to tune; ``paper_figures/data/comparison.csv``, seeds 0-2.
"""

from torch import nn

from megu.core.models import copy_of
from megu.methods.registry import register
from megu.methods.task import Task
from megu.settings.config import Part


class OriginalSettings(Part):
    """Nothing to set."""


@register("original", OriginalSettings, "Original", reference=True)
def unlearn(task: Task, settings: OriginalSettings) -> nn.Module:
    r"""A copy of the original model.  Source: arXiv 2602.17088, row "original" of every table."""
    return copy_of(task.original)
