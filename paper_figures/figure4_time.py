r"""Figure 4 of arXiv 2602.17088: seconds of every method by part, for one request and for every cell of a grid; and
what the stages cost, as measured on a CPU."""

from shared.drawing import TITLES, grids, main, read
from shared.grid import asked, read_grid, time_shares
from shared.tracked import default_request

from megu.cost.predict import fitted
from megu.figures import cost, results
from megu.figures.grid import cell_times
from megu.measure.summary import stage_seconds


def seconds(data):
    """Mean over the seeds; the guide is asked once per data set and has a bar of its own."""
    return results.time_per_stage(stage_seconds(default_request(data)[1]), TITLES)


def shares(data):
    """Of retraining, one figure for each profile."""
    tables = {profile: read_grid(data, profile)[1] for profile in grids(data)}
    return {profile: cell_times(time_shares(table), TITLES, asked(profile)) for profile, table in tables.items()}


def costs(data):
    """Against images, forget images, classes and questions."""
    return cost.costs(fitted(read(data, "cost")))


if __name__ == "__main__":
    main(figure4_time=seconds, figure4_time_of_cells=shares, cost=costs)
