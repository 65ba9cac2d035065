r"""Distance of every method to the retrained model, with the noise floor of retraining itself."""

import pandas as pd
from drawing import main

from megu.figures import results as figures
from megu.methods import METHODS


def draw(data):
    """From summary.csv."""
    shown = ["acc_retain_test", "acc_forget_train", "mia_loss_auc", "mia_ssd_member_rate"]
    return figures.gaps(pd.read_csv(data / "summary.csv"), {name: METHODS[name].title for name in METHODS}, shown)


if __name__ == "__main__":
    main(draw, "fig5_gaps")
