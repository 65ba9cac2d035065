r"""Unique and associated patterns of forget images before and after unlearning."""

import pandas as pd
from drawing import main

from megu import pattern_figures


def draw(data):
    """From maps_after.csv."""
    return pattern_figures.maps(pd.read_csv(data / "maps_after.csv"))


if __name__ == "__main__":
    main(draw, "fig14_before_after")
