r"""The guide's matrix T against five views of the network's features."""

import pandas as pd
from drawing import main

from megu.figures import patterns as pattern_figures


def draw(data):
    """From view_agreement.csv: the run's first guide."""
    found = pd.read_csv(data / "view_agreement.csv")
    return pattern_figures.agreement(found[found["guide"] == found["guide"].iloc[0]])


if __name__ == "__main__":
    main(draw, "fig13_guide_agreement")
