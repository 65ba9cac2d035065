r"""Where in depth the forgotten concept parts from the others."""

import pandas as pd
from drawing import asked, main

from megu.figures import patterns as pattern_figures


def draw(data):
    """From entanglement.csv."""
    return pattern_figures.depth(pd.read_csv(data / "entanglement.csv"), asked(data))


if __name__ == "__main__":
    main(draw, "fig12_depth")
