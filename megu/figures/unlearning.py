r"""Figures of one unlearning: its course, and whom it costs accuracy."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from megu.figures.style import ONLY_A, ONLY_B, SHARED, legend, panels, styled


@styled
def curve(table: pd.DataFrame, goal: Mapping[str, float], per_epoch: int) -> Figure:
    r"""What a model makes of forget and retain images after every step of a fine-tuning.

    Args:
        table: a row for each step, from 0: forgotten, perturbing (percent of the forget images that are named so), loss
            (of retain images, nats), retained (percent of them named right).
        goal: the same of the retrained model.  per_epoch: steps of an epoch.
    """
    fig, (left, right) = panels(2, (3.7, 2.5), (0.6, 0.9), sharey=False)
    for column, *look, label in (("forgotten", ONLY_B, "o", "own label"), ("perturbing", ONLY_A, "s", "new label")):
        colour, mark = look
        left.plot(table.index, table[column], f"{mark}-", color=colour, markersize=2.5, label=label)
    left.axhline(goal["forgotten"], color=ONLY_B, linestyle="--", linewidth=1, label="retrained: own label")
    right.plot(table.index, table["loss"], "o-", color=SHARED, markersize=2.5, label="loss of retain images")
    right.axhline(goal["loss"], color=SHARED, linestyle="--", linewidth=1, label="retrained: loss")
    for ax in (left, right):
        ax.set_xlabel("step")
        for end in range(per_epoch, len(table) - 1, per_epoch):
            ax.axvline(end, color="#dddddd", linewidth=1, zorder=0)
    left.set(ylabel="forget images, %", ylim=(-4, 104))
    right.set(ylabel="cross-entropy, nats", ylim=(0, 1.05 * max(table["loss"].max(), goal["loss"])))
    legend(fig, (left, right), "center", ncols=5, fontsize=8)
    first, last = table.iloc[0], table.iloc[-1]
    said = f"forget images named right {first['forgotten']:.0f} → {last['forgotten']:.0f} %"
    fig.suptitle(f"{said}; retain images {first['retained']:.0f} → {last['retained']:.0f} %")
    return fig
