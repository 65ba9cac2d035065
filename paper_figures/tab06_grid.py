r"""The small profile's grid in one Markdown table, cells in rows and methods in columns."""

import pandas as pd
from tab01_results import publish
from tab05_paper import listed, number

from megu.figures.grid_tables import asked, read_grid
from megu.measure.summary import minutes, summary
from megu.methods import METHODS
from megu.settings.cells import PUBLIC_CODE

PROFILE, METRIC = "small", "tow"
CELL = ["arch", "dataset", "scenario", "forget"]


def table(data):
    r"""Tug-of-war of every cell and method ± half-width of its 95 % t-interval over the seeds, 1 = as the retrained
    model of the same seed."""
    rows, seconds, source = read_grid(data, PROFILE)
    found = rows[rows["metric"] == METRIC]
    names = [name for name in METHODS if name in set(found["method"]) - {"retrain", *PUBLIC_CODE.values()}]
    lines = [
        "| network, data, what is forgotten | seeds | " + " | ".join(METHODS[name].title for name in names) + " |",
        "|---" * (len(names) + 2) + "|",
    ]
    for cell, part in found.groupby(CELL, sort=False):
        own = summary(part).set_index("method").reindex(names)
        arch, dataset, scenario, forget = cell
        missing, seeds = (
            ["not run" if name in asked(PROFILE).get(cell, ()) else "-" for name in names],
            part["seed"].nunique(),
        )
        texts = [
            (
                text
                if pd.isna(row["mean"])
                else number(row["mean"], row.half_width, 2) + (f" (n = {row.seeds:.0f})" if row.seeds < seeds else "")
            )
            for text, row in zip(missing, own.iloc, strict=True)
        ]
        lines.append(f"| {arch}, {dataset}, {scenario}: {forget} | {seeds} | " + " | ".join(texts) + " |")
    images = ", ".join(f"{about['train']:,} of {name}" for name, about in source["data"].items())
    lines += [
        "",
        (
            f"`{source['command']}`, profile {PROFILE}, seeds {listed(source['seeds'])} of pre-training x"
            f" {source['repeats']} of unlearning; training images {images}, a tenth of them held out; epochs"
            f" {listed(source['epochs'])}; {listed(source['retain_images'])} retain images; {source['measured']}"
            f" results, models trained in {minutes(seconds):.0f} process minutes, evaluation left out,"
            f" {'; '.join(source['device'])}, torch {source['torch']}, code {source['code']}. -: not of this cell."
            " Tug-of-war (strict): product over forgotten training, retained training and retained test accuracy of 1"
            " - |difference to the retrain of the same seed|, 1 = as retrain; ± half of the 95 % t-interval over the"
            " seeds, (n = ): of fewer seeds."
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    publish(table, "tab06_grid", f"grid_{PROFILE}.csv")
