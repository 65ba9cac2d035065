r"""How figures look: one style, colours that are told apart without colour vision."""

import functools
from collections.abc import Callable

import matplotlib.pyplot as plt

STYLE = {
    "font.size": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False,
    "figure.titlesize": 10, "figure.titleweight": "bold", "legend.frameon": False,
    "figure.dpi": 100, "savefig.dpi": 150, "savefig.bbox": "tight", "figure.constrained_layout.use": True,
}  # fmt: skip
SHARED, ONLY_A, ONLY_B, THIRD = "#7f7f7f", "#0072b2", "#d55e00", "#009e73"  # Okabe-Ito
NULL, FLOOR = "#bbbbbb", "#dddddd"  # bands: of chance, of retraining
OURS = "MeGU"  # the row that a reader looks for
METRICS = {  # metric -> what figures call it
    "acc_retain_test": "retain test accuracy",
    "acc_forget_train": "forget train accuracy",
    "acc_forget_test": "forget test accuracy",
    "mia_loss_auc": "loss attack AUC",
    "mia_ssd_member_rate": "SSD member rate (compat)",
    "tow": "tug-of-war (ToW)",
}
UNITS = {"percent": "points"}  # unit -> that of a difference
DIGITS = {"percent": 1}  # unit -> decimals in a text, 3 for the others
PART_COLOURS = {"guide": THIRD, "labels": "#56b4e9", "noise": ONLY_B, "fine-tuning": ONLY_A, "training": SHARED}
PART_COLOURS["other"] = "#cc79a7"


def styled(draw: Callable) -> Callable:
    """Draw in the house's style, and close: a notebook then shows the returned figure once, not twice."""

    @functools.wraps(draw)
    def styled(*args, **kwargs):
        with plt.rc_context(STYLE):
            fig = draw(*args, **kwargs)
        plt.close(fig)
        return fig

    return styled
