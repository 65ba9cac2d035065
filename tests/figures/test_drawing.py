"""Figures show what their tables hold, whole and in words."""

import comparison
import disentanglement
import known_parts
import numpy as np
import pandas as pd
import pytest
import table1_results
from conftest import ROOT

from megu.figures import heatmaps, results
from megu.figures.style import METRICS, ONLY_B

DATA = ROOT / "paper_figures" / "data"


@pytest.mark.parametrize("draw", [table1_results.gaps, comparison.gaps], ids=["one request", "comparison"])
def test_gaps_have_words_and_are_sorted_and_marked(draw):
    fig = draw(DATA)
    assert not [ax.get_title() for ax in fig.axes if "_" in ax.get_title() or ax.get_title() in METRICS]
    assert {label.get_text() for ax in fig.axes for label in ax.texts} <= {" not run"}
    assert all(ax.xaxis.get_tick_params()["labelbottom"] for ax in fig.axes)
    assert any(ax.texts for ax in fig.axes) == (draw is comparison.gaps), "what was not run is said"
    for ax in (fig.axes[0], *(ax for ax in fig.axes if ax.get_title().endswith("(ToW)"))):
        points = {y: x for bars in ax.containers for x, y in zip(*bars[0].get_data(), strict=True) if np.isfinite(x)}
        by_row = [abs(points[y]) for y in sorted(points)]
        assert by_row == sorted(by_row), "the nearest to retrain stands first"
        names = [label.get_text() for label in ax.get_yticklabels()]
        (ours,) = (bars for bars in ax.containers if bars[0].get_color() == ONLY_B)
        assert list(ours[0].get_ydata()) == [names.index("MeGU")], "MeGU stands out"


@pytest.mark.parametrize(
    ("draw", "explained"),
    [(disentanglement.scores, "interval"), (known_parts.draw, "0.9")],
    ids=["scores", "known parts"],
)
def test_no_interval_is_cut_and_every_line_is_explained(draw, explained):
    fig = draw(DATA)
    for ax in fig.axes:
        low, high = ax.get_xlim()
        segments = [segment for bars in ax.containers for lines in bars[2] for segment in lines.get_segments()]
        ends = [x for segment in segments for x in segment[:, 0] if np.isfinite(x)]
        assert ax.get_xlabel() and all(low <= x <= high for x in ends)
    assert explained in " ".join(text.get_text() for text in fig.legends[0].get_texts())


def test_a_colour_bar_says_what_lies_beyond_it():
    sim = np.array([[0.9, 0.2], [0.1, 0.15]])
    words = {"title": "", "xlabel": "", "ylabel": "", "label": "share"}
    for top, extend in ((0.9, "max"), (0.15, "neither")):
        sim[0, 0] = top
        assert heatmaps.matrix(sim, "ab", **words).axes[1]._colorbar.extend == extend


def test_no_second_is_lost_in_the_figure_of_times():
    parts = [
        ("ssd", "importance", 3.0),
        ("ssd", "fine-tuning", 1.0),
        ("megu", "noise", 0.5),
        ("megu", "fine-tuning", 2.0),
    ]
    parts.append(("megu", "evaluation", 9.0))
    table = pd.DataFrame(parts, columns=["method", "part", "seconds"])
    (ax,) = results.time_per_stage(table, {"ssd": "SSD", "megu": "MeGU"}).axes
    assert [text.get_text().strip() for text in ax.texts] == ["4.0 s", "2.5 s"]
    assert sum(bar.get_width() for bars in ax.containers for bar in bars) == 6.5
    assert "other" in [text.get_text() for text in ax.get_legend().get_texts()]
