r"""Fine-tuning on retain images."""

from torch import nn

from megu.methods.registry import RATE, published, register
from megu.methods.task import Task
from megu.settings.config import Part, Recipe


class FinetuneSettings(Part):
    """The recipe."""

    recipe: Recipe = Recipe(epochs=3, lr=0.11)


@register("finetune", "Finetune", search=RATE, published=published(5, 0.02, 64))
def unlearn(task: Task, settings: FinetuneSettings) -> nn.Module:
    r"""$\theta' = \arg\min_\theta \sum_{(x, y) \subset D_r} \mathrm{CE}(f_\theta(x), y)$, from the original's weights.

    Source: arXiv 2602.17088, row "finetune".  Departs: as many epochs as the others here.
    """
    retain = task.retain_sample()
    return task.fine_tune(retain, task.images.y[retain], settings.recipe, label="finetune")
