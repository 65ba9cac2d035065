"""What the scripts of the grid print and draw.  Numbers of ours here are made up: `paper_grid`."""

import importlib

import pandas as pd
import paper_grid
import pytest
from conftest import ROOT

from megu.figures.paper_tables import FORMS
from megu.figures.reported import apart, read_reported
from megu.measure.summary import minutes
from megu.methods import METHODS
from megu.runs.notebooks import run_script

HERE = ROOT / "paper_figures"
CODE = FORMS["compat"].variants


@pytest.fixture
def rows():
    return paper_grid.grid()[0]


@pytest.fixture
def script(monkeypatch):
    """Imports a script of paper_figures by its name."""
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module


def test_markdown_marks_the_public_codes_variants_cell_by_cell(tmp_path, rows, script):
    _, seconds, source = paper_grid.grid()
    some = rows[(rows["method"] != "ssd-code") | paper_grid.in_cell(rows, "resnet-small", "rocket")]
    paper_grid.write(tmp_path, some, seconds, source)
    text, _ = script("tab05_paper").tables(tmp_path, "small")
    lines = [line.split(" | ") for line in text.partition("## Strict")[0].splitlines() if line.startswith("| SSD |")]
    assert ["†" in value for value in lines[0][1:]] == [True] * 3 + [False] * 3 and not any(
        "not run" in value for value in lines[0]
    )
    assert "†" not in text.partition("## Strict")[2].partition("## Distance")[0]


def test_a_distance_says_of_how_many_cells_and_seeds_it_is(tmp_path, rows, script):
    """Table 1: two cells with two seeds, and one of the other network with one seed, without SSD."""
    _, seconds, source = paper_grid.grid()
    vit = rows["arch"] == "vit-tiny"
    some = rows[~rows["method"].isin(CODE.values()) & ~(vit & ((rows["seed"] > 0) | (rows["method"] == "ssd")))]
    paper_grid.write(tmp_path, some, seconds, source)
    text, tidy = script("tab05_paper").tables(tmp_path, "small")
    tidy = (
        tidy[(tidy["metric"] == "distance_to_retrain") & (tidy["table"] == "1")]
        .set_index(["mode", "arch", "method"])
        .sort_index()
    )
    for mode, part in zip(FORMS, text.partition("**compat**")[2].split("**strict**"), strict=True):
        lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith(("| table", "| 1 |"))]
        ssd, megu = (lines[0].index(METHODS[name].title) for name in ("ssd", "megu"))
        both, alone = ([line for line in lines if line[1] == network] for network in ("both", "ResNet-18"))
        numbers = tidy.loc[mode, "all"]
        assert numbers.loc[["megu", "ssd"], ["cells", "paper_cells", "seeds"]].to_numpy().tolist() == [
            [3, 4, 1],
            [2, 4, 2],
        ]
        assert both[-1][2] == "ours" and both[-1][megu] == f"{numbers.loc['megu', 'ours']:.2f} (3 of 4 cells, 1 seed)"
        assert (
            both[-1][ssd]
            == f"{numbers.loc['ssd', 'ours']:.2f} ± {numbers.loc['ssd', 'half_width']:.2f} (2 of 4 cells, 2 seeds)"
        )
        assert alone[-1][2] == "ours, 2 of 2 cells, 2 seeds" and "cells" not in alone[-1][megu], (
            "what is the same is said once"
        )
        if mode == "compat":
            printed = (
                apart(read_reported(HERE / "data"))
                .query("table == 1 and method == 'ssd' and arch == 'resnet18'")["apart"]
                .mean()
            )
            assert (
                both[-2][2] == "the paper's, our cells"
                and both[-2][ssd] == f"{printed:.2f} (2 of 4 cells)"
                and "(3 of 4 cells)" in both[-2][megu]
            )
            assert numbers.loc["ssd", "gap_to_paper"] == pytest.approx(numbers.loc["ssd", "ours"] - printed)


def panels(figure):
    """Title and texts of every panel."""
    return {
        ax.get_title().replace("\n", ", "): [text.get_text().strip() for text in ax.texts]
        for ax in figure.axes
        if ax.get_title()
    }


