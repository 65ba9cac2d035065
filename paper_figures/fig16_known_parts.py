r"""The entanglement measures on images whose parts are known: recovery of the overlap, and what forgetting leaves."""

import pandas as pd
from drawing import folders, main

from megu.figures import patterns as pattern_figures
from megu.measure.summary import over_seeds
from megu.methods import METHODS


def draw(data):
    """From truth_recovery.csv and truth_forgetting.csv."""
    left = pd.read_csv(data / "truth_forgetting.csv").melt(["method", "seed"], ["unique", "shared"], "measure")
    titles = {name: entry.title for name, entry in METHODS.items()}
    return pattern_figures.recovered(
        pd.read_csv(data / "truth_recovery.csv"), over_seeds(left, ["method", "measure"]), titles
    )


if __name__ == "__main__" and (folders()[0] / "truth_recovery.csv").exists():  # a run has none of its own
    main(draw, "fig16_known_parts")
