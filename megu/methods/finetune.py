r"""Fine-tuning on retain images: forgetting by neglect."""

from megu.core.models import copy_of
from megu.settings.config import Part, Recipe


class FinetuneSettings(Part):
    """The fine-tuning's recipe."""

    recipe: Recipe = Recipe(epochs=3, lr=0.11)


def unlearn(task, settings):
    r"""The original, trained further on a sample of retain images with their own labels.

    $\theta' = \arg\min_\theta \sum_{(x, y) \subset D_r} \mathrm{CE}(f_\theta(x), y)$, started at the original's
    weights.
    Source: arXiv 2602.17088, row "finetune".  Departs: the same retain sample and epochs as every other method here.
    """
    retain = task.retain_sample()
    with task.clock("fine-tuning"):
        return task.train_on(copy_of(task.original), retain, task.images.y[retain], settings.recipe, label="finetune")
