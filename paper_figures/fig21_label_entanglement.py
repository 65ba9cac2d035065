r"""Are perturbing labels near the forgotten class?  How often each is chosen against how entangled it is."""

from drawing import main
from findings import beside

from megu.figures import results as figures


def draw(data):
    """From label_distribution.csv and entanglement.csv."""
    concept, table = beside(data)
    return figures.share_and_index(table, concept)


if __name__ == "__main__":
    main(draw, "fig21_label_entanglement")
