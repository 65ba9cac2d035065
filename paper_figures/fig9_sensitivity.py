r"""Appendix E's role: MeGU with other values of tau, the noise weights, lambda and the steps of the noise."""

import pandas as pd
from drawing import folders, main

from megu.figures import results as figures
from megu.measure.summary import against_default


def main_of(points, name):
    """Draw some points of ablation.csv; a run has none of its own."""

    def draw(data):
        table = against_default(pd.read_csv(data / "ablation.csv"))
        return figures.ablation(
            table[table["point"].isin(points)], ["acc_retain_test", "acc_forget_test", "mia_ssd_member_rate", "tow"]
        )

    if (folders()[0] / "ablation.csv").exists():
        main(draw, name)


if __name__ == "__main__":
    main_of(["tau", "A10", "A6"], "fig9_sensitivity")
