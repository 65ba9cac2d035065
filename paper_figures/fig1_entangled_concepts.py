r"""Entangled concepts: the role of Figure 1 of arXiv 2602.17088, as a measurement."""

import pandas as pd
from drawing import main

from megu import figures


def draw(data):
    """From centroids.csv and units.csv."""
    pairs, units = pd.read_csv(data / "centroids.csv"), pd.read_csv(data / "units.csv")
    names = list(dict.fromkeys(pairs["class_a"]))
    sim = pairs.pivot(index="class_a", columns="class_b", values="similarity").reindex(index=names, columns=names)
    return figures.entanglement(sim, names, units, units["class_a"].iloc[0])


if __name__ == "__main__":
    main(draw, "fig1_entangled_concepts")
