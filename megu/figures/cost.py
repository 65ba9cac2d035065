r"""Measured costs to a figure: seconds of every stage against what they grow with."""

import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter

from megu.figures.style import ONLY_A, ONLY_B, SHARED, THIRD, styled

PANELS = {  # title -> (label of the axis, column, stages)
    "Images that are trained on or seen": ("images x epochs", "passes", ("fine-tuning", "evaluation")),
    "Images to forget": ("forget images", "value", ("noise", "MeGU without noise")),
    "Classes": ("classes K", "value", ("transition", "perturbing labels")),
    "Questions to the guide": (
        "questions (at a line: labels an image)",
        "value",
        ("guide tiny", "guide composed", "keys of questions"),
    ),
}


def _plain(ax):
    # Powers of ten alone: numbers between them run into each other.
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())


@styled
def costs(table):
    r"""Seconds against images, forget images, classes and questions, with the line through them, on logarithmic axes.

    Args:
        table: DataFrame from `megu.cost.predict.fitted`: stage, variable, value, passes, seconds, low, high, fitted.
    Returns: Figure.
    """
    fig, axes = plt.subplots(2, 2, figsize=(8.6, 6.4))
    for ax, (title, (label, column, stages)) in zip(axes.flat, PANELS.items(), strict=True):
        for stage, colour, marker in zip(stages, (ONLY_A, ONLY_B, THIRD), "osD", strict=False):
            part = table[table["stage"] == stage].sort_values("passes")
            if not len(part):
                continue
            error = [part["seconds"] - part["low"], part["high"] - part["seconds"]]
            ax.errorbar(
                part[column],
                part["seconds"],
                yerr=error,
                fmt=marker,
                color=colour,
                markersize=4,
                capsize=2,
                label=stage,
            )
            for variable, points in part.groupby("variable", sort=False):
                ax.plot(points[column], points["fitted"], color=colour, linewidth=1, linestyle="--")
                if (
                    "labels" in variable and len(points) > 1
                ):  # a line of each number of labels that images are asked about
                    end = (points[column].iloc[-1], points["seconds"].iloc[-1])
                    ax.annotate(
                        variable.split()[1],
                        end,
                        fontsize=7,
                        color=colour,
                        xytext=(-4, 6),
                        ha="right",
                        textcoords="offset points",
                    )
        ax.set(xscale="log", yscale="log", title=title, xlabel=label, ylabel="seconds, one thread")
        _plain(ax)
        ax.legend(frameon=False, loc="best")
    return fig


@styled
def steps(table):
    r"""Seconds of a training step against its operations, by network; grey: equal speeds.

    Args:
        table: the same; gflop of each step.
    Returns: Figure.
    """
    part = table[table["stage"].str.startswith("training step")].sort_values("gflop")
    fig, ax = plt.subplots(figsize=(5.6, 3.6))
    for speed in (50, 100, 200, 400):
        end = 2 * part["gflop"].iloc[-1]
        ax.plot([part["gflop"].iloc[0], end], [part["gflop"].iloc[0] / speed, end / speed], color=SHARED, linewidth=0.6)
        ax.annotate(
            f"{speed} GFLOP/s", (end, end / speed), fontsize=7, color=SHARED, xytext=(3, -2), textcoords="offset points"
        )
    ax.errorbar(
        part["gflop"],
        part["seconds"],
        yerr=[part["seconds"] - part["low"], part["high"] - part["seconds"]],
        fmt="o",
        color=ONLY_A,
        capsize=2,
    )
    for row in part.itertuples():
        ax.annotate(
            row.stage.partition(", ")[2],
            (row.gflop, row.seconds),
            fontsize=8,
            xytext=(-8, 6),
            ha="right",
            textcoords="offset points",
        )
    ax.set(
        xscale="log",
        yscale="log",
        xlim=(part["gflop"].iloc[0] / 4, 1.2 * end),
        xlabel="GFLOP of a step of 64 images",
        ylabel="seconds, one thread",
        title="A training step of several networks",
    )
    _plain(ax)
    return fig
