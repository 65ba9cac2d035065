r"""Figure of a grid: how near to retraining every method comes, request by request."""

from collections.abc import Collection, Mapping

import pandas as pd
from matplotlib.figure import Figure

from megu.figures.markdown import contenders, number
from megu.figures.style import heat, panels, styled

PANELS = {  # metric -> (title, colour range, decimals, sign)
    "tow": ("tug-of-war (ToW), 1 = as retrained", (0, 1), 2, ""),
    "acc_forget": ("forget accuracy, points from the retrained model's", (-40, 0), 0, "+"),
    "acc_retain": ("retain test accuracy, points from the retrained model's", (-10, 0), 1, "+"),
}


@styled
def cells(table: pd.DataFrame, titles: Mapping[str, str], asked: Mapping[str, Collection[str]]) -> Figure:
    r"""A heat map for each of `PANELS`, requests in rows, methods by their mean ToW; bright is near to retraining.

    Args:
        table: cell (name of the row), method, metric, value (ToW itself, of others the gap).
        asked: of each cell its methods: a missing one is "not run" where it is among them, else "-".
    """
    wide = table.pivot(index=["metric", "cell"], columns="method", values="value")
    rows, tow = table["cell"].unique(), wide.loc["tow"]
    order = [name for name in tow.mean().sort_values(ascending=False, kind="stable").index if name in titles]
    fig, axes = panels(len(PANELS), (0.62 * len(order), 0.23 * len(rows)), (2.4, 2.6), 1, sharex=True)
    for ax, (metric, (title, (low, high), digits, sign)) in zip(axes, PANELS.items(), strict=True):
        part = wide.loc[metric].reindex(index=rows, columns=order)
        texts = pd.DataFrame({
            name: [
                number(value, None, digits, sign, "not run" if name in asked[row] else "-") for row, value in of.items()
            ]
            for name, of in part.items()
        })  # fmt: skip
        colours = part if metric == "tow" else -part.abs()
        heat(ax, colours.rename(columns=titles), low, high, texts)
        ax.set_title(title)
    if "megu" in order:
        best = tow.loc[rows, contenders(order)]
        first = best[best["megu"] >= best.max(axis=1)].notna().sum(axis=1) - 1
        where = "".join(f"\n({cell}: of {count + 1} methods)" for cell, count in first.items())
        reach = f"ToW {best['megu'].min():.2f} to {best['megu'].max():.2f}"
        fig.suptitle(f"By ToW MeGU comes nearest to retraining in {len(first)} of {len(rows)} requests: {reach}{where}")
    many = tow[order].notna().sum()
    axes[-1].set_xticklabels([f"{titles[name]} ({many[name]})" for name in order])
    axes[-1].set_xlabel("methods (number of requests),\nby mean ToW over these, which differ")
    return fig
