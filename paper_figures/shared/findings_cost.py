r"""What the paper's grid would cost on a GPU, by counted operations, an assumed speed, seconds of guides."""

from shared.tracked import bullets, listed, table

from megu.cost import predict

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
