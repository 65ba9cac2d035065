r"""Head only, a control: the last layer alone is fine-tuned and the forgotten logits are masked; features stay."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from megu.core.models import copy_of, linear_head
from megu.datasets.images import Images
from megu.methods.registry import register
from megu.methods.task import Task
from megu.settings.config import Part, Recipe
from megu.settings.errors import SettingsError

MASKED = -100.0  # a logit so low that softmax gives it nothing in float32, while losses stay finite


class HeadOnlySettings(Part):
    """The recipe: fine-tuning's, not tuned."""

    recipe: Recipe = Recipe(epochs=3, lr=0.11)


def head_with_bias(original: nn.Module, images: Images) -> nn.Linear:
    r"""The last layer.  Raises: SettingsError where it is not linear, or has no bias, which the mask needs."""
    if (last := linear_head(original, images)) is None or last.bias is None:
        raise SettingsError("head-only: the last layer is not linear with a bias: choose another method")
    return last


@register("head-only", "Head only, forgotten logit masked", scenarios=("class",), fits=head_with_bias)
def unlearn(task: Task, settings: HeadOnlySettings) -> nn.Module:
    r"""Weights of the last layer minimise $\sum_{D_r} \mathrm{CE}$ over the retained logits; those of the forgotten
    classes are a constant that no image reaches.  The features stay the original's, bit for bit.

    Raises: see `head_with_bias`.
    Source: the classifier-only control of arXiv 2604.08271.  Departs: the mask is written into the weights.
    """
    model, retain, y = copy_of(task.original).eval(), task.retain_sample(), task.images.y
    last, moves = head_with_bias(model, task.images), [weight.requires_grad for weight in model.parameters()]
    model.requires_grad_(False)
    last.requires_grad_(True)
    forgotten = torch.tensor(task.forgotten, device=y.device)

    def loss(logits: Float[Tensor, "b K"], y: Int[Tensor, " b"]) -> Float[Tensor, ""]:
        return F.cross_entropy(logits.index_fill(1, forgotten, -torch.inf), y)

    model.train = lambda mode=True: model  # it stays in eval mode, so that no statistics of its features move
    with task.clock("fine-tuning"):
        task.train_on(model, retain, y[retain], settings.recipe, loss=loss, label="head only")
    del model.train
    with torch.no_grad():
        last.weight[forgotten], last.bias[forgotten] = 0.0, MASKED
    for weight, moved in zip(model.parameters(), moves, strict=True):
        weight.requires_grad_(moved)
    return model
