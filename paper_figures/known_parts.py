r"""The entanglement measures on images whose parts are known: recovery of the overlap, and what forgetting leaves."""

from shared.drawing import TITLES, main, read

from megu.figures import patterns
from megu.measure.summary import over_seeds


def draw(data):
    """Both, side by side."""
    recovery, left = read(data, "truth_recovery"), read(data, "truth_forgetting")
    left = left.melt(["method", "seed"], ["unique", "shared"], "measure")
    return patterns.recovered(recovery, over_seeds(left, ["method", "measure"]), TITLES)


if __name__ == "__main__":
    main(known_parts=draw)
