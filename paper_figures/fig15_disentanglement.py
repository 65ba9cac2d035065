r"""What each method suppressed of the forgotten concept's unique patterns and kept of the associated ones."""

from drawing import main, registry

from megu.figures import patterns as pattern_figures
from megu.measure.summary import over_seeds


def draw(data):
    """From disentanglement_all.csv, every method of the registry; a run has disentanglement.csv, those that it
    compares."""
    table, titles = registry(data)
    return pattern_figures.disentangled(over_seeds(table, ["method", "view", "measure"]), titles)


if __name__ == "__main__":
    main(draw, "fig15_disentanglement")
