r"""Figures of measured costs."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from megu.figures.style import ONLY_A, ONLY_B, SHARED, THIRD, panels, reach, styled

PANELS = {  # title -> (label of the axis, column, stages)
    "Images that are trained on or seen": ("images x epochs", "passes", ("fine-tuning", "evaluation")),
    "Images to forget": ("forget images", "value", ("noise", "MeGU without noise")),
    "Classes": ("classes K", "value", ("transition", "perturbing labels")),
    "Questions to the guide": (
        "questions (at a line: labels an image)", "value", ("guide tiny", "guide composed", "keys of questions"),
    ),
}  # fmt: skip


def _logarithmic(ax, **kwargs):
    ax.set(xscale="log", yscale="log", ylabel="seconds, one thread", **kwargs)
    for axis in (ax.xaxis, ax.yaxis):  # others run into each other
        axis.set_minor_formatter(NullFormatter())


def _points(ax, table, column, **kwargs):
    ax.errorbar(table[column], table["seconds"], yerr=reach(table[["seconds", "low", "high"]]), capsize=2, **kwargs)


def _note(ax, text, point, offset, **kwargs):
    ax.annotate(text, point, xytext=offset, textcoords="offset points", **kwargs)


@styled
def costs(table: pd.DataFrame) -> Figure:
    r"""Seconds of every stage against what they grow with, and the line through them; ``table``: from
    `megu.cost.predict.fitted`."""
    fig, axes = panels(4, (4.3, 3.2), columns=2, sharey=False)
    for ax, (title, (label, column, stages)) in zip(axes, PANELS.items(), strict=True):
        for stage, colour, marker in zip(stages, (ONLY_A, ONLY_B, THIRD), "osD", strict=False):
            part = table[table["stage"] == stage].sort_values("passes")
            if part.empty:
                continue
            _points(ax, part, column, fmt=marker, color=colour, markersize=4, label=stage)
            for variable, points in part.groupby("variable", sort=False):
                ax.plot(points[column], points["fitted"], color=colour, linewidth=1, linestyle="--")
                if "labels" in variable and len(points) > 1:
                    end = points[[column, "seconds"]].iloc[-1]
                    _note(ax, variable.split()[1], end, (-4, 6), fontsize=7, color=colour, ha="right")
        _logarithmic(ax, title=title, xlabel=label)
        ax.legend(loc="best")
    return fig


@styled
def steps(table: pd.DataFrame) -> Figure:
    r"""Seconds of a training step against its gflop, by network; grey: equal speeds.  ``table``: as of `costs`."""
    part = table[table["stage"].str.startswith("training step")].sort_values("gflop")
    fig, ax = plt.subplots(figsize=(5.6, 3.6))
    least, end = part["gflop"].iloc[0], 2 * part["gflop"].iloc[-1]
    for speed in (50, 100, 200, 400):
        ax.plot([least, end], [least / speed, end / speed], color=SHARED, linewidth=0.6)
        _note(ax, f"{speed} GFLOP/s", (end, end / speed), (3, -2), fontsize=7, color=SHARED)
    _points(ax, part, "gflop", fmt="o", color=ONLY_A)
    for row in part.itertuples():
        _note(ax, row.stage.partition(", ")[2], (row.gflop, row.seconds), (-8, 6), fontsize=8, ha="right")
    _logarithmic(ax, title="A training step of several networks", xlim=(least / 4, 1.2 * end))
    ax.set_xlabel("GFLOP of a step of 64 images")
    return fig
