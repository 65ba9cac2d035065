r"""Gap of every method to the retrained model, in every cell of the grid: appendix G of arXiv 2602.17088, one picture
for each profile."""

from drawing import HERE, folders, grids, main

from megu.figures import grid as grid_figures
from megu.figures.grid_tables import asked, read_grid
from megu.figures.paper_tables import paper_table
from megu.figures.reported import read_reported
from megu.methods import METHODS


def draw(data, profile):
    """From grid_<profile>.csv."""
    rows, _, _ = read_grid(data, profile)
    titles = {name: entry.title for name, entry in METHODS.items()}
    return grid_figures.cell_gaps(paper_table(rows, read_reported(HERE / "data"), "strict"), titles, asked(profile))


if __name__ == "__main__":
    for profile in grids(folders()[0]):
        main(lambda data, profile=profile: draw(data, profile), f"fig19_grid_gaps_{profile}")
