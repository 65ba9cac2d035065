r"""The "retrain" of the public code (compat): a fresh head on the original's body, which saw the forget images.

Evidence: the public code's recipe; ``paper_figures/data/comparison.csv``, seeds 0-2.
"""

from torch import nn

from megu.core.models import copy_of, head
from megu.methods.registry import register
from megu.methods.task import Task
from megu.settings.config import Part, Recipe


class RetrainHeadSettings(Part):
    """The recipe; of the published one, the rate and the missing augmentation."""

    recipe: Recipe = Recipe(lr=0.01, nesterov=False, schedule="constant")


@register("retrain-head", RetrainHeadSettings, "Retrain, head reset (compat)", reference=True)
def unlearn(task: Task, settings: RetrainHeadSettings) -> nn.Module:
    r"""The original with a new head, trained further on all retain images.

    Source: the SSD code base, whose reset reaches only the classification head.  Not a reference for unlearning: it is
        here so that published columns can be read.
    """
    model, retain = copy_of(task.original), task.split.retain
    new, fresh = head(model), head(task.fresh_model())
    new.load_state_dict(fresh.state_dict())
    return task.train_on(model, retain, task.images.y[retain], settings.recipe, label="retrain, head reset")
