r"""Figure 3 of arXiv 2602.17088, the transition matrix; its agreement with the network's features, and the perturbing
labels that follow from it (appendix C)."""

import matplotlib.pyplot as plt
from shared.drawing import main, read
from shared.findings import beside

from megu.figures import heatmaps, patterns, results, style
from megu.guide.agreement import nearest

TITLES = {"composed": "T of the composed guide", "features": "T of class-mean features, without language"}


def transition(data):
    """Of the composed guide and of one without language; the frame marks the nearest other class."""
    table = read(data, "transition")
    names = list(table["class"].unique())
    with plt.rc_context(style.STYLE):
        fig, axes = plt.subplots(1, 2, figsize=(10.5, 4.4))
    for ax, (guide, title) in zip(axes, TITLES.items(), strict=True):
        part = table[table["guide"] == guide].pivot(index="candidate", columns="class", values="transition")
        part = part.reindex(index=names, columns=names)
        words = {"xlabel": "class k (framed: its nearest other class)", "ylabel": "candidate label"}
        words |= {"title": title, "label": "share of class k's similarity"}
        marked = [(j, k) for k, j in enumerate(nearest(part.T))]
        heatmaps.matrix(part, names, ax=ax, marked=marked, **words)
    return fig


def agreement(data):
    """Of the run's first guide with views of the features."""
    table = read(data, "view_agreement")
    return patterns.agreement(table[table["guide"] == table["guide"].iloc[0]])


def labels(data):
    """By the rank of the paper and by its alternatives."""
    return results.label_distribution(read(data, "label_distribution"))


def label_entanglement(data):
    """How often each perturbing label is chosen against how entangled it is with the forgotten class."""
    concept, table = beside(data)
    return results.share_and_index(table, concept)


if __name__ == "__main__":
    main(
        figure3_transition_matrix=transition,
        guide_agreement=agreement,
        perturbing_labels=labels,
        label_entanglement=label_entanglement,
    )
