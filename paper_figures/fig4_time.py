r"""Seconds of every method by part: Figure 4 of arXiv 2602.17088."""

import pandas as pd
from drawing import main

from megu import figures
from megu.methods import METHODS


def draw(data):
    """From timings.csv: mean over the seeds; the guide is asked once per data set and not included."""
    table = pd.read_csv(data / "timings.csv")
    parts = table[(table["part"] != "total") | table["method"].eq("retrain")].replace({"part": {"total": "training"}})
    mean = parts[parts["method"] != "original"].groupby(["method", "part"], as_index=False)["seconds"].mean()
    return figures.time_per_stage(mean, {name: METHODS[name].title for name in METHODS})


if __name__ == "__main__":
    main(draw, "fig4_time")
