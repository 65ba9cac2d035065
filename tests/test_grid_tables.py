"""A grid's tables are read as one; times of its models.  All numbers are made up: `paper_grid`."""

import pandas as pd
import paper_grid
import pytest

from megu.grid_tables import minutes, read_grid, time_shares


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profile": "paper"}, "is of profile 'paper': one file holds one profile"),
        ({"preset": ["paper", "tuned"]}, "has the presets paper and tuned: one file holds one preset"),
        ({"epochs": None}, "does not say epochs"),
        ({"seeds": [0]}, r"has seeds \[1\], its source has \[0\]: rows of another grid"),
    ],
)
def test_a_source_of_another_grid_is_refused(tmp_path, change, message):
    rows, seconds, source = paper_grid.grid()
    with pytest.raises(ValueError, match=message):
        read_grid(paper_grid.write(tmp_path, rows, seconds, source | change), "small")
    read_grid(paper_grid.write(tmp_path, rows, seconds, source), "small")


def test_minutes_count_every_model_once():
    key = {"dataset": "cifar10", "arch": "resnet-small", "seed": 0, "repeat": 0}
    shared = [key | {"scenario": s, "forget": s, "method": "original", "part": "total", "seconds": 60.5} for s in ("class", "random")]
    megu = key | {"scenario": "class", "forget": "class", "method": "megu"}
    parts = [megu | {"part": part, "seconds": x} for part, x in (("noise", 20), ("total", 30), ("evaluation", 9))]
    assert minutes(pd.DataFrame([*shared, *parts])) == pytest.approx(90.5 / 60)


def test_shares_of_time_are_of_the_same_seed_and_leave_out_the_evaluation():
    key = {"dataset": "cifar10", "arch": "resnet-small", "scenario": "class", "forget": "cat", "repeat": 0}
    facts = [
        ("retrain", 0, "total", 100.0), ("retrain", 1, "total", 50.0), ("megu", 0, "noise", 4.0), ("megu", 0, "fine-tuning", 6.0),
        ("megu", 0, "total", 10.0), ("megu", 0, "evaluation", 70.0), ("megu", 1, "noise", 1.0), ("megu", 1, "fine-tuning", 9.0), ("guide", 0, "guide", 5.0),
    ]  # fmt: skip
    found = time_shares(pd.DataFrame([key | dict(zip(("method", "seed", "part", "seconds"), fact, strict=True)) for fact in facts]))
    assert found.set_index(["method", "part"])["share"].to_dict() == {("megu", "noise"): 3.0, ("megu", "fine-tuning"): 12.0}


def test_a_missing_time_of_retraining_raises():
    seconds = paper_grid.grid()[1]
    assert (time_shares(seconds)["share"] > 0).all()
    with pytest.raises(ValueError, match="no time of retraining"):
        time_shares(seconds[seconds["method"] != "retrain"])
