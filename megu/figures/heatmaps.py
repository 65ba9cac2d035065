r"""Figures that are heat maps."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from megu.figures.style import ONLY_B, OURS, heat, panels, styled


def _limits(values):
    off = values[~np.eye(len(values), dtype=bool)]
    return off.min(), off.max()


@styled
def matrix(
    values: Float[np.ndarray, "K K"] | pd.DataFrame,
    names: Sequence[str],
    label: str,
    ax: Axes | None = None,
    marked: Sequence[tuple[int, int]] = (),
    **words: str,
) -> Figure:
    r"""A square matrix with its numbers, in colours of the values off the diagonal; an arrow of the colour bar, called
    ``label``, says that some on it lie beyond.  ``ax``: None for an own figure; ``marked``: (row, column) to frame;
    ``words``: title, xlabel, ylabel."""
    values, k = np.asarray(values, float), len(names)
    if ax is None:
        ax = plt.subplots(figsize=(0.52 * k + 1.6, 0.46 * k + 1.2))[1]
    low, high = _limits(values)
    table = pd.DataFrame(values, names, names)
    shown = heat(ax, table, low, high, lambda value: f"{value:.2f}".replace("0.", ".", 1))
    extend = {(1, 1): "both", (1, 0): "min", (0, 1): "max", (0, 0): "neither"}[values.min() < low, values.max() > high]
    ax.figure.colorbar(shown, ax=ax, label=label, extend=extend)
    for i, j in marked:
        ax.add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=ONLY_B, linewidth=2))
    ax.set(**words)
    return ax.figure


@styled
def matrices(table: Mapping[str, Float[np.ndarray, "K K"]], names: Sequence[str]) -> Figure:
    r"""Transition matrices by guide, each in colours of its own values off the diagonal."""
    fig, axes = panels(len(table), (2.4, 2.2), (0.8, 0.9), 3, sharey=True)
    for i, (ax, (guide, values)) in enumerate(zip(axes, table.items(), strict=True)):
        low, high = _limits(values)
        ax.imshow(values, cmap="cividis", vmin=low, vmax=high)
        ax.set_xticks(range(len(names)), names if i + 3 >= len(table) else (), rotation=90, fontsize=7)
        ax.set_yticks(range(len(names)), names, fontsize=7)
        ax.set_title(guide)
        ax.spines[:].set_visible(False)
    fig.supxlabel("class k", fontsize=9)
    fig.supylabel("candidate label", fontsize=9)
    return fig


@styled
def predictions(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    r"""What the forget images are taken for (role of appendix D); ``table``: method, label, share (percent), one value
    for each pair."""
    wide = table.pivot(index="method", columns="label", values="share").reindex(titles)[table["label"].unique()]
    wide = wide.rename(titles)
    fig, ax = plt.subplots(figsize=(0.62 * wide.shape[1] + 2.6, 0.36 * len(wide) + 1.6))
    shown = heat(ax, wide, 0.0, 100.0, lambda share: f"{share:.0f}")
    fig.colorbar(shown, ax=ax, label="share of forget images, %")
    if OURS in wide.index:
        ours = wide.loc[OURS]
        fig.suptitle(f"MeGU takes {ours.max():.0f} % of the forget images for {ours.idxmax()}")
    return fig
