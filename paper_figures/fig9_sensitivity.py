r"""Appendix E's role: MeGU with other values of tau, the noise weights, lambda and the steps of the noise."""

import pandas as pd
from drawing import folders, main

from megu import figures
from megu.tables import against_default

POINTS = ["tau", "A10", "A6"]


def draw(data):
    """From ablation.csv."""
    table = against_default(pd.read_csv(data / "ablation.csv"))
    return figures.ablation(table[table["point"].isin(POINTS)], ["acc_retain_test", "acc_forget_test", "mia_ssd_member_rate", "tow"])


if __name__ == "__main__" and (folders()[0] / "ablation.csv").exists():  # a run has none of its own
    main(draw, "fig9_sensitivity")
