"""Figures show what their tables hold, whole and in words."""

import ablation
import comparison
import disentanglement
import known_parts
import matplotlib.pyplot as plt
import numpy as np
import overview as overview_script
import pandas as pd
import pytest
import table1_results
from conftest import ROOT
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from megu.figures import deletion, heatmaps, overview, results
from megu.figures.results import METRICS
from megu.figures.style import ONLY_B

DATA = ROOT / "paper_figures" / "data"


def said(texts):
    return [text.get_text().strip() for text in texts]


GAPS = [table1_results.gaps(DATA), *comparison.gaps(DATA).values()]


@pytest.mark.parametrize("fig", GAPS, ids=["one request", "class", "subclass", "random"])
def test_gaps_have_words_and_are_sorted_and_marked(fig):
    axes = fig.axes
    assert not [ax for ax in axes if "_" in ax.get_title() or ax.get_title() in METRICS]
    names = said(axes[0].get_yticklabels())
    drawn = {y: x for bars in axes[0].containers for x, y in zip(*bars[0].get_data(), strict=True) if np.isfinite(x)}
    beyond = {text.get_position()[1]: float(text.get_text().strip("\u25c2\u25b8 ")) for text in axes[0].texts}
    by_row = [abs(value) for _, value in sorted((drawn | beyond).items())]
    assert by_row == sorted(by_row) and len(by_row) == len(names), "the nearest to retrain stands first, none is lost"
    (ours,) = (bars[0] for bars in axes[0].containers if bars[0].get_color() == ONLY_B)
    assert list(ours.get_ydata()) == [names.index("MeGU")], "MeGU stands out"
    counted = [name for name in names if name not in ("Original", "Retrain, head reset (compat)")]
    assert f"number {counted.index('MeGU') + 1} of {len(counted)} " in fig.get_suptitle()


@pytest.mark.parametrize("fig", [*GAPS, known_parts.draw(DATA)], ids=lambda fig: fig.get_suptitle()[:30])
def test_no_interval_is_cut_and_every_line_is_explained(fig):
    for ax in fig.axes:
        low, high = ax.get_xlim()
        segments = [segment for bars in ax.containers for lines in bars[2] for segment in lines.get_segments()]
        ends = [x for segment in segments for x in np.reshape(segment, (-1, 2))[:, 0] if np.isfinite(x)]
        assert ax.get_xlabel() and all(low <= x <= high for x in ends)
    assert any(word in " ".join(said(fig.legends[0].get_texts())) for word in ("noise floor", "0.9"))


def test_titles_say_what_the_tables_say():
    """Each finding moves with its table."""
    shares = pd.DataFrame({"method": ["retrain", "megu", "original"] * 2, "label": ["a"] * 3 + ["b"] * 3})
    shares["share"] = [90.0, 60.0, 0.0, 10.0, 40.0, 100.0]
    (ax,) = results.flow(shares, {"original": "Original", "retrain": "Retrain", "megu": "MeGU"}).axes
    assert "30 % apart" in ax.get_title() and ax.get_title().endswith("number 1 of 1")
    assert said(ax.get_yticklabels()) == ["Retrain", "MeGU", "Original"] and "the goal" in said(ax.texts)

    rows = [("retrain", 0, 95, 0, 0), ("megu", 2, 94, 2, -1), ("ssd", 1, 94.5, 1, -0.5), ("scrub", 0, 90, 0, -5)]
    rows = [
        (name, metric, "percent", mean, 1.0, gap, 1.0)
        for name, forget, retain, *gaps in rows
        for metric, mean, gap in (("acc_forget_test", forget, gaps[0]), ("acc_retain_test", retain, gaps[1]))
    ]
    names = ["method", "metric", "unit", "mean", "half_width", "gap", "gap_half_width"]
    (ax,) = results.pareto(pd.DataFrame(rows, columns=names), {name: name for name, *_ in rows}).axes
    assert ax.get_title().startswith("1 of 2 other methods are nearer than MeGU"), "ssd is on both axes, scrub on one"
    table = pd.DataFrame(rows, columns=names)
    (whole,) = results.pareto(table.assign(half_width=0.1), {name: name for name in table["method"]}).axes
    assert "are cut" in ax.get_ylabel() and "are cut" not in whole.get_ylabel()


@pytest.mark.parametrize("draw", [comparison.pareto, disentanglement.scores])
def test_no_name_covers_another_and_hardly_a_line_crosses_one(draw):
    fig = draw(DATA)
    fig.draw_without_rendering()
    for ax in fig.axes:
        boxes, crossed = [Text.get_window_extent(text) for text in ax.texts], 0  # without its line
        assert len(boxes) > 15 and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        for own, text in enumerate(ax.texts):
            if line := getattr(text, "arrow_patch", None):
                way = line.get_transform().transform_path(line.get_path())
                crossed += sum(way.intersects_bbox(box, filled=False) for i, box in enumerate(boxes) if i != own)
        assert crossed <= 1


def test_lines_over_a_parameter_have_the_default_among_its_values():
    table = ablation.over_parameters(DATA)
    assert list(dict.fromkeys(table["parameter"])) == ["tau", "weights", "lambda", "steps"]
    for _, part in table[table["metric"] == "tow"].groupby("parameter"):
        assert part["first"].is_monotonic_increasing and part["change_half_width"].isna().sum() == 1 < len(part)
    fig = ablation.sensitivity(DATA)
    assert "of 9 changes move" in fig.get_suptitle() and len(fig.axes) == 12


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


@pytest.mark.filterwarnings("error")
def test_names_in_any_script_are_text_of_a_page_and_warned_of_only_in_pixels():
    name, figures = "\uf123", [plt.figure(), plt.figure()]  # a sign that no font has
    for fig in figures:
        fig.suptitle(name)
    assert name in deletion.svg(figures[0])
    with pytest.warns(UserWarning, match="Glyph"):
        deletion.png(figures[1])
