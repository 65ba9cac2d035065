r"""The transition matrix: Figure 3 of arXiv 2602.17088, for the composed guide and for the control without language."""

import matplotlib.pyplot as plt
import pandas as pd
from drawing import main

from megu.figures import heatmaps, style
from megu.guide.agreement import nearest

TITLES = {"composed": "T of the composed guide", "features": "T of the control: class-mean features"}


def draw(data):
    """From transition.csv; the frame marks the nearest other class."""
    table = pd.read_csv(data / "transition.csv")
    names = list(dict.fromkeys(table["class"]))
    with plt.rc_context(style.STYLE):
        fig, axes = plt.subplots(1, 2, figsize=(13, 5.2))
    for ax, (guide, title) in zip(axes, TITLES.items(), strict=True):
        part = (
            table[table["guide"] == guide]
            .pivot(index="candidate", columns="class", values="transition")
            .reindex(index=names, columns=names)
        )
        marked = [(j, k) for k, j in enumerate(nearest(part.T))]
        below = "class k (framed: its nearest other class)"
        heatmaps.matrix(
            part,
            names,
            title=title,
            xlabel=below,
            ylabel="candidate label",
            label="share of class k's similarity",
            ax=ax,
            marked=marked,
        )
    return fig


if __name__ == "__main__":
    main(draw, "fig3_transition_matrix")
