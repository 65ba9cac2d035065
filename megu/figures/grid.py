r"""Figures of a grid: times and gaps to retrain of every cell; nothing is computed here."""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from megu.figures.primitives import ZERO, by_part, legend, panels, stacked
from megu.figures.style import FLOOR, ONLY_B, PART_COLOURS, styled

OWN = {"original": {"color": "black", "marker": "x"}, "megu": {"color": ONLY_B, "marker": "D"}}  # what to look for
COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # the rest of Okabe-Ito without yellow
MARKERS = "os^v"  # of each next round of colours
REQUEST = ["dataset", "scenario", "forget"]
CELL = ["ours_arch", *REQUEST]
Asked = Mapping[tuple, Collection[str]]  # cell -> its methods
METRICS = {  # column -> (title, unit, below this the axis is linear)
    "acc_retain": ("retain test accuracy", "points", 1),
    "acc_forget": ("forget accuracy", "points", 1),
    "mia": ("loss attack AUC", "share", 0.01),
}


def _known(titles, table):
    return [name for name in titles if name in set(table["method"])]


def _looks(methods):
    """Colour and marker of every method."""
    others = [name for name in methods if name not in OWN]
    return OWN | {name: {"color": COLOURS[i % 5], "marker": MARKERS[i // 5]} for i, name in enumerate(others)}


@styled
def cell_times(table: pd.DataFrame, titles: Mapping[str, str], asked: Asked) -> Figure:
    r"""Time of every method as share of retraining, split into its parts, one panel for each cell.

    Args:
        table: ours_arch, dataset, scenario, forget, method, part, share (percent).
        titles: method name -> title, in the order of the bars.
        asked: a method without a time is "not run" where its cell has it, else "-".
    Returns: Figure.  Role of Figure 4 of arXiv 2602.17088.
    """
    cells, methods = list(table.groupby(CELL, sort=False)), _known(titles, table)
    columns = min(4, len(cells))
    lines, ours = -(-len(cells) // columns), []
    fig, axes = panels(lines, columns, (2.3, 0.19 * len(methods) + 0.8), (2.2, 0.6), sharex=True, sharey=True)
    for ax in axes.flat[len(cells) :]:
        ax.axis("off")
    for ax, (cell, rows) in zip(axes.flat, cells, strict=False):
        wide = by_part(rows, "share").reindex(methods)
        texts = ["not run" if name in asked.get(cell, ()) else "-" for name in methods]
        ran = wide.notna().any(axis=1).to_numpy()
        names = [titles[name] for name in methods]
        stacked(ax, wide, names, lambda i, total, r=ran, t=texts: f"{total:.0f}" if r[i] else t[i], fontsize=8)
        ax.axvline(100, linestyle="--", **ZERO)
        ax.set_title("{1}, {2}\n{3}, {0}".format(*cell), fontsize=8)
        ours += [wide.loc["megu"].sum()] if "megu" in methods and ran[methods.index("megu")] else []
    for column in range(columns):
        lowest = axes[(len(cells) - 1 - column) // columns, column]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel("% of retraining (dashed)")
    said = "without guide and evaluation; -: no method of this cell"
    first = f"MeGU takes {min(ours):.0f} to {max(ours):.0f} % of the time of retraining" if ours else "Time"
    fig.suptitle(f"{first}, {said}")
    legend(fig, axes.flat[: len(cells)], "outside lower center", ncols=len(PART_COLOURS))
    return fig


def _panel(ax, rows, cells, methods, titles, looks):
    """Gaps of every method in every cell of one network, and the retrained models' own spread."""
    floor = rows.loc["retrain"].reindex(cells)["half_width"].fillna(0) * 2**0.5
    for i, width in enumerate(floor):
        label = "difference of two sets of retrains (95 %)" if width else None
        ax.fill_betweenx([i - 0.46, i + 0.46], -width, width, color=FLOOR, linewidth=0, label=label)
        ax.axhline(i - 0.5, color="#bbbbbb", linewidth=0.5)
    y = np.arange(len(cells))
    for name, shift in zip(methods, np.linspace(-0.38, 0.38, len(methods)), strict=True):
        part = rows[rows.index.get_level_values("method") == name].droplevel("method").reindex(cells)
        look = {"linestyle": "none", "markersize": 3.5, "elinewidth": 0.8, "label": titles[name], **looks[name]}
        ax.errorbar(part["gap_to_retrain"], y + shift, xerr=part["gap_half_width"].fillna(0), **look)
    ax.axvline(0, **ZERO)


@styled
def cell_gaps(table: pd.DataFrame, titles: Mapping[str, str], asked: Asked) -> Figure:
    r"""Gap of every method to the retrained model, requests in rows, networks side by side, methods in colour, the
    retrained models' own spread in grey.

    Forget accuracy is that of the test images of what is forgotten, or of the forgotten images where single ones are.

    Args:
        table: the grid in the layout of the paper's tables, strict mode.
        titles: method name -> title, in the order of the legend.
        asked: a cell without values is "not run" where the grid has it on this network, else "not in the grid".
    Returns: Figure.  Role of appendix G of arXiv 2602.17088, for every cell.
    """
    table = table[table["status"] == "run"].drop_duplicates([*CELL, "method", "column"])
    methods, archs = [name for name in _known(titles, table) if name != "retrain"], table["ours_arch"].unique()
    cells = list(dict.fromkeys(table[REQUEST].itertuples(index=False, name=None)))
    shown = [(arch, column) for arch in archs for column in METRICS]
    fig, axes = panels(1, len(shown), (2.6, max(0.1 * len(methods) + 0.1, 0.35) * len(cells)), (2, 1.5))
    axes, looks = axes[0], _looks(methods)
    for ax, (arch, column) in zip(axes, shown, strict=True):
        title, unit, linear = METRICS[column]
        rows = table[(table["column"] == column) & (table["ours_arch"] == arch)].set_index(["method", *REQUEST])
        _panel(ax, rows, cells, methods, titles, looks)
        for i, cell in enumerate(cells):
            if cell not in rows.loc["retrain"].index:
                text = "not run" if (arch, *cell) in asked else "not in the grid"
                ax.text(0, i, text, ha="center", va="center", fontsize=8, backgroundcolor="white")
        ax.set_xscale("symlog", linthresh=linear)
        ax.tick_params(labelsize=8)
        few, many = rows["seeds"].min(), rows["seeds"].max()
        seeds = f"{few} to {many} seeds" if few < many else f"{many} seed{'s' if many > 1 else ''}"
        ax.set(title=f"{arch}, {seeds}\n{title}", xlabel=f"gap to retrain ({unit})", ylim=(len(cells) - 0.5, -0.5))
        ax.set_yticks(range(len(cells)), [f"{dataset}, {scenario}\n{forget}" for dataset, scenario, forget in cells])
    for k in range(len(METRICS)):  # the same metric has the same limits for every network
        low, high = zip(*(ax.get_xlim() for ax in axes[k :: len(METRICS)]), strict=True)
        for ax in axes[k :: len(METRICS)]:
            ax.set_xlim(min(low), max(high))
    legend(fig, axes, "outside lower center", ncols=4, fontsize=8)
    return fig
