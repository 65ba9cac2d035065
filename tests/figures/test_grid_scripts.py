"""What the scripts of the grid print and draw.  Numbers of ours here are made up: `paper_grid`."""

import figure4_time
import pandas as pd
import paper_grid
import pytest
import table1_to_8_paper as paper
from conftest import ROOT
from shared.beside import FORMS
from shared.reported import apart, read_reported

from megu.measure.summary import minutes
from megu.methods import METHODS
from megu.runs.notebooks import run_script

HERE = ROOT / "paper_figures"
CODE = FORMS["compat"].variants


@pytest.fixture
def made():
    return paper_grid.grid()


@pytest.fixture
def written(made, tmp_path):
    """Folder of a made-up grid of some rows, and some seconds."""

    def write(rows, seconds=made[1]):
        return paper_grid.write(tmp_path, rows, seconds, made[2])

    return write


def lines(text, start="|"):
    """Cells of the lines of a Markdown table."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(start)]


def test_markdown_marks_the_public_codes_variants_cell_by_cell(written, made):
    rows = made[0]
    some = rows[(rows["method"] != "ssd-code") | paper_grid.in_cell(rows, "resnet-small", "rocket")]
    text, _ = paper.tables(written(some), "small")
    compat, _, strict = text.partition("## Strict")
    first = lines(compat, "| SSD |")[0]
    assert ["†" in value for value in first[1:]] == [True] * 3 + [False] * 3
    assert not any("not run" in value for value in first) and "†" not in strict.partition("## Distance")[0]


def test_a_distance_says_of_how_many_cells_and_seeds_it_is(written, made):
    """Table 1: two cells with two seeds, and one of the other network with one seed, without SSD."""
    rows = made[0]
    vit = rows["arch"] == "vit-tiny"
    some = rows[~rows["method"].isin(CODE.values()) & ~(vit & ((rows["seed"] > 0) | (rows["method"] == "ssd")))]
    text, tidy = paper.tables(written(some), "small")
    tidy = tidy[(tidy["metric"] == "distance_to_retrain") & (tidy["table"] == "1")]
    tidy = tidy.set_index(["mode", "arch", "method"]).sort_index()
    for mode, part in zip(FORMS, text.partition("**compat**")[2].split("**strict**"), strict=True):
        head, *body = lines(part, ("| table", "| 1 |"))
        ssd, megu = (head.index(METHODS[name].title) for name in ("ssd", "megu"))
        both, alone = ([line for line in body if line[1] == network] for network in ("both", "ResNet-18"))
        numbers = tidy.loc[mode, "all"]
        counts = numbers.loc[["megu", "ssd"], ["cells", "paper_cells", "seeds"]].to_numpy().tolist()
        assert counts == [[3, 4, 1], [2, 4, 2]]
        assert both[-1][2] == "ours" and both[-1][megu] == f"{numbers.loc['megu', 'ours']:.2f} (3 of 4 cells, 1 seed)"
        mean, half = numbers.loc["ssd", ["ours", "half_width"]]
        assert both[-1][ssd] == f"{mean:.2f} ± {half:.2f} (2 of 4 cells, 2 seeds)"
        assert alone[-1][2] == "ours, 2 of 2 cells, 2 seeds" and "cells" not in alone[-1][megu], "the same is said once"
        if mode == "compat":
            printed = apart(read_reported(HERE / "data"))
            printed = printed.query("table == 1 and method == 'ssd' and arch == 'resnet18'")["apart"].mean()
            assert both[-2][2] == "the paper's, our cells" and both[-2][ssd] == f"{printed:.2f} (2 of 4 cells)"
            assert "(3 of 4 cells)" in both[-2][megu]
            assert numbers.loc["ssd", "gap_to_paper"] == pytest.approx(numbers.loc["ssd", "ours"] - printed)


def test_what_is_no_part_of_a_cell_is_not_called_not_run(written, made):
    """UNSIR for random images, the bad teacher for classes, the second network for the cells of the appendix."""

    def some(part):
        cat = part["forget"].eq("cat") & part["method"].eq("amnesiac")
        return part[~part["method"].isin([*CODE.values(), "scrub", "amnesiac"]) | cat]

    data = written(some(made[0]), some(made[1]))
    head, _, *body = lines(figure4_time.shares(data, "small"))
    for line in body:
        cell = dict(zip(head, line, strict=True))
        missing = METHODS["unsir" if "random" in line[0] else "bad-teacher"].title
        assert [name for name in head if cell[name] == "-"] == [missing]
        assert (cell["Amnesiac (random labels)"] != "not run") == (line[0] == "resnet-small, cifar10, class: cat")
    body = lines(paper.tow(data), "| resnet")
    assert body and all("-" in line and ("not run" in line) != ("cat" in line[0]) for line in body)
    axes = paper.gaps(data)["small"].axes
    columns = {text.get_text().rpartition(" (")[0]: i for i, text in enumerate(axes[-1].get_xticklabels())}
    for ax in axes:
        drawn = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in ax.texts}
        for y, label in enumerate(ax.get_yticklabels()):
            cell = {name: drawn[y, x] for name, x in columns.items()}
            assert (cell["Bad teacher"] == "-") == ("random" not in label.get_text())
            assert (cell["Amnesiac (random labels)"] == "not run") == ("cat, class, resnet" not in label.get_text())


def test_values_of_fewer_seeds_say_so(written, made):
    rows = made[0]
    data = written(rows[(rows["method"] != "megu") | (rows["seed"] == 0)])
    head, _, *body = lines(paper.tow(data))
    for name, few in (("MeGU", True), ("SSD", False)):
        assert {"(n = 1)" in line[head.index(name)] for line in body} == {few}


@pytest.mark.slow
def test_scripts_write_one_file_for_each_profile(tmp_path):
    grid, out = paper_grid.grid(paper_grid.CELLS[3:]), tmp_path / "out"
    run_script(HERE / "table1_to_8_paper.py", paper_grid.write(tmp_path, *grid), out)
    tables, empty = out / "table1_to_8_small.md", HERE / "out" / "table1_to_8_paper.md"
    others = {"table1_to_8_small.csv", "grid_gaps_small.png", "grid_tow_small.md"}
    assert {path.name for path in out.iterdir()} == {tables.name, *others}
    text, nothing = tables.read_text(), empty.read_text()
    head = ("Orientation, not a reproduction", "25,000 (cifar100)", f"in {minutes(grid[1]):.0f} minutes")
    assert all(words in text for words in (*head, "Not in the paper: CIFAR-10"))
    assert "Nothing of this profile has been run" in nothing and "not run / 92.34 / -" in nothing
    assert "Orientation" not in nothing
    small, tidy = (pd.read_csv(path.with_suffix(".csv")) for path in (tables, empty))
    assert set(tidy["status"]) == {"not run"} and tidy["ours"].isna().all()
    assert set(small["mode"]) == set(FORMS) and "distance_to_retrain" in set(small["metric"])
    assert small.loc[small["mode"] != "compat", "paper"].isna().all()
