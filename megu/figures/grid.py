r"""Figures of a grid: times and gaps to retrain of every cell."""

from collections.abc import Collection, Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from megu.figures.markdown import number
from megu.figures.style import FLOOR, ONLY_B, PART_COLOURS, ZERO, by_part, legend, panels, stacked, styled

OWN = {"original": {"color": "black", "marker": "x"}, "megu": {"color": ONLY_B, "marker": "D"}}
COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # of Okabe-Ito
MARKERS = "os^v"  # each for a round of colours
REQUEST = ["dataset", "scenario", "forget"]
CELL = ["ours_arch", *REQUEST]
Asked = Mapping[tuple, Collection[str]]  # cell -> its methods
METRICS = {  # column -> (title, unit, below this the axis is linear)
    "acc_retain": ("retain test accuracy", "points", 1),
    "acc_forget": ("forget accuracy", "points", 1),
    "mia": ("loss attack AUC", "share", 0.01),
}


@styled
def cell_times(table: pd.DataFrame, titles: Mapping[str, str], asked: Asked) -> Figure:
    r"""Time of every method as share of retraining by part, one panel for each cell (role of Figure 4).

    Args:
        table: ours_arch, dataset, scenario, forget, method, part, share (percent).
        asked: a method without a time is "not run" where its cell has it, else "-".
    """
    cells, methods = list(table.groupby(CELL, sort=False)), [name for name in titles if name in set(table["method"])]
    columns, size = min(4, len(cells)), (2.3, 0.19 * len(methods) + 0.8)
    fig, axes = panels(len(cells), size, (2.2, 0.6), columns, sharex=True, sharey=True)
    for ax, (cell, rows) in zip(axes, cells, strict=True):
        wide = by_part(rows, "share").reindex(methods)
        has, total = asked.get(cell, ()), wide.sum(axis=1, min_count=1)
        texts = [number(share, digits=0, missing="not run" if name in has else "-") for name, share in total.items()]
        stacked(ax, wide.rename(titles), texts, fontsize=8)
        ax.axvline(100, linestyle="--", **ZERO)
        ax.set_title("{1}, {2}\n{3}, {0}".format(*cell), fontsize=8)
    for lowest in axes[-columns:]:
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel("% of retraining (dashed)")
    ours = table[table["method"] == "megu"].groupby(CELL)["share"].sum()
    first = f"MeGU takes {ours.min():.0f} to {ours.max():.0f} % of the time of retraining" if len(ours) else "Time"
    fig.suptitle(f"{first}, without guide and evaluation; -: no method of this cell")
    legend(fig, axes, "center", ncols=len(PART_COLOURS))
    return fig


def _panel(ax, rows, cells, titles):
    floor = rows.loc["retrain"].reindex(cells)["half_width"].fillna(0) * 2**0.5
    for i, width in enumerate(floor):
        label = "difference of two sets of retrains (95 %)" if width else None
        ax.fill_betweenx([i - 0.46, i + 0.46], -width, width, color=FLOOR, linewidth=0, label=label)
        ax.axhline(i - 0.5, color="#bbbbbb", linewidth=0.5)
    others = [name for name in titles if name not in OWN]
    looks = {name: {"color": COLOURS[i % 5], "marker": MARKERS[i // 5]} for i, name in enumerate(others)} | OWN
    for (name, title), shift in zip(titles.items(), np.linspace(-0.38, 0.38, len(titles)), strict=True):
        part = rows[rows.index.get_level_values("method") == name].droplevel("method").reindex(cells)
        look = {"linestyle": "none", "markersize": 3.5, "elinewidth": 0.8, "label": title, **looks[name]}
        y = np.arange(len(cells)) + shift
        ax.errorbar(part["gap_to_retrain"], y, xerr=part["gap_half_width"].fillna(0), **look)
    ax.axvline(0, **ZERO)


@styled
def cell_gaps(table: pd.DataFrame, titles: Mapping[str, str], asked: Asked) -> Figure:
    r"""Gap of every method to the retrained model, requests in rows, networks side by side; grey: the retrained models'
    own spread (role of appendix G).  Forget accuracy: on test images, or on the forgotten ones of scenario random.

    Args:
        table: the grid in the layout of the paper's tables, strict mode.
        asked: a cell without values is "not run" where the grid has it on this network, else "not in the grid".
    """
    table = table[table["status"] == "run"].drop_duplicates([*CELL, "method", "column"])
    titles = {name: titles[name] for name in titles if name in set(table["method"]) - {"retrain"}}
    cells = list(table.groupby(REQUEST, sort=False).groups)
    shown = [(arch, column) for arch in table["ours_arch"].unique() for column in METRICS]
    fig, axes = panels(len(shown), (2.6, max(0.1 * len(titles) + 0.1, 0.35) * len(cells)), (2, 1.5))
    for ax, (arch, column) in zip(axes, shown, strict=True):
        title, unit, linear = METRICS[column]
        rows = table[(table["column"] == column) & (table["ours_arch"] == arch)].set_index(["method", *REQUEST])
        _panel(ax, rows, cells, titles)
        for i, cell in enumerate(cells):
            if cell not in rows.loc["retrain"].index:
                text = "not run" if (arch, *cell) in asked else "not in the grid"
                ax.text(0, i, text, ha="center", va="center", fontsize=8, backgroundcolor="white")
        ax.set_xscale("symlog", linthresh=linear)
        ax.tick_params(labelsize=8)
        few, many = rows["seeds"].agg(["min", "max"])
        seeds = f"{few} to {many} seeds" if few < many else f"{many} seed{'s' if many > 1 else ''}"
        ax.set(title=f"{arch}, {seeds}\n{title}", xlabel=f"gap to retrain ({unit})", ylim=(len(cells) - 0.5, -0.5))
        ax.set_yticks(range(len(cells)), ["{}, {}\n{}".format(*cell) for cell in cells])
    for same in axes.reshape(-1, len(METRICS)).T:  # the networks' panels of a metric
        low, high = zip(*(ax.get_xlim() for ax in same), strict=True)
        plt.setp(same, xlim=(min(low), max(high)))
    legend(fig, axes, "center", ncols=4, fontsize=8)
    return fig
