r"""Time of every method as share of retraining, in every cell of the grid: Figure 4 of arXiv 2602.17088, one picture
for each profile."""

from drawing import folders, grids, main

from megu.figures import grid as grid_figures
from megu.figures.grid_tables import asked, read_grid, time_shares
from megu.methods import METHODS


def draw(data, profile):
    """From grid_<profile>_seconds.csv."""
    _, seconds, _ = read_grid(data, profile)
    return grid_figures.cell_times(
        time_shares(seconds), {name: entry.title for name, entry in METHODS.items()}, asked(profile)
    )


if __name__ == "__main__":
    for profile in grids(folders()[0]):
        main(lambda data, profile=profile: draw(data, profile), f"fig18_grid_time_{profile}")
