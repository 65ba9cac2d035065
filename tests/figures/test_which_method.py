"""Which method when: the page follows the tables, and one seed tells nothing apart."""

import shutil

import numpy as np
import pandas as pd
from conftest import ROOT
from shared import which_method
from shared.which_method import ranked

DATA = ROOT / "paper_figures" / "data"


def cell(**methods):
    table = pd.DataFrame(methods).T
    table.columns.name = "seed"
    return table


def test_methods_are_ranked_by_mean_and_told_apart_by_paired_seeds():
    found = cell(
        original=[0.5, 0.5, 0.5], ssd=[0.3, 0.4, 0.5], finetune=[0.9, 0.8, 0.95],
        megu=[0.89, 0.81, 0.94], amnesiac=[0.87, 0.77, 0.92],
    )  # fmt: skip
    mean, alike, worse = ranked(found)
    assert list(mean.index) == ["finetune", "megu", "amnesiac", "ssd"]
    assert alike == ["megu"] and worse == ["ssd"]  # 0.03 less at every seed is told apart
    assert ranked(found[[0]])[1] == []
    far = cell(original=[0.5] * 3, finetune=[0.9, 0.9, 0.9], ssd=[0.2, 0.9, 0.95])
    assert ranked(far)[1] == []  # not told apart, but not close


def test_the_page_moves_with_its_table(tmp_path):
    page = which_method.page(DATA)
    row = "| whole classes | shirt (1 of 10 classes), fashion-mini, resnet-small, 3 seeds, 20 methods | "
    assert f"{row}Head only" in page
    for table in DATA.glob("comparison*"):
        shutil.copy(table, tmp_path)
    rows = pd.read_csv(DATA / "comparison.csv")
    best = (rows["metric"] == "tow") & (rows["method"] == "salun") & (rows["scenario"] == "class")
    rows.loc[best, "value"] = 0.9999
    rows.to_csv(tmp_path / "comparison.csv", index=False)
    moved = which_method.page(tmp_path)
    assert f"{row}SalUn 1.00" in moved
    assert "cifar" in page and "cifar" not in moved  # no grid in that folder
    assert np.all([name in page for name in ("a sub-class", "single images", "Boundary shrink")])
