r"""What the noise pair activates, against the same pixels shuffled."""

import pandas as pd
from drawing import main

from megu.figures import patterns as pattern_figures


def draw(data):
    """From noise_meaning.csv."""
    return pattern_figures.meaning(pd.read_csv(data / "noise_meaning.csv"))


if __name__ == "__main__":
    main(draw, "fig17_noise_meaning")
