r"""Where every method stands, scenario by scenario: gaps to retrain of the comparison."""

import pandas as pd
from drawing import folders, main

from megu import figures
from megu.methods import METHODS
from megu.tables import summary


def draw(data):
    """From comparison.csv."""
    table = pd.read_csv(data / "comparison.csv")
    found = pd.concat([summary(part).assign(scenario=scenario) for scenario, part in table.groupby("scenario", sort=False)])
    shown = ["acc_retain_test", "acc_forget_train", "mia_ssd_member_rate", "tow"]
    return figures.gaps(found, {name: entry.title for name, entry in METHODS.items()}, shown, symlog=True)


if __name__ == "__main__" and (folders()[0] / "comparison.csv").exists():  # a run has none of its own
    main(draw, "fig6_comparison")
