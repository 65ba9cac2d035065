r"""The paper's first cell on a network that is sure of its training images: one seed, so values without intervals."""

from shared.grid import read_grid
from shared.tracked import title

from megu.figures import markdown

METRICS = {"acc_retain_test": 1, "acc_forget_train": 1, "acc_forget_test": 0, "tow": 3}  # decimals
HEAD = ["method", "retained test acc., %", "forget images named right, %", "forgotten test images, %", "ToW"]


def values(data):
    r"""Values of the cell, method by metric, in the order of the methods."""
    rows = read_grid(data, "fast")[0]
    return rows.pivot_table(index="method", columns="metric", values="value", sort=False)[list(METRICS)]


def table(data):
    r"""Markdown: the cell, method by method."""
    rows = (
        [title(name), *(f"{row[metric]:.{digits}f}" for metric, digits in METRICS.items())]
        for name, row in values(data).iterrows()
    )
    return markdown.table(HEAD, rows)


def said(data):
    r"""What the table adds to the finding on eq. 11."""
    found = values(data)
    left = found["acc_forget_test"]
    return (
        f" At {found.loc['original', 'acc_retain_test']:.0f} % test accuracy (one seed) MeGU as printed, rates"
        f" inferred, leaves {left['megu-printed']:.0f} %, the default {left['megu']:.0f}, labels alone"
        f" {left['megu-no-noise']:.0f}."
    )
