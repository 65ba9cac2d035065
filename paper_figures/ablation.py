r"""MeGU's open points, changed one at a time; the roles of appendix E (sensitivity) and F (ablation)."""

from shared.drawing import main, read, request, source

from megu.figures import markdown, results
from megu.figures.markdown import number
from megu.measure.summary import against_default

COLUMNS = {  # metric -> (heading with the mode, digits)
    "acc_retain_test": ("retain test acc. (strict)", 1),
    "acc_forget_test": ("forget test acc. (strict)", 1),
    "mia_ssd_member_rate": ("SSD member rate (compat)", 1),
    "tow": ("ToW (strict)", 3),
}
SENSITIVITY = ("tau", "A10", "A15", "A6")  # tau, the noise weights, the norm of the pair, lambda and steps of the noise
SOURCES = ("A2", "A12", "noise", "A7", "A8", "A9", "A14", "A16")  # other sources of labels, other uses of the noise


def table(data):
    r"""Markdown: change against the default of the same seed ± half-width of its 95 % t-interval; the default's own row
    has its values."""
    found, rows = against_default(read(data, "ablation")), []
    about = source(data, "ablation_source")
    for (point, variant), part in found.groupby(["point", "variant"], sort=False):
        shown = (["mean"], "") if point in ("default", "retrain") else (["change", "change_half_width"], "+")
        part = part.set_index("metric")[shown[0]]
        cells = [number(*part.loc[metric], digits=digits, sign=shown[1]) for metric, (_, digits) in COLUMNS.items()]
        rows.append([point, variant, *cells])
    return (
        markdown.table(["point", "variant", *(title for title, _ in COLUMNS.values())], rows) + "\n\n"
        f"`make ablation`, {request(about)}. Rows default and retrain: means; others:"
        f" {markdown.interval(about['seeds'], 'change against MeGU of the same seed')}.\n"
    )


def drawn(points):
    """A function that draws some points."""

    def draw(data):
        found = against_default(read(data, "ablation"))
        return results.ablation(found[found["point"].isin(points)], list(COLUMNS))

    return draw


if __name__ == "__main__":
    main(ablation_table=table, ablation_sensitivity=drawn(SENSITIVITY), ablation_sources=drawn(SOURCES))
