r"""What every method suppressed of the forgotten concept's unique patterns and kept of the associated ones, where in
the images; and what the noise pair activates."""

import numpy as np
import pandas as pd
from figure1_entangled_concepts import layers
from shared.drawing import TITLES, main, read, request, source
from shared.tracked import disentangled

from megu.figures import markdown, patterns
from megu.figures.markdown import number
from megu.measure.summary import over_seeds

COLUMNS = [(view, measure) for view in ("in place", "aligned") for measure in ("suppressed", "kept", "score")]
NAMES = TITLES | {
    "megu, pos noise": "MeGU, positive noise alone",
    "megu, neg noise": "MeGU, negative noise alone",
    "megu, random noise": "MeGU, noise shuffled",
}


def table(data):
    r"""Markdown: mean ± half-width of the 95 % t-interval over the seeds, rows in the order of the aligned score."""
    over, about, rows = disentangled(data), source(data, "disentanglement_all_source"), []
    for name in over.loc[("aligned", "score"), "mean"].sort_values(ascending=False).index:
        values = over.reindex([(*column, name) for column in COLUMNS])[["mean", "half_width"]].to_numpy()
        rows.append([NAMES[name], *(number(*value, digits=2) for value in values)])
    return (
        markdown.table(["method", *(": ".join(column) for column in COLUMNS)], rows) + "\n\n"
        f"`python -m megu study disentanglement --out paper_figures/data`, {request(about)}."
        f" {markdown.interval(about['seeds'], 'Mean')}.\n"
    )


def scores(data):
    """Of every method where they are there, else of those that a run compares."""
    name = "disentanglement_all" if (data / "disentanglement_all.csv").exists() else "disentanglement"
    return patterns.disentangled(over_seeds(read(data, name), ["method", "view", "measure"]), NAMES)


def before_after(data):
    """The last block, as the notebook chooses it, beside the plain image."""
    table, parts = read(data, "maps_after"), []
    for image, part in table.groupby(table["panel"].str.split(", ").str[1], sort=False):
        plain = part[part["panel"] == part["panel"].iloc[0]]
        parts += [plain.assign(panel=image, value=np.nan), part]
    mean = table.groupby([table["panel"].str.split(",").str[0], "row"])["value"].mean().unstack("row")
    left = 100 * mean["MeGU"] / mean["Original"]
    said = f"{left['unique']:.0f} % of the unique activation, {left['associated']:.0f} % of the associated"
    said = f"In these {len(parts) // 2} images, one seed, MeGU leaves {said}"
    return patterns.maps(pd.concat(parts), layers(data)[-2], said)


def noise(data):
    """What the noise pair activates, against the same pixels shuffled."""
    return patterns.meaning(read(data, "noise_meaning"))


if __name__ == "__main__":
    main(disentanglement=scores, disentanglement_table=table, before_after=before_after, noise_meaning=noise)
