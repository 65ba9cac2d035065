r"""Entangled concepts: the role of Figure 1 of arXiv 2602.17088, as a measurement."""

import pandas as pd
from drawing import asked, main

from megu.figures import patterns as pattern_figures


def draw(data):
    """From entanglement.csv: the last layer, the class that is asked about in maps.csv's first row."""
    found = pd.read_csv(data / "entanglement.csv")
    return pattern_figures.entanglement(found[found["layer"] == found["layer"].iloc[-1]], asked(data))


if __name__ == "__main__":
    main(draw, "fig1_entangled_concepts")
