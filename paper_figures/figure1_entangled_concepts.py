r"""Figure 1 of arXiv 2602.17088 as a measurement: entangled concepts, and at which depth and where in the images."""

from shared.drawing import main, read
from shared.tracked import concept

from megu.figures import patterns


def layers(data):
    """Of entanglement.csv, from the image to what the head receives."""
    return read(data, "entanglement")["layer"].unique()


def entangled(data):
    """At the last layer."""
    pairs = read(data, "entanglement")
    return patterns.entanglement(pairs[pairs["layer"] == layers(data)[-1]], concept(data))


def depth(data):
    """At every layer."""
    return patterns.depth(read(data, "entanglement"), concept(data))


def where(data):
    """In the last block but one, as the notebook chooses it."""
    return patterns.maps(read(data, "maps"), layers(data)[-3])


if __name__ == "__main__":
    main(figure1_entangled_concepts=entangled, figure1_depth=depth, figure1_where=where)
