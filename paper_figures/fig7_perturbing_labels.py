r"""Appendix C's role: which classes are chosen as perturbing labels, by the rank of the paper and by its
alternatives."""

import pandas as pd
from drawing import main

from megu.figures import results as figures


def draw(data):
    """From label_distribution.csv."""
    return figures.label_distribution(pd.read_csv(data / "label_distribution.csv"))


if __name__ == "__main__":
    main(draw, "fig7_perturbing_labels")
