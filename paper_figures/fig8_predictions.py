r"""Appendix D's role: what the forget images are taken for after unlearning, mean over the seeds."""

import pandas as pd
from drawing import main

from megu.figures import heatmaps
from megu.methods import METHODS


def draw(data):
    """From predictions.csv."""
    found = pd.read_csv(data / "predictions.csv")
    table = found.groupby(["method", "label"], sort=False, as_index=False)["share"].mean()
    return heatmaps.predictions(table, {name: METHODS[name].title for name in dict.fromkeys(found["method"])})


if __name__ == "__main__":
    main(draw, "fig8_predictions")
