r"""What the paper printed: the numbers of its tables, under our names."""

import json

import pandas as pd

CELL = ["dataset", "scenario", "forget"]  # what is forgotten, whatever the architecture
COLUMNS = ("acc_retain", "acc_forget", "mia")  # of every table of the paper: A_r, A_f, MIA
NAMES = {  # the paper's -> ours
    "arch": {"vit": "vit-b16"},
    "forget": {"100 samples": "100 images"},
    "method": {
        "bad_teacher": "bad-teacher",
        "megu_random_label": "megu-random-labels",
        "megu_no_noise": "megu-no-noise",
    },
}


def read_reported(data):
    r"""The paper's numbers: DataFrame with table, dataset, scenario, arch, forget, method, metric, percent, in the
    order of the paper.

    Args:
        data: folder with ``reported.csv`` and ``reported_source.json``.
    Raises: ValueError where a table has not as many numbers as its source says, a number is there twice or missing from
        its row, or is no percentage.
    Source: arXiv 2602.17088, Tables 1-4 and 6-8.
    """
    found, source = pd.read_csv(data / "reported.csv"), json.loads((data / "reported_source.json").read_text())
    counts = {str(table): int(n) for table, n in found.groupby("table").size().items()}
    if counts != source["numbers"]:
        raise ValueError(
            f"reported.csv has {counts} numbers by table, its source says {source['numbers']}: take both from one"
            " version"
        )
    by = ["table", "arch", *CELL]
    for cell, part in found.groupby(by, sort=False):
        methods = found.loc[found["table"] == cell[0], "method"].unique()
        if sorted(zip(part["method"], part["metric"], strict=True)) != sorted(
            (method, metric) for method in methods for metric in COLUMNS
        ):
            raise ValueError(
                f"table {cell[0]}, {cell[1]}, {cell[-1]}: reported.csv needs {', '.join(COLUMNS)} of every method"
                " exactly once"
            )
    if not found["percent"].between(0, 100).all():
        raise ValueError(
            f"reported.csv holds {found.loc[~found['percent'].between(0, 100), 'percent'].iloc[0]}, which is no"
            " percentage"
        )
    return found.replace(NAMES)


def apart(reported):
    r"""How far the paper's methods are from its retrained model: $|\text{method} - \text{retrain}|$ in points, for
    every cell and column.

    Args:
        reported: DataFrame from `read_reported`.
    Returns: DataFrame with the columns of ``reported``, apart in place of percent; without the rows of retrain.
    """
    keys = ["table", "arch", *CELL, "metric"]
    found = reported.merge(
        reported.loc[reported["method"] == "retrain", [*keys, "percent"]], on=keys, suffixes=("", "_retrain")
    )
    found = found.assign(apart=(found["percent"] - found["percent_retrain"]).abs()).drop(
        columns=["percent", "percent_retrain"]
    )
    return found[found["method"] != "retrain"]
