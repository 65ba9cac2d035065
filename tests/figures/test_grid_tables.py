"""A grid's tables are read as one; times of its models.  All numbers are made up: `paper_grid`."""

import shutil
from pathlib import Path

import pandas as pd
import paper_grid
import pytest
from shared.grid import read_grid, time_shares

from megu.measure.summary import minutes

KEY = {"dataset": "cifar10", "arch": "resnet-small", "scenario": "class", "forget": "cat", "seed": 0, "repeat": 0}
FILES = ("grid_small.csv", "grid_small_seconds.csv", "grid_small_source.json")  # in the order in which they are written
MIXED = "is not the file that grid_small_source.json is of: it was changed, or an interrupted write mixed two grids"


def unreadable(folder, said):
    with pytest.raises(ValueError, match=said):
        read_grid(folder, "small")


@pytest.mark.parametrize(("change", "said"), [
    ({"profile": "paper"}, "is of profile 'paper': one file holds one profile"),
    ({"preset": ["paper", "tuned"]}, "has the presets paper and tuned: one file holds one preset"),
    ({"epochs": None}, "does not say epochs"),
    ({"files": None}, "does not say files: write the tables again with `python -m megu study paper --profile small"),
])  # fmt: skip
def test_a_source_of_another_grid_is_refused(tmp_path, change, said):
    rows, seconds, source = paper_grid.grid()
    unreadable(paper_grid.write(tmp_path, rows, seconds, source | change), said)
    read_grid(paper_grid.write(tmp_path, rows, seconds, source), "small")


def appended(path):
    """As a hand adds rows to a table: one more, of another method."""
    table = pd.read_csv(path)
    pd.concat([table, table.iloc[:1].assign(method="ssd-code", repeat=7)]).to_csv(path, index=False)


@pytest.mark.parametrize("table", FILES[:2])
@pytest.mark.parametrize("change", [appended, Path.unlink, lambda path: path.write_text(path.read_text() + "\n")])
def test_a_table_that_is_not_the_one_that_was_written_is_refused(tmp_path, table, change):
    change(paper_grid.write(tmp_path, *paper_grid.grid()) / table)
    unreadable(tmp_path, f"{table} {MIXED}")


@pytest.mark.parametrize("written", [1, 2])
def test_an_interrupted_write_is_refused(tmp_path, written):
    old = paper_grid.write(tmp_path / "old", *paper_grid.grid(seeds=(0,)))
    new = paper_grid.write(tmp_path / "new", *paper_grid.grid())
    for name in FILES[:written]:
        shutil.copy(new / name, old)
    unreadable(old, MIXED)
    (old / FILES[2]).unlink()
    unreadable(old, "grid_small_source.json does not say profile, command")
    for name in FILES[1:]:
        shutil.copy(new / name, old)
    assert len(read_grid(old, "small")[0]) == len(read_grid(new, "small")[0])


def test_no_grid_is_an_empty_one(tmp_path):
    rows, seconds, source = read_grid(tmp_path, "small")
    assert rows.empty and seconds.empty and not source


def seconds_of(*facts):
    return pd.DataFrame(facts, columns=["method", "seed", "part", "seconds"]).assign(
        **{**KEY, "seed": lambda t: t["seed"]}
    )


def test_minutes_count_every_model_once():
    megu = (("megu", 0, "noise", 20), ("megu", 0, "total", 30), ("megu", 0, "evaluation", 9))
    table = seconds_of(("original", 0, "total", 60.5), *megu)
    shared = table.iloc[:1].assign(scenario="random", forget="100 images")
    assert minutes(pd.concat([table, shared])) == pytest.approx(90.5 / 60)


def test_shares_of_time_are_of_the_same_seed_and_leave_out_the_evaluation():
    table = seconds_of(
        ("retrain", 0, "total", 100.0), ("retrain", 1, "total", 50.0), ("guide", 0, "guide", 5.0),
        ("megu", 0, "noise", 4.0), ("megu", 0, "fine-tuning", 6.0), ("megu", 0, "total", 10.0),
        ("megu", 0, "evaluation", 70.0), ("megu", 1, "noise", 1.0), ("megu", 1, "fine-tuning", 9.0),
    )  # fmt: skip
    shares = time_shares(table).set_index(["method", "part"])["share"].to_dict()
    assert shares == {("megu", "noise"): 3.0, ("megu", "fine-tuning"): 12.0}
    with pytest.raises(ValueError, match="no time of retraining"):
        time_shares(table[(table["method"] != "retrain") | (table["seed"] == 0)])
