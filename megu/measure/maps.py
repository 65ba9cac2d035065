"""Where in the image a set of patterns is seen, by maps of a CNN or tokens of a ViT."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from megu.core.models import activations
from megu.measure.patterns import Moments


def places(layer: Float[Tensor, "n d ..."]) -> Float[Tensor, "n d h w"]:
    """Activations laid out in the image: a map as it is; tokens ``(n, t, d)`` in a square, without a class token.

    Raises: ValueError where the layer has no places, such as the head's input.
    """
    if layer.ndim == 4:
        return layer
    side = int(layer.shape[1] ** 0.5) if layer.ndim == 3 else 0
    if not side or layer.shape[1] - side**2 not in (0, 1):
        raise ValueError(
            f"activations of shape {tuple(layer.shape)} have no places in the image: choose a layer of maps or tokens"
        )
    return layer[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))


@torch.no_grad()
def pattern_map(
    model: nn.Module, x: Float[Tensor, "n C H W"], layer: str, units: Bool[np.ndarray, " d"], found: Moments
) -> Float[Tensor, "n H W"]:
    r"""Where in each image a set of units is more active than usual, in standard deviations, at least 0.

    $M(p) = \frac{1}{|S|}\sum_{j \in S} \max(0, (a_j(p) - \bar a_j) / s_j)$ at place p, brought to the image's size.

    Args: units: S; an empty set gives zeros.  found: of the original, so that models made from it can be compared.
    Source: class activation maps (Zhou et al. 2016) with tested pattern sets in place of one class's weights.
    """
    laid = places(activations(model, x, (layer,))[1][layer]).float()
    mean, spread = (torch.as_tensor(v).to(laid)[:, None, None] for v in (found.mean(), found.spread()))
    above = ((laid - mean) / spread).clamp(min=0)[:, torch.as_tensor(units, device=x.device)]
    above = above.sum(1, keepdim=True) / max(int(units.sum()), 1)
    return F.interpolate(above, x.shape[-2:], mode="bilinear")[:, 0]


def tidy(images, index, rows, panels) -> pd.DataFrame:
    """Maps as one table: row, panel, y, x, grey (the image in [0, 1]), value (of the map).

    Args: rows: n titles.  panels: title -> maps ``(n, H, W)`` of `pattern_map`, or None for the image alone.
    """
    grey = images.x[index].float().mean(1).cpu().numpy() / 255  # (n, H, W)
    y, x = np.indices(grey.shape[1:]).reshape(2, -1)
    out = []
    for i, row in enumerate(rows):
        for panel, found in panels.items():
            value = np.nan if found is None else found[i].flatten().cpu().numpy()
            columns = {"row": row, "panel": panel, "y": y, "x": x, "grey": grey[i].ravel(), "value": value}
            out.append(pd.DataFrame(columns))
    return pd.concat(out, ignore_index=True)
