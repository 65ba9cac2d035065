r"""Distance of every method to the retrained model, with the noise floor of retraining itself."""

from drawing import main
from tracked import default_request

from megu.figures import results as figures
from megu.methods import METHODS


def draw(data):
    """Mean gap of each method and its interval."""
    shown = ["acc_retain_test", "acc_forget_train", "mia_loss_auc", "mia_ssd_member_rate"]
    return figures.gaps(default_request(data)[0], {name: METHODS[name].title for name in METHODS}, shown)


if __name__ == "__main__":
    main(draw, "fig5_gaps")
