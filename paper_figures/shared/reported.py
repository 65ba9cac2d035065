r"""What the paper printed: the numbers of its tables, under our names."""

import json
from pathlib import Path

import pandas as pd

CELL = ["dataset", "scenario", "forget"]  # what is forgotten, whatever the architecture
COLUMNS = ("acc_retain", "acc_forget", "mia")  # of every table of the paper: A_r, A_f, MIA
METHODS = {"megu_random_label": "megu-random-labels", "megu_no_noise": "megu-no-noise", "bad_teacher": "bad-teacher"}
NAMES = {"arch": {"vit": "vit-b16"}, "forget": {"100 samples": "100 images"}, "method": METHODS}  # the paper's -> ours


def read_reported(data: Path) -> pd.DataFrame:
    r"""The paper's numbers: table, dataset, scenario, arch, forget, method, metric, percent, in the order of the paper.

    Args:
        data: folder with ``reported.csv`` and ``reported_source.json``.
    Raises: ValueError where a table has not as many numbers as its source says, a number is there twice or missing from
        its row, or is no percentage.
    Source: arXiv 2602.17088, Tables 1-4 and 6-8.
    """
    found, source = pd.read_csv(data / "reported.csv"), json.loads((data / "reported_source.json").read_text())
    counts = {str(table): int(n) for table, n in found.groupby("table").size().items()}
    if counts != source["numbers"]:
        said = f"its source says {source['numbers']}: take both from one version"
        raise ValueError(f"reported.csv has {counts} numbers by table, {said}")
    for (table, arch, *_, forget), part in found.groupby(["table", "arch", *CELL], sort=False):
        methods = found.loc[found["table"] == table, "method"].unique()
        needed = [(method, metric) for method in methods for metric in COLUMNS]
        if sorted(zip(part["method"], part["metric"], strict=True)) != sorted(needed):
            said = f"reported.csv needs {', '.join(COLUMNS)} of every method exactly once"
            raise ValueError(f"table {table}, {arch}, {forget}: {said}")
    if (wrong := ~found["percent"].between(0, 100)).any():
        raise ValueError(f"reported.csv holds {found.loc[wrong, 'percent'].iloc[0]}, which is no percentage")
    return found.replace(NAMES)


def apart(reported: pd.DataFrame) -> pd.DataFrame:
    r"""How far the paper's methods are from its retrained model: $|\text{method} - \text{retrain}|$ in points, for
    every cell and column.

    Returns: the columns of ``reported``, apart in place of percent; without the rows of retrain.
    """
    keys = ["table", "arch", *CELL, "metric"]
    goal = reported.loc[reported["method"] == "retrain", [*keys, "percent"]].rename(columns={"percent": "goal"})
    found = reported[reported["method"] != "retrain"].merge(goal, on=keys)
    return found.assign(apart=(found["percent"] - found["goal"]).abs()).drop(columns=["percent", "goal"])