def test_what_is_no_part_of_a_cell_is_not_called_not_run(tmp_path, rows, script):
    """UNSIR for random images, the bad teacher for classes, the second network for the cells of the appendix."""
    _, seconds, source = paper_grid.grid()
    some = [
        part[
            ~part["method"].isin([*CODE.values(), "scrub", "amnesiac"])
            | (part["forget"].eq("cat") & part["method"].eq("amnesiac"))
        ]
        for part in (rows, seconds)
    ]
    beyond = some[0][paper_grid.in_cell(some[0], "resnet-small", "rocket")].assign(forget="baby")
    paper_grid.write(tmp_path, pd.concat([some[0], beyond]), some[1], source)
    drawn = panels(script("fig18_grid_time").draw(tmp_path, "small"))
    names = ["finetune", "amnesiac", "bad-teacher", "unsir", "ssd", "megu"]
    texts = {title: dict(zip(names, found, strict=True)) for title, found in drawn.items()}
    assert {title: [name for name in names if found[name] == "-"] for title, found in texts.items()} == {
        title: ["unsir"] if "random" in title else ["bad-teacher"] for title in texts
    }  # fmt: skip
    assert [title for title, found in texts.items() if found["amnesiac"] != "not run"] == [
        "cifar10, class, cat, resnet-small"
    ]
    lines = [
        line.strip("| ").split(" | ")
        for line in script("tab06_grid").table(tmp_path).splitlines()
        if line.startswith("| resnet")
    ]
    assert all(("-" in line) and ("not run" in line) != ("cat" in line[0]) for line in lines)
    of = {
        title: found
        for title, found in panels(script("fig19_grid_gaps").draw(tmp_path, "small")).items()
        if title.endswith("loss attack AUC")
    }
    assert of == {
        "resnet-small, 2 seeds, loss attack AUC": [],
        "vit-tiny, 2 seeds, loss attack AUC": ["not run", "not run", "not run", "not in the grid", "not run"],
    }


def test_values_of_fewer_seeds_say_so(tmp_path, rows, script):
    _, seconds, source = paper_grid.grid()
    paper_grid.write(tmp_path, rows[(rows["method"] != "megu") | (rows["seed"] == 0)], seconds, source)
    assert {title.split(", ")[1] for title in panels(script("fig19_grid_gaps").draw(tmp_path, "small"))} == {
        "1 to 2 seeds"
    }
    head, _, *lines = [
        line.strip("| ").split(" | ")
        for line in script("tab06_grid").table(tmp_path).splitlines()
        if line.startswith("|")
    ]
    assert {"(n = 1)" in line[head.index("MeGU")] for line in lines} == {True} and {
        "(n = 1)" in line[head.index("SSD")] for line in lines
    } == {False}


@pytest.mark.slow
def test_scripts_write_one_file_for_each_profile(tmp_path):
    rows, seconds, source = paper_grid.grid(paper_grid.CELLS[3:])
    paper_grid.write(tmp_path, rows, seconds, source)
    out = tmp_path / "out"
    for script in ("tab05_paper", "fig18_grid_time", "fig19_grid_gaps"):
        run_script(HERE / f"{script}.py", tmp_path, out)
    assert {path.name for path in out.iterdir()} == {
        "grid_small_tables.md", "grid_small_tables.csv", "fig18_grid_time_small.png", "fig19_grid_gaps_small.png",
    }  # fmt: skip
    tracked = tmp_path / "tracked"
    run_script(HERE / "tab05_paper.py", HERE / "data", tracked)
    text, nothing = (out / "grid_small_tables.md").read_text(), (tracked / "grid_paper_tables.md").read_text()
    for told in (
        "Orientation, not a reproduction",
        "25,000 (cifar100)",
        f"in {minutes(seconds):.0f} minutes",
        "Not in the paper: CIFAR-10",
    ):
        assert told in text
    assert (
        "Nothing of this profile has been run" in nothing
        and "Orientation" not in nothing
        and "not run / 92.34 / -" in nothing
    )
    tidy = pd.read_csv(tracked / "grid_paper_tables.csv")
    assert set(tidy["status"]) == {"not run"} and tidy["ours"].isna().all()
    small = pd.read_csv(out / "grid_small_tables.csv")
    assert set(small["mode"]) == set(FORMS) and "distance_to_retrain" in set(small["metric"])
    for _, part in small.groupby(["mode", "metric"]):
        assert part["paper"].isna().all() or part["mode"].eq("compat").all()
