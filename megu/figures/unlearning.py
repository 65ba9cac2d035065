r"""Figures of one unlearning: its course, and whom it costs accuracy."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from megu.figures.markdown import contenders
from megu.figures.style import ONLY_A, ONLY_B, SHARED, ZERO, forest, legend, panels, styled


@styled
def curve(table: pd.DataFrame, goal: Mapping[str, float], per_epoch: int) -> Figure:
    r"""What a model makes of forget and retain images after every step of a fine-tuning.

    Args:
        table: a row for each step, from 0: forgotten, perturbing (percent of the forget images that are named so), loss
            (of retain images, nats), retained (percent of them named right).
        goal: the same of the retrained model.  per_epoch: steps of an epoch.
    """
    fig, (left, right) = panels(2, (3.7, 2.5), (0.6, 0.9), sharey=False)
    first, last = table.iloc[0], table.iloc[-1]
    for column, *look, label in (("forgotten", ONLY_B, "o", "own label"), ("perturbing", ONLY_A, "s", "new label")):
        colour, mark = look
        left.plot(table.index, table[column], f"{mark}-", color=colour, markersize=2.5, label=label)
    left.axhline(goal["forgotten"], color=ONLY_B, linestyle="--", linewidth=1, label="retrained: own label")
    right.plot(table.index, table["loss"], "o-", color=SHARED, markersize=2.5, label="loss of retain images")
    right.axhline(goal["loss"], color=SHARED, linestyle="--", linewidth=1, label="retrained: loss")
    for ax in (left, right):
        ax.set_xlabel("step")
        for end in range(per_epoch, len(table) - 1, per_epoch):
            ax.axvline(end, color="#dddddd", linewidth=1, zorder=0, label="end of an epoch")
    left.set(ylabel="forget images, %", ylim=(-4, 104))
    right.set(ylabel="cross-entropy, nats", ylim=(0, 1.05 * max(table["loss"].max(), goal["loss"])))
    legend(fig, (left, right), "center", ncols=3, fontsize=8)
    forget, retain = (f"{first[name]:.0f} → {last[name]:.0f} %" for name in ("forgotten", "retained"))
    loss = f"loss {first['loss']:.2f} → {last['loss']:.2f}"
    fig.suptitle(f"Forget images named right {forget}; retained ones {retain}, {loss}")
    return fig


@styled
def near_and_far(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    r"""Gap to the retrained model in retained classes that are near the forgotten one, and in those that are far.

    Args: table: group (adjacent, remote), method, mean, half_width (points).
    """
    wide = table[table["method"] != "retrain"].set_index(["group", "method"])[["mean", "half_width"]]
    methods = wide.loc["adjacent", "mean"].sort_values(ascending=False).index
    fig, ax = plt.subplots(figsize=(6.4, 0.42 * len(methods) + 1.4))
    ax.axvline(0, **ZERO)
    for group, *look in (("adjacent", ONLY_B, "D", -0.12), ("remote", ONLY_A, "o", 0.12)):
        forest(ax, wide.loc[group].reindex(methods).rename(titles), *look, label=f"{group} classes")
    ax.set_xlabel("test accuracy, points from the retrained model (95 %)")
    names, (near, far) = contenders(methods), (wide.loc[group] for group in ("adjacent", "remote"))
    worse, low = (near.loc[names, "mean"] < far.loc[names, "mean"]).sum(), near["mean"] + near["half_width"]
    shown = (low[names] < 0).sum()
    said = f"In adjacent classes {worse} of {len(names)} methods are lower than in remote ones (means)"
    fig.suptitle(f"{said},\n{shown} below the retrained model (95 % interval leaves 0 out)")
    legend(fig, [ax], "center", ncols=2)
    return fig
