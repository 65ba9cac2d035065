r"""Unique and associated patterns of forget images before and after unlearning."""

import pandas as pd
from drawing import layers, main

from megu.figures import patterns as pattern_figures


def draw(data):
    """From maps_after.csv: the last block, as the notebook chooses it."""
    return pattern_figures.maps(pd.read_csv(data / "maps_after.csv"), layers(data)[-2])


if __name__ == "__main__":
    main(draw, "fig14_before_after")
