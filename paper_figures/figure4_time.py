r"""Figure 4 of arXiv 2602.17088: seconds of every method by part, for one request and for every cell of a grid; and
what the stages cost, as measured on a CPU."""

from shared.drawing import TITLES, grids, main, read
from shared.grid import asked, read_grid, time_shares
from shared.tracked import default_request

from megu.cost.predict import fitted
from megu.figures import cost, markdown, results
from megu.figures.markdown import number
from megu.measure.summary import stage_seconds

CELL = ["ours_arch", "dataset", "scenario", "forget"]


def seconds(data):
    """Mean over the seeds; the guide is asked once per data set and has a bar of its own."""
    return results.time_per_stage(stage_seconds(default_request(data)[1]), TITLES)


def shares(data, profile):
    r"""Markdown: time of every method and cell in percent of retraining."""
    table = time_shares(read_grid(data, profile)[1])
    wide = table.pivot_table(index=CELL, columns="method", values="share", aggfunc="sum", sort=False)
    names, wanted = [name for name in TITLES if name in wide], asked(profile)
    rows = [
        ["{}, {}, {}: {}".format(*key)]
        + [number(row[name], None, 0, missing="not run" if name in wanted.get(key, ()) else "-") for name in names]
        for key, row in wide.iterrows()
    ]
    ours = wide["megu"]
    return (
        f"MeGU takes {ours.min():.0f} to {ours.max():.0f} % of the time of retraining, without guide and"
        " evaluation.\n\n"
        + markdown.table(["network, data, what is forgotten", *(TITLES[name] for name in names)], rows)
        + f"\n\n`python -m megu study paper --profile {profile} --out paper_figures/data`: seconds of each method over"
        " those of the retrain of the same seed, percent, mean over the seeds. -: not of this cell. Wall clock of"
        " trainings that ran beside others, which slows some more than others: orders of magnitude.\n"
    )


def of_cells(data):
    """`shares` of every profile."""
    return {profile: shares(data, profile) for profile in grids(data)}


def costs(data):
    """Against images, forget images, classes and questions."""
    return cost.costs(fitted(read(data, "cost")))


if __name__ == "__main__":
    main(figure4_time=seconds, figure4_time_of_cells=of_cells, cost=costs)
