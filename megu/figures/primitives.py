r"""Four drawings of which figures are made: panels, a forest of intervals, stacked bars, a heat map."""

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from megu.figures.style import ONLY_A, ONLY_B, OURS, PART_COLOURS

ZERO = {"color": "black", "linewidth": 0.8}


def panels(
    n_rows: int, n_columns: int, size: tuple[float, float], margin: tuple[float, float], **kwargs
) -> tuple[Figure, np.ndarray]:
    r"""Figure and ``(n_rows, n_columns)`` axes, each of ``size`` inches; the panels of a row share their y axis."""
    width, height = n_columns * size[0] + margin[0], n_rows * size[1] + margin[1]
    return plt.subplots(n_rows, n_columns, figsize=(width, height), squeeze=False, **{"sharey": "row"} | kwargs)


def legend(fig: Figure, axes: Sequence[Axes], loc: str = "outside lower right", **kwargs):
    r"""One legend below the figure for what these axes hold."""
    entries = {text: handle for ax in axes for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(entries.values(), entries.keys(), frameon=False, loc=loc, **kwargs)


def named(ax: Axes, names: Sequence[str], **kwargs):
    r"""Names at the rows, the first at the top, MeGU in bold."""
    ax.set_yticks(range(len(names)), names, **kwargs)
    ax.set_ylim(len(names) - 0.4, -0.6)
    for label in ax.get_yticklabels():
        if label.get_text() == OURS:
            label.set_fontweight("bold")


def forest(
    ax: Axes,
    names: Sequence[str],
    mean: Float[np.ndarray, " n"],
    reach: Float[np.ndarray, " n"] | Float[np.ndarray, "2 n"],
    *,
    colour: str | None = None,
    marker: str = "o",
    shift: float = 0.0,
    label: str | None = None,
):
    r"""A value with its interval in each row; without a colour of its own, MeGU's stands out.

    Args:
        reach: of the intervals to both sides, or to the left and to the right; NaN for none.
        shift: of the rows, for several values in one.
        label: in the legend.
    """
    mean, reach = np.asarray(mean, float), np.nan_to_num(np.asarray(reach, float))
    ours, y = np.array([name == OURS for name in names], bool) & (colour is None), np.arange(len(names)) + shift
    for rows, tint, mark, text in ((~ours, colour or ONLY_A, marker, label), (ours, ONLY_B, "D", None)):
        if rows.any():
            look = {"fmt": mark, "color": tint, "capsize": 3, "markersize": 4, "label": text}
            ax.errorbar(mean[rows], y[rows], xerr=reach[..., rows], **look)
    named(ax, names)


def by_part(table: pd.DataFrame, value: str) -> pd.DataFrame:
    r"""Methods in rows, parts in columns; what single methods have (teachers, importance, ...) is together "other"."""
    part = table["part"].where(table["part"].isin(PART_COLOURS), "other")
    wide = table.assign(part=part).pivot_table(index="method", columns="part", values=value, aggfunc="sum", sort=False)
    return wide[[name for name in PART_COLOURS if name in wide]]


def stacked(ax: Axes, wide: pd.DataFrame, names: Sequence[str], text: Callable[[int, float], str], **kwargs):
    r"""Bars of `by_part`, each with a text of its number and length behind it."""
    left = np.zeros(len(wide))
    for part in wide:
        length = wide[part].fillna(0).to_numpy()
        ax.barh(range(len(wide)), length, left=left, color=PART_COLOURS[part], label=part)
        left += length
    for i, total in enumerate(left):
        ax.text(total, i, f" {text(i, total)}", va="center", fontsize=7)
    named(ax, names, **kwargs)


def heat(
    ax: Axes,
    values: Float[np.ndarray, "n m"],
    rows: Sequence[str],
    columns: Sequence[str],
    limits: tuple[float, float],
    text: Callable[[float], str],
) -> AxesImage:
    r"""A heat map between two limits, with numbers and names where there are few."""
    shown = ax.imshow(values, cmap="cividis", vmin=limits[0], vmax=limits[1], aspect="auto")
    if max(values.shape) <= 20:
        for (i, j), value in np.ndenumerate(values):
            colour = "black" if value > sum(limits) / 2 else "white"
            ax.text(j, i, text(value), ha="center", va="center", fontsize=7, color=colour)
        ax.set_xticks(range(values.shape[1]), columns, rotation=45, ha="right")
        named(ax, rows)
        ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.spines[:].set_visible(False)
    return shown
