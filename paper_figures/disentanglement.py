r"""What every method suppressed of the forgotten concept's unique patterns and kept of the associated ones, where in
the images; and what the noise pair activates."""

from figure1_entangled_concepts import layers
from shared.drawing import TITLES, main, read, source

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
    over = over_seeds(read(data, "disentanglement_all"), ["view", "measure", "method"])
    over, about = over.set_index(["view", "measure", "method"]).sort_index(), source(data, "disentanglement_all_source")
    order, nothing, rows = over.loc[("aligned", "score"), "mean"].sort_values(ascending=False).index, [float("nan")], []
    for name in order:
        keys = [(*column, name) for column in COLUMNS]
        values = [over.loc[key, ["mean", "half_width"]] if key in over.index else nothing for key in keys]
        rows.append([NAMES[name], *(number(*value, digits=2) for value in values)])
    return (
        markdown.table(["method", *(": ".join(column) for column in COLUMNS)], rows) + "\n\n"
        f"`python -m megu study disentanglement --out paper_figures/data`, profile {about['profile']}, class-wise"
        f" forgetting of {', '.join(about['forget']['classes'])}, seeds {about['numbers']}, {about['device']}, torch"
        f" {about['torch']}. {markdown.interval(about['seeds'], 'Mean')}.\n"
    )


def scores(data):
    """Of every method where they are there, else of those that a run compares."""
    name = "disentanglement_all" if (data / "disentanglement_all.csv").exists() else "disentanglement"
    return patterns.disentangled(over_seeds(read(data, name), ["method", "view", "measure"]), NAMES)


def before_after(data):
    """The last block, as the notebook chooses it."""
    return patterns.maps(read(data, "maps_after"), layers(data)[-2])


def noise(data):
    """What the noise pair activates, against the same pixels shuffled."""
    return patterns.meaning(read(data, "noise_meaning"))


if __name__ == "__main__":
    main(disentanglement=scores, disentanglement_table=table, before_after=before_after, noise_meaning=noise)
