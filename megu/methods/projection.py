r"""Kodge's gradient-free unlearning of classes: what only the forget images use is projected out of every layer.

Evidence in ``paper_figures/data``: ``tuning.csv``, validation images, seeds 100-102; ``comparison.csv``, seeds 0-2.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from megu.core.models import copy_of
from megu.datasets.images import Images
from megu.methods.registry import register
from megu.methods.task import Task
from megu.settings.config import Count, Part, Positive

_COLUMNS = 10_000  # activations of a layer that enter its decomposition, at most


class ProjectionSettings(Part):
    """``alpha_r``, ``alpha_f``: how far the retain and the forget space reach; images of each of the two sets."""

    alpha_r: Positive = 16.0
    alpha_f: Positive = 2.5
    images: Count = 900


_SEARCH = {"alpha_r": (10.0, 3000.0), "alpha_f": (0.3, 100.0)}
_PUBLISHED = {"alpha_r": 100.0, "alpha_f": 3.0}
_TITLE = "Gradient-free projection"


@register("projection", ProjectionSettings, _TITLE, scenarios=("class",), search=_SEARCH, published=_PUBLISHED)
@torch.no_grad()
def unlearn(task: Task, settings: ProjectionSettings) -> nn.Module:
    r"""The original with every linear and convolutional layer projected; nothing is trained, no gradient is taken.

    $W' = W\,(I - (P_f - P_f P_r))^\top$, P from `space` of the layer's inputs on retain and on forget images.
    Source: Kodge et al. 2024, arXiv 2312.00761.  Departs: all layers see the inputs that they have in the original.
    """
    model, images = copy_of(task.original).eval(), task.images
    forget, retain = (task.sample(part, settings.images, "images") for part in (task.split.forget, task.split.retain))
    with task.clock("activations"):
        of_forget, of_retain = (
            layer_inputs(model, images, part, task.generator("patches")) for part in (forget, retain)
        )
    with task.clock("projection"):
        for layer in of_forget:
            p_f, p_r = space(of_forget[layer], settings.alpha_f), space(of_retain[layer], settings.alpha_r)
            flat = layer.weight.flatten(1)
            layer.weight.copy_(
                (flat @ (torch.eye(len(p_f), device=flat.device) - (p_f - p_f @ p_r)).T).view_as(layer.weight)
            )
    return model


def space(activations: Float[Tensor, "m d"], alpha: float) -> Float[Tensor, "d d"]:
    r"""Importance-weighted projection on the span of activations.

    $P = U\,\mathrm{diag}(\lambda)\,U^\top$ with
    $\lambda_i = \alpha s_i / ((\alpha - 1) s_i + 1)$, $s_i = \sigma_i^2 / \sum_j \sigma_j^2$, U and $\sigma$ of the
    SVD.

    Args:
        activations: one row per place and image.
        alpha: positive; 1 keeps the relative energies, infinity is the plain projection.
    Returns: symmetric, eigenvalues in [0, 1].
    """
    # The d x d Gram matrix has the squared singular values, and is small where m is not.
    energy, u = torch.linalg.eigh((activations.T @ activations).double())
    s = energy.clamp(min=0) / energy.clamp(min=0).sum().clamp_min(1e-30)
    return ((u * (alpha * s / ((alpha - 1) * s + 1))) @ u.T).float()


def layer_inputs(
    model: nn.Module, images: Images, index: Int[Tensor, " n"], gen: torch.Generator, batch: int = 300
) -> dict[nn.Module, Float[Tensor, "_ d"]]:
    r"""Inputs of every `nn.Conv2d` (unfolded, random places) and `nn.Linear` on images ``index``: at most 10,000 rows
    of as many columns as its flattened weight has."""
    rows = {layer: [] for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    per_image = max(1, _COLUMNS // len(index))

    def keep(layer, inputs):
        x = inputs[0]
        if isinstance(layer, nn.Conv2d):
            x = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).transpose(1, 2)
        else:
            x = x.flatten(1, -2) if x.ndim > 2 else x[:, None]
        places = torch.rand(x.shape[:2], generator=gen).argsort(1)[:, :per_image].to(x.device)
        rows[layer].append(x.gather(1, places[..., None].expand(-1, -1, x.shape[2])).flatten(0, 1).float())

    hooks = [layer.register_forward_pre_hook(keep) for layer in rows]
    try:
        for part in index.split(batch):
            model(images.batch(part))
    finally:
        for hook in hooks:
            hook.remove()
    return {layer: torch.cat(parts) for layer, parts in rows.items() if parts}
