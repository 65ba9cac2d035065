r"""Seconds of every method by part: Figure 4 of arXiv 2602.17088."""

from drawing import main
from tracked import default_request

from megu.figures import results as figures
from megu.measure.summary import stage_seconds
from megu.methods import METHODS


def draw(data):
    """Mean over the seeds; the guide is asked once per data set and has a bar of its own."""
    return figures.time_per_stage(
        stage_seconds(default_request(data)[1]), {name: METHODS[name].title for name in METHODS}
    )


if __name__ == "__main__":
    main(draw, "fig4_time")
