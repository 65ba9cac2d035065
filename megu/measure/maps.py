r"""Where in the image a set of patterns is seen: class-activation maps through the features seam, for maps of a CNN and
tokens of a ViT."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from megu.core.models import activations
from megu.measure.patterns import Moments


def places(layer: Float[Tensor, "n d ..."]) -> Float[Tensor, "n d h w"]:
    r"""Activations laid out in the image: a map as it is; tokens ``(n, t, d)`` to ``(n, d, g, g)``, without a class
    token.

    Raises: ValueError where the layer has no places, such as the head's input.
    """
    if layer.ndim == 4:
        return layer
    side = int(layer.shape[1] ** 0.5) if layer.ndim == 3 else 0
    if not side or layer.shape[1] - side**2 not in (0, 1):
        raise ValueError(
            f"activations of shape {tuple(layer.shape)} have no places in the image: choose a layer of feature maps or"
            " of patch tokens"
        )
    return layer[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))


@torch.no_grad()
def pattern_map(
    model: nn.Module, x: Float[Tensor, "n C H W"], layer: str, units: Bool[np.ndarray, " d"], found: Moments
) -> Float[Tensor, "n H W"]:
    r"""Where in each image a set of units is more active than usual.

    $M(p) = \frac{1}{|S|}\sum_{j \in S} \max(0, (a_j(p) - \bar a_j) / s_j)$ at place p, brought to the image's size.

    Args:
        x: normalised.  layer: name of a sub-module with places.
        units: S, e.g. rows of `megu.measure.patterns.Patterns.serves` joined by & and ~; an empty
            set gives zeros.
        found: of the layer, for mean and spread.  Of the original, so that a model made
            from it can be compared.
    Returns: 0 or more, in standard deviations.
    Source: class activation maps (Zhou et al. 2016) with tested pattern sets in place of one class's weights.
    """
    laid = places(activations(model, x, (layer,))[1][layer]).float()
    chosen = torch.as_tensor(units, device=x.device)
    mean, spread = (
        torch.as_tensor(v, dtype=laid.dtype, device=x.device)[:, None, None] for v in (found.mean(), found.spread())
    )
    above = ((laid - mean) / spread).clamp(min=0)[:, chosen].sum(1) / max(int(chosen.sum()), 1)
    return F.interpolate(above[:, None], x.shape[-2:], mode="bilinear")[:, 0]


def tidy(images, index, rows, panels):
    r"""Maps of several images as one table.

    Args:
        images: `megu.datasets.images.Images`.  index: ``(n,)`` int64.  rows: n titles.
        panels: title -> maps ``(n, H, W)`` of `pattern_map`, or None for the image alone.
    Returns: DataFrame: row, panel, y, x, grey (the image in [0, 1]), value (of the map).
    """
    grey = images.x[index].float().mean(1).cpu().numpy() / 255  # (n, H, W)
    y, x = np.indices(grey.shape[1:])
    out = []
    for i, row in enumerate(rows):
        for panel, found in panels.items():
            value = np.full(grey[i].shape, np.nan) if found is None else found[i].cpu().numpy()
            place = {"row": row, "panel": panel, "y": y.ravel(), "x": x.ravel()}
            out.append(pd.DataFrame({**place, "grey": grey[i].ravel(), "value": value.ravel()}))
    return pd.concat(out, ignore_index=True)
