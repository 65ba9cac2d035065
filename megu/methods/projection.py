r"""Kodge's unlearning of classes: what only the forget images use is projected out of every layer."""

import logging
from collections import defaultdict

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook

from megu.core.models import copy_of
from megu.datasets.images import Images
from megu.methods.registry import register
from megu.methods.task import Task
from megu.settings.config import Count, Part, Positive
from megu.settings.errors import SettingsError

_SEARCH = {"alpha_r": (10.0, 3000.0), "alpha_f": (0.3, 100.0)}


class ProjectionSettings(Part):
    """``alpha_r``, ``alpha_f``: reach of the retain and the forget space; images of each set."""

    alpha_r: Positive = 16.0
    alpha_f: Positive = 2.5
    images: Count = 900


_PUBLISHED = {"alpha_r": 100.0, "alpha_f": 3.0}


def has_plain_weights(model: nn.Module, _images=None) -> None:
    r"""Raises: SettingsError where a layer's weight is computed from others, or no layer can be projected."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and not isinstance(layer.weight, nn.Parameter):
            remedy = "choose another method, or take it off by torch.nn.utils.parametrize.remove_parametrizations"
            raise SettingsError(f"projection: {name}.weight is computed from others (as in a weight norm): {remedy}")
    if not any(isinstance(layer, nn.Conv2d | nn.Linear) and _moves(layer) for layer in model.modules()):
        raise SettingsError("projection: there is no nn.Linear or nn.Conv2d that is not frozen: choose another method")


def _moves(layer):
    return layer.weight.requires_grad


@register(
    "projection", "Gradient-free projection", scenarios=("class",), search=_SEARCH, published=_PUBLISHED,
    fits=has_plain_weights,
)  # fmt: skip
@torch.no_grad()
def unlearn(task: Task, settings: ProjectionSettings) -> nn.Module:
    r"""$W' = W\,(I - (P_f - P_f P_r))^\top$ of linear and convolutional layers, P: `space` of a layer's inputs.

    Each group of a grouped convolution is a layer of its own.  Weights of other layers stay, and it is said.
    Source: Kodge et al. 2024, arXiv 2312.00761.  Departs: all layers see the inputs that they have in the original.
    """
    model = copy_of(task.original)
    with task.clock("activations"):
        of_forget, of_retain = (
            layer_inputs(model, task.images, task.sample(part, settings.images, "images"), task.generator("patches"))
            for part in (task.split.forget, task.split.retain)
        )
    with task.clock("projection"):
        for layer, inputs in of_forget.items():
            groups = getattr(layer, "groups", 1)
            parts = zip(*(x.chunk(groups, -1) for x in (inputs, of_retain[layer])), strict=True)
            projected = []
            for weight, (forget, retain) in zip(layer.weight.flatten(1).chunk(groups), parts, strict=True):
                p_f, p_r = space(forget, settings.alpha_f), space(retain, settings.alpha_r)
                stays = torch.eye(len(p_f), device=p_f.device) - (p_f - p_f @ p_r)
                projected.append(weight @ stays.T)
            layer.weight.copy_(torch.cat(projected).view_as(layer.weight))
    done = {id(layer.weight) for layer in of_forget}
    if left := [name for name, w in model.named_parameters() if w.requires_grad and w.ndim > 1 and id(w) not in done]:
        told = "projection changes what nn.Linear and nn.Conv2d compute: %d other weights stay as they are, e.g. %s"
        logging.getLogger("megu").warning(told, len(left), left[0])
    return model


def space(activations: Float[Tensor, "m d"], alpha: float) -> Float[Tensor, "d d"]:
    r"""Importance-weighted projection on the span of activations: symmetric, eigenvalues in [0, 1].

    $P = U\,\mathrm{diag}(\lambda)\,U^\top$, $\lambda_i = \alpha s_i / ((\alpha - 1) s_i + 1)$, $s_i = \sigma_i^2 /
    \sum_j \sigma_j^2$, U and $\sigma$ of the SVD.

    Args: alpha: positive; 1 keeps the relative energies, infinity is the plain projection.
    """
    # The d x d Gram matrix has the squared singular values, and is small.
    energy, u = torch.linalg.eigh((activations.T @ activations).double())
    energy = energy.clamp(min=0)
    s = energy / energy.sum().clamp_min(1e-30)
    return ((u * (alpha * s / ((alpha - 1) * s + 1))) @ u.T).float()


def layer_inputs(
    model: nn.Module, images: Images, index: Int[Tensor, " n"], gen: torch.Generator
) -> dict[nn.Module, Float[Tensor, "_ d"]]:
    r"""Inputs of every `nn.Conv2d` (unfolded) and `nn.Linear` that moves at random places: at most 10,000 rows; of
    groups one after the other."""
    rows, per_image = defaultdict(list), max(1, 10_000 // len(index))

    def keep(layer, inputs):
        if not isinstance(layer, nn.Conv2d | nn.Linear) or not _moves(layer):
            return
        x = inputs[0]
        if isinstance(layer, nn.Conv2d):
            mode = {"zeros": "constant"}.get(layer.padding_mode, layer.padding_mode)
            x = F.pad(x, _padding(layer), mode)
            x = F.unfold(x, layer.kernel_size, layer.dilation, 0, layer.stride).transpose(1, 2)
        x = x.reshape(len(x), -1, x.shape[-1])
        places = torch.rand(x.shape[:2], generator=gen).argsort(1)[:, :per_image].to(x.device)
        rows[layer].append(x.gather(1, places[..., None].expand(-1, -1, x.shape[2])).flatten(0, 1).float())

    with register_module_forward_pre_hook(keep):
        for part in index.split(300):
            model(images.batch(part))
    return {layer: torch.cat(parts) for layer, parts in rows.items()}


def _padding(layer):
    # Left, right, top, bottom, as F.pad takes them.
    if layer.padding == "valid":
        return (0, 0, 0, 0)
    if layer.padding == "same":
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return tuple(side for n in reversed(total) for side in (n // 2, n - n // 2))
    return tuple(n for n in reversed(layer.padding) for _ in range(2))
