r"""How figures look, and what they are drawn of.

Everywhere ``titles`` is method name -> title in the order of the rows, and each of ``metrics`` has a panel; figures and
appendices are those of arXiv 2602.17088.
"""

import functools
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import Bbox

STYLE = {
    "font.size": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False,
    "figure.titlesize": 10, "figure.titleweight": "bold", "legend.frameon": False,
    "figure.dpi": 100, "savefig.dpi": 150, "savefig.bbox": "tight", "figure.constrained_layout.use": True,
}  # fmt: skip
SHARED, ONLY_A, ONLY_B, THIRD = "#7f7f7f", "#0072b2", "#d55e00", "#009e73"  # Okabe-Ito
NULL, FLOOR = "#bbbbbb", "#dddddd"  # bands: of chance, of retraining
ZERO = {"color": "black", "linewidth": 0.8}
OURS = "MeGU"  # stands out
PART_COLOURS = {"guide": THIRD, "labels": "#56b4e9", "noise": ONLY_B, "fine-tuning": ONLY_A, "training": SHARED}
PART_COLOURS["other"] = "#cc79a7"


def styled(draw: Callable) -> Callable:
    """Draw in the house's style, and close: else a notebook shows the figure twice."""

    @functools.wraps(draw)
    def styled(*args, **kwargs):
        with plt.rc_context(STYLE):
            fig = draw(*args, **kwargs)
        plt.close(fig)
        return fig

    return styled


