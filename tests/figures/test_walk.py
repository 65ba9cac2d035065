"""Figures of the walk through the method say in words what their tables hold."""

import numpy as np
import pandas as pd

from megu.figures import noise, patterns, unlearning

RAMP = np.linspace(-1, 1, 16).reshape(1, 1, 4, 4)


def labels(fig):
    return [ax.get_xlabel() for ax in fig.axes]


def test_a_noise_stands_over_its_probability_at_every_step():
    rows = [("positive, a", step, step / 10, 9 - step) for step in range(9)]
    table = pd.DataFrame(rows, columns=["noise", "step", "probability", "norm"])
    fig = noise.growth({"positive, a": np.repeat(RAMP, 9, 0)}, table, columns=3)
    assert fig.get_suptitle().endswith("after 8 steps: positive, a 0.80")
    assert [ax.get_title() for ax in fig.axes[:3]] == ["step 0", "step 2", "step 8"]
    assert labels(fig)[:3] == ["0.00", "0.20", "0.80"]


def test_noises_have_one_scale_around_zero_and_images_their_own():
    columns = {"image": np.abs(RAMP), "noise": RAMP, "half": RAMP / 2}
    fig = noise.anatomy(columns, {name: [f"{name} said"] for name in columns}, "a finding")
    assert labels(fig)[:3] == ["image said", "noise said", "half said"]
    image, *signed = ([shown.get_clim() for shown in ax.images][-1] for ax in fig.axes[:3])
    assert image == (0, 1) and signed[0] == signed[1] and signed[0][0] == -signed[0][1] < -0.9


def test_the_weights_of_the_run_are_not_on_the_line_of_eq_11():
    rows = [(0.0, 1.0, 10, 2, 60), (0.7, 1.0, 61, 5, 20), (0.2, 1.9, 3, 1, 88)]
    table = pd.DataFrame(rows, columns=["alpha", "scale", "forgotten", "perturbing", "strength"])
    fig = noise.over_alpha(table, 0.7, (0.2, 1.9))
    assert fig.get_suptitle().endswith("61 % by eq. 11, 3 % by the weights of this run")
    line, star = fig.axes[0].lines[:2]
    assert list(line.get_ydata()) == [10, 61] and list(star.get_ydata()) == [3]


def test_the_course_of_an_unlearning():
    table = pd.DataFrame({"forgotten": [70, 30, 2], "perturbing": [0, 5, 9], "loss": [1, 2, 1], "retained": [9, 8, 7]})
    fig = unlearning.curve(table, {"forgotten": 0, "loss": 0.5}, per_epoch=1)
    said = "Forget images named right 70 → 2 %; retained ones 9 → 7 %, loss 1.00 → 1.00"
    assert fig.get_suptitle() == said and "end of an epoch" in [text.get_text() for text in fig.legends[0].get_texts()]


def test_a_loss_that_is_larger_nearby_is_counted():
    rows = [("adjacent", "a", -3), ("remote", "a", -1), ("adjacent", "b", 0), ("remote", "b", -2)]
    table = pd.DataFrame(rows, columns=["group", "method", "mean"]).assign(half_width=0.5)
    fig = unlearning.near_and_far(table, {"a": "A", "b": "MeGU", "retrain": "Retrain"})
    assert "1 of 2 methods are lower" in fig.get_suptitle() and "1 below" in fig.get_suptitle()
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["MeGU", "A"], "the best first"


def test_views_that_agree_are_counted_by_the_p_that_stands_beside_them():
    rows = [
        ("near", 0.6, 0.1, 1.0, 0.3, 0.001),
        ("edge", 0.3, 0.28, 0.32, 0.2, 0.03),
        ("none", 0.1, -0.1, 0.3, 0.2, 0.4),
    ]
    table = pd.DataFrame(rows, columns=["view", "order", "low", "high", "shuffled", "p"]).assign(guide="g")
    ax = patterns.agreement(table).axes[0]
    assert ax.get_title().startswith("1 of 3 views"), "the interval over the classes is not asked"
    assert [text.get_text() for text in ax.get_yticklabels()][0] == "near, p = 0.0010"
