r"""What the paper's grid would cost on a GPU, by counted operations, an assumed speed, seconds of guides; and what
MeGU gains from a larger budget."""

import re

from shared.drawing import request
from shared.tracked import bullets, listed, source, table

from megu.core.splits import make_split
from megu.cost import predict
from megu.datasets.sources import load
from megu.figures import markdown
from megu.figures.markdown import number
from megu.measure.summary import half_width
from megu.methods import method_settings
from megu.settings.profiles import resolve

ENDS = ["hours_low", "hours_high"]


def _hours(values):
    return f"{values['hours_low']:.0f} to {values['hours_high']:.0f} hours"


def grid(data):
    r"""Operations, in hundreds of PFLOP, and hours of the paper's grid."""
    found = table(data, "cost_grid")
    total, own = found[ENDS].sum(), found.loc[~predict.references(found), ENDS].sum()
    seeds, card, pflop = found["seeds"].max(), found["card"].iloc[0], found["pflop"].sum().round(-2)
    return (
        f"**The paper's grid** with {seeds} seeds is {pflop:,.0f} PFLOP, {_hours(total)} on one {card} at an assumed,"
        f" not measured, share of its speed; unlearning itself is {_hours(own)} of them."
    )


def guides(data):
    r"""Hours of the guides that are small enough for a CPU."""
    lines = predict.lines(table(data, "cost")).items()
    asking = {stage: line for stage, line in lines if stage.startswith("guide")}
    asked = predict.guide_cost(asking).set_index("data")
    names = [name for name in asked if name.startswith("guide ") and name.endswith(", hours")]
    words = {name: name.removeprefix("guide ").removesuffix(", hours") for name in names}
    said = "; ".join(
        f"{where} {listed(f'{words[name]} {row[name]:.2g}' for name in names)}" for where, row in asked.iterrows()
    )
    return f"**Asking a guide** with 8 exemplars of each class, hours on one core, extrapolated by a line: {said}."


def cost_findings(data):
    r"""The bullets on cost of paper_figures/README.md."""
    return bullets(grid(data), guides(data))


def budget(data):
    r"""Markdown: how near MeGU comes with fewer retain images and epochs, and the least that comes as near as all."""
    settings, recipe = resolve(), method_settings("megu", resolve()).recipe
    split, found = make_split(load(settings), settings), table(data, "budget").query("point == 'budget'")
    wide = found.pivot_table(index=["metric", "variant"], columns="seed", values="value", sort=False)
    whole, lines = settings.training.epochs * len(split.retain), []
    for variant, values in wide.loc["tow"].iterrows():
        images, epochs = (int(text.replace(",", "")) for text in re.findall(r"[\d,]*\d", variant))
        share = 100 * epochs * (len(split.forget) + min(images, len(split.retain))) / whole
        lines.append([share, variant, values, wide.loc[("acc_forget_train", variant)]])
    lines.sort(key=lambda line: line[0])
    largest = lines[-1][2]
    share, least, *_ = next(line for line in lines if line[2].mean() >= largest.mean() - largest.std())
    head = ["images passed, % of retraining's", "budget", "forget images named right, %", "ToW"]
    rows = [
        [f"{share:.1f}", name, number(left.mean(), half_width(left), 1), number(tow.mean(), half_width(tow), 3)]
        for share, name, tow, left in lines
    ]
    about = source(data, "budget_source")
    return (
        f"{markdown.table(head, rows)}\n\n`make budget`: {request(about)}, {markdown.interval(about['seeds'], 'mean')}."
        " The noise pair, whose passes are not counted, is the same in all. The least whose mean ToW is not below the"
        f" largest's by more than that has as standard deviation over the seeds: {least}, {share:.1f} % of what"
        f" retraining passes. The default is {settings.retain_images:,} and {recipe.epochs}."
    )
