"""Figures show what their tables hold, whole and in words."""

import comparison
import disentanglement
import known_parts
import numpy as np
import overview as overview_script
import pandas as pd
import pytest
import table1_results
from conftest import ROOT
from matplotlib.colors import to_rgb

from megu.figures import heatmaps, overview, results
from megu.figures.results import METRICS
from megu.figures.style import ONLY_B

DATA = ROOT / "paper_figures" / "data"


def said(texts):
    return [text.get_text().strip() for text in texts]


@pytest.mark.parametrize("draw", [table1_results.gaps, comparison.gaps], ids=["one request", "comparison"])
def test_gaps_have_words_and_are_sorted_and_marked(draw):
    axes = draw(DATA).axes
    titles = [ax.get_title() for ax in axes]
    assert not [title for title in titles if "_" in title or title in METRICS]
    assert all(ax.xaxis.get_tick_params()["labelbottom"] for ax in axes)
    notes = {text for ax in axes for text in said(ax.texts)}
    assert notes == ({"not run"} if draw is comparison.gaps else set()), "what was not run is said"
    for ax in (axes[0], *(ax for ax, title in zip(axes, titles, strict=True) if title.endswith("(ToW)"))):
        points = {y: x for bars in ax.containers for x, y in zip(*bars[0].get_data(), strict=True) if np.isfinite(x)}
        by_row = [abs(points[y]) for y in sorted(points)]
        assert by_row == sorted(by_row), "the nearest to retrain stands first"
        (ours,) = (bars[0] for bars in ax.containers if bars[0].get_color() == ONLY_B)
        assert list(ours.get_ydata()) == [said(ax.get_yticklabels()).index("MeGU")], "MeGU stands out"


@pytest.mark.parametrize(("draw", "explained"), [(disentanglement.scores, "interval"), (known_parts.draw, "0.9")])
def test_no_interval_is_cut_and_every_line_is_explained(draw, explained):
    fig = draw(DATA)
    for ax in fig.axes:
        low, high = ax.get_xlim()
        segments = [segment for bars in ax.containers for lines in bars[2] for segment in lines.get_segments()]
        ends = [x for segment in segments for x in segment[:, 0] if np.isfinite(x)]
        assert ax.get_xlabel() and all(low <= x <= high for x in ends)
    assert explained in " ".join(said(fig.legends[0].get_texts()))


def test_a_colour_bar_says_what_lies_beyond_it():
    words = dict.fromkeys(("title", "xlabel", "ylabel", "label"), "share")
    for top, extend in ((0.9, "max"), (0.15, "neither")):
        fig = heatmaps.matrix(np.array([[top, 0.2], [0.1, 0.15]]), ["a", "b"], **words)
        assert fig.axes[1]._colorbar.extend == extend


def test_no_second_is_lost_in_the_figure_of_times():
    ssd, megu = {"importance": 3.0, "fine-tuning": 1.0}, {"noise": 0.5, "fine-tuning": 2.0, "evaluation": 9.0}
    parts = [(name, *part) for name, of in (("ssd", ssd), ("megu", megu)) for part in of.items()]
    table = pd.DataFrame(parts, columns=["method", "part", "seconds"])
    (ax,) = results.time_per_stage(table, {"ssd": "SSD", "megu": "MeGU"}).axes
    assert said(ax.texts) == ["4.0 s", "2.5 s"] and "other" in said(ax.get_legend().get_texts())
    assert sum(bar.get_width() for bars in ax.containers for bar in bars) == 6.5


def test_the_chosen_label_is_shown_however_far_down_it_stands_and_no_barred_class_is():
    names = [f"class {k}" for k in range(30)]
    table = pd.DataFrame({"posterior": 1 / 30, "association": np.arange(30.0, 0, -1)}, names)
    fig = overview.ranking(np.zeros((3, 4, 4)), table, ["class 0", "class 1"], "class 21")
    *_, ranked = fig.axes
    rows = said(ranked.get_yticklabels())
    assert rows[0] == "class 2" and rows[-1] == "class 21" and len(rows) == overview.MOST + 1
    assert ranked.get_title() == "R without class 0: number 20 is class 21"
    assert [bar.get_facecolor()[:3] for bar in ranked.patches].count(to_rgb(ONLY_B)) == 1
    with pytest.raises(KeyError):
        overview.ranking(np.zeros((3, 4, 4)), table, ["class 0"], "class 0")


def test_the_typical_picture_is_the_nearest_to_the_mean_of_those_asked_for():
    pictures = np.array([0.0, 0.9, 1.0, 0.8, 0.5])[:, None, None, None] * np.ones((1, 2, 2))
    assert overview.typical(pictures, np.array([False, True, True, True, False])) == 1
    assert overview.typical(pictures, np.zeros(5, bool)) == 4, "of all, where none is asked for"


def test_the_overview_says_what_its_table_says():
    table, pixels = (pd.read_csv(DATA / f"{name}.csv") for name in ("overview", "overview_image"))
    title = overview_script.draw(DATA)._suptitle.get_text()
    for model in ("original", "unlearned", "retrained"):
        best = table.loc[table[model].idxmax()]
        assert f"{best['class']} ({100 * best[model]:.0f} %)" in title
    assert np.allclose(table[["transition", "original", "unlearned", "retrained"]].sum(), 1, atol=2e-3)
    assert pixels[["image", "sum"]].stack().between(0, 1).all() and sorted(table["role"].dropna()) == ["chosen", "own"]
