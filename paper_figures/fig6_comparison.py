r"""Where every method stands, scenario by scenario: gaps to retrain of the comparison."""

import pandas as pd
from drawing import folders, main

from megu.figures import results as figures
from megu.measure.summary import by_scenario
from megu.methods import METHODS


def draw(data):
    """From comparison.csv."""
    found = by_scenario(pd.read_csv(data / "comparison.csv"))
    shown = ["acc_retain_test", "acc_forget_train", "mia_ssd_member_rate", "tow"]
    return figures.gaps(found, {name: entry.title for name, entry in METHODS.items()}, shown, symlog=True)


if __name__ == "__main__" and (folders()[0] / "comparison.csv").exists():  # a run has none of its own
    main(draw, "fig6_comparison")
