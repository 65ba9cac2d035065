r"""Figure 1's role in the image: where associated and unique patterns of two entangled classes are seen."""

import pandas as pd
from drawing import layers, main

from megu.figures import patterns as pattern_figures


def draw(data):
    """From maps.csv: the last block but one, as the notebook chooses it."""
    return pattern_figures.maps(pd.read_csv(data / "maps.csv"), layers(data)[-3])


if __name__ == "__main__":
    main(draw, "fig11_where")
