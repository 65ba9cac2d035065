r"""Seconds of every stage against images, forget images, classes and questions, as measured on a CPU."""

import pandas as pd
from drawing import folders, main

from megu.cost.predict import fitted
from megu.figures import cost as cost_figures


def draw(data):
    """From cost.csv."""
    return cost_figures.costs(fitted(pd.read_csv(data / "cost.csv")))


if __name__ == "__main__" and (folders()[0] / "cost.csv").exists():  # a run has none of its own
    main(draw, "fig20_cost")