def panels(
    count: int, size: tuple[float, float], margin: tuple[float, float] = (0, 0), columns: int | None = None, **kwargs
) -> tuple[Figure, np.ndarray]:
    r"""Figure and ``count`` axes of ``size`` inches, ``columns`` (None: all) in a row that shares its y axis."""
    columns = columns or count
    rows = -(-count // columns)
    inches = columns * size[0] + margin[0], rows * size[1] + margin[1]
    fig, axes = plt.subplots(rows, columns, figsize=inches, squeeze=False, **{"sharey": "row"} | kwargs)
    for ax in axes.flat[count:]:
        ax.axis("off")
    return fig, axes.flat[:count]


def legend(fig: Figure, axes: Sequence[Axes], side: str = "right", **kwargs):
    r"""One legend below the figure for what these axes hold."""
    entries = {text: handle for ax in axes for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(entries.values(), entries.keys(), loc=f"outside lower {side}", **kwargs)


def reach(table: pd.DataFrame) -> Float[np.ndarray, "2 n"]:
    r"""Of intervals to both sides; columns: value and half-width (NaN for none), or value, low, high."""
    value, low, *high = table.to_numpy(float).T
    return np.stack([value - low, high[0] - value] if high else [np.nan_to_num(low)] * 2)


def bold(labels: Sequence[Text]):
    r"""MeGU among labels in bold."""
    plt.setp([label for label in labels if label.get_text() == OURS], fontweight="bold")


def named(ax: Axes, names: Sequence[str], **kwargs):
    r"""Names at the rows, the first at the top, MeGU in bold."""
    ax.set_yticks(range(len(names)), names, **kwargs)
    ax.set_ylim(len(names) - 0.4, -0.6)
    bold(ax.get_yticklabels())


def forest(ax: Axes, table: pd.DataFrame, colour: str | None = None, fmt: str = "o", shift: float = 0.0, **kwargs):
    r"""Values with their intervals (see `reach`) in rows named by the index, moved by ``shift``; MeGU stands out unless
    ``colour`` is given."""
    y, ours = np.arange(len(table)) + shift, (table.index == OURS) & (colour is None)
    looks = {"color": colour or ONLY_A, "fmt": fmt, **kwargs}, {"color": ONLY_B, "fmt": "D"}
    for rows, look in zip((~ours, ours), looks, strict=True):
        if rows.any():
            ax.errorbar(table.iloc[rows, 0], y[rows], xerr=reach(table[rows]), capsize=3, markersize=4, **look)
    named(ax, table.index)


def name_points(ax: Axes, points: Float[np.ndarray, "n 2"], names: Sequence[str], **kwargs):
    r"""A name beside each point, nearer to it than to any other, where it covers no other text and no point, or afar
    with a line that crosses none; MeGU first and in bold.  To be called last: what changes the layout afterwards moves
    points under names."""
    ax.figure.draw_without_rendering()
    at, scale, inside = ax.transData.transform(points), ax.figure.dpi / 72, ax.get_window_extent()
    taken = [Bbox.from_bounds(x - 4 * scale, y - 4 * scale, 8 * scale, 8 * scale) for x, y in at]
    taken, lines = taken + [text.get_window_extent() for text in ax.texts], []
    steps = [(far, turn) for far in (7, 12, 18, 26, 36, 48, 60, 75, 90) for turn in np.pi * (0.25 + np.arange(24) / 12)]
    look = {"fontsize": 8, "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5}} | kwargs
    for i, name in sorted(enumerate(names), key=lambda one: one[1] != OURS):
        x, y = at[i]
        text = ax.text(0.5, 0.5, name, transform=ax.transAxes, **look, fontweight="bold" if name == OURS else None)
        wide, high, tried = *text.get_window_extent().size, []
        text.remove()
        for far, turn in steps:  # text grows away from its point
            right, up = np.cos(turn), np.sin(turn)
            left, low = x + far * scale * right - wide * (1 - right) / 2, y + far * scale * up - high * (1 - up) / 2
            box = Bbox.from_bounds(left, low, wide, high)
            free = box.x0 > inside.x0 and box.x1 < inside.x1 and box.y0 > inside.y0 and box.y1 < inside.y1
            way = Path([(x, y), ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)])
            crossed = sum(line.intersects_bbox(box, filled=False) for line in lines)
            if far > 7:
                crossed += sum(way.intersects_bbox(one, filled=False) for one in taken if not one.contains(x, y))
            else:
                apart = np.hypot(*(at - np.clip(at, box.p0, box.p1)).T)
                crossed += np.sum(apart < apart[i] + scale) - 1  # whose name is it?
            tried.append((3 * box.padded(2 * scale).count_overlaps(taken) + crossed + 9 * (not free), far, box, way))
            if not tried[-1][0]:
                break
        _, far, box, way = min(tried, key=lambda one: one[:2])
        taken.append(box)
        lines += [way] * (far > 7)
        line = {"arrowstyle": "-", "color": SHARED, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3} if far > 7 else None
        ax.annotate(
            name, ax.transData.inverted().transform((x, y)), ax.transAxes.inverted().transform(box.p0),
            textcoords="axes fraction", arrowprops=line, fontweight=text.get_fontweight(), **look,
        )  # fmt: skip


def by_part(table: pd.DataFrame, value: str) -> pd.DataFrame:
    r"""Methods in rows, parts in columns; "other" are those of single methods (teachers, importance)."""
    part = table["part"].where(table["part"].isin(PART_COLOURS), "other")
    wide = table.assign(part=part).pivot_table(index="method", columns="part", values=value, aggfunc="sum", sort=False)
    return wide[[name for name in PART_COLOURS if name in wide]]


def stacked(ax: Axes, wide: pd.DataFrame, texts: Sequence[str], **kwargs):
    r"""Bars of `by_part`, each with its text."""
    left = np.zeros(len(wide))
    for part, length in wide.fillna(0).items():
        ax.barh(range(len(wide)), length, left=left, color=PART_COLOURS[part], label=part)
        left += length.to_numpy()
    for y, (total, text) in enumerate(zip(left, texts, strict=True)):
        ax.text(total, y, f" {text}", va="center", fontsize=7)
    named(ax, wide.index, **kwargs)


def heat(
    ax: Axes, table: pd.DataFrame, low: float, high: float, text: Callable[[float], str] | pd.DataFrame
) -> AxesImage:
    r"""A heat map from ``low`` to ``high``, with texts and names where there are at most 20."""
    shown = ax.imshow(table, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    if max(table.shape) <= 20:
        for (i, j), said in np.ndenumerate(text if isinstance(text, pd.DataFrame) else table.map(text)):
            colour = "white" if table.iloc[i, j] <= (low + high) / 2 else "black"
            ax.text(j, i, said, ha="center", va="center", fontsize=7, color=colour)
        ax.set_xticks(range(table.shape[1]), table.columns, rotation=45, ha="right")
        bold(ax.get_xticklabels())
        named(ax, table.index)
        ax.set_ylim(len(table) - 0.5, -0.5)
    ax.spines[:].set_visible(False)
    return shown
