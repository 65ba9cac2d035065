"""The paper's numbers, and ours beside them.  Numbers of ours here are made up: `paper_grid`."""

import shutil

import numpy as np
import pandas as pd
import paper_grid
import pytest
from conftest import ROOT
from shared.beside import FORMS, distances, measured, paper_table
from shared.grid import one_grid, read_grid
from shared.reported import COLUMNS, apart, read_reported

from megu.measure.metrics import METRICS
from megu.methods import METHODS
from megu.settings.class_names import known_names

DATA = ROOT / "paper_figures" / "data"
CODE = FORMS["compat"].variants
SWAP = {"acc_retain": "acc_forget", "acc_forget": "acc_retain"}


@pytest.fixture(scope="module")
def reported():
    return read_reported(DATA)


@pytest.fixture
def made(tmp_path):
    """Folder of a made-up grid beside the paper's numbers."""
    for name in ("reported.csv", "reported_source.json"):
        shutil.copy(DATA / name, tmp_path / name)
    return paper_grid.write(tmp_path, *paper_grid.grid())


@pytest.fixture
def rows(made):
    return read_grid(made, "small")[0]


@pytest.fixture
def table(reported):
    return lambda rows, mode="compat": paper_table(rows, reported, mode)


@pytest.fixture
def far(reported):
    return lambda rows, mode="compat": distances(rows, reported, mode).set_index(["table", "arch", "method"])


def altered(folder, change):
    """The paper's numbers of ``folder`` with ``change`` applied."""
    change(pd.read_csv(folder / "reported.csv")).to_csv(folder / "reported.csv", index=False)
    return read_reported(folder)


def test_the_paper_has_576_numbers_and_every_cell_is_complete(reported):
    assert len(reported) == 576 and reported["percent"].between(0, 100).all()
    assert set(reported["method"]) <= set(METHODS) and set(reported["metric"]) == set(COLUMNS)
    assert reported.groupby("table").size().to_dict() == {1: 84, 2: 84, 3: 84, 4: 42, 6: 72, 7: 105, 8: 105}
    for (dataset, scenario), part in reported.groupby(["dataset", "scenario"]):
        names, coarse = known_names(dataset)
        of_class = coarse if dataset == "cifar20" else names
        known = {"random": ["100 images"], "class": of_class, "subclass": names}[scenario]
        assert set(part["forget"]) <= set(known), "a cell of the paper has a name that our data do not know"


def test_what_is_known_of_the_papers_distances(far):
    """By mean |method - retrain| the paper's own tables do not favour MeGU everywhere."""
    found = far(read_grid(ROOT, "small")[0])["paper"]
    known = {("1", "all"): (1.29, 1.84), ("2", "all"): (8.64, 4.16), ("3", "all"): (10.5, 12.6)}
    known |= {("8", "resnet18"): (16.3, 5.0), ("4", "resnet18"): (1.5, 16.6)}
    for place, pair in known.items():
        assert [found[*place, name] for name in ("ssd", "megu")] == pytest.approx(pair, abs=0.05)


@pytest.mark.parametrize("change", [
    lambda t: t.iloc[1:],
    lambda t: pd.concat([t, t.iloc[:1]]),
    lambda t: t.assign(metric=t["metric"].where(t.index != 1, "acc_retain")),
    lambda t: t.assign(forget=t["forget"].where(t.index != 4, "mushroom")),
    lambda t: t.assign(percent=t["percent"].where(t.index != 7, 100.5)),
], ids=["missing", "twice", "renamed", "moved", "no percentage"])  # fmt: skip
def test_a_damaged_copy_of_the_papers_numbers_is_refused(made, change):
    with pytest.raises(ValueError, match=r"reported\.csv"):
        altered(made, change)


def test_an_altered_or_swapped_number_is_noticed(made, rows, reported, table):
    before = table(rows)
    cell = before.query("table == '1' and arch == 'vit-b16' and forget == 'rocket' and method == 'megu'")
    assert cell.set_index("column")["paper"].to_dict() == {"acc_retain": 92.34, "acc_forget": 0.0, "mia": 0.0}
    other = altered(made, lambda t: t.assign(percent=t["percent"].where(t.index != 0, 77.0)))
    after = paper_table(rows, other, "compat")
    differs = before["paper"].ne(after["paper"]) & before["paper"].notna()
    assert (before["gap_to_paper"] - after["gap_to_paper"])[differs].tolist() == [pytest.approx(0.7)]
    swapped = altered(made, lambda t: t.assign(metric=t["metric"].replace(SWAP)))
    assert (apart(swapped)["apart"].to_numpy() != apart(reported)["apart"].to_numpy()).any()
    retained = "table == '8' and method == 'megu' and column == 'acc_retain'"
    assert (paper_table(rows, swapped, "compat").query(retained)["paper"] < 60).any()
    assert (before.query(retained)["paper"] > 60).all()
    ours = {f"batch_{a}": f"batch_{b}" for a, b in SWAP.items()}
    after = table(rows.assign(metric=rows["metric"].replace(ours)))
    assert not np.allclose(before["gap_to_paper"], after["gap_to_paper"], equal_nan=True)


@pytest.mark.parametrize("mode", FORMS)
def test_ours_is_the_mean_over_seeds_of_the_right_rows(rows, table, mode):
    found = table(rows, mode)
    one = found.query("table == '3' and forget == 'sea' and method == 'ssd' and arch == 'resnet18'").set_index("column")
    name, goal = ("ssd-code", "retrain-head") if mode == "compat" else ("ssd", "retrain")
    values = rows[rows["dataset"] == "cifar20"].groupby(["method", "metric", "seed"])["value"].mean()
    for column, metric in zip(COLUMNS, FORMS[mode].metrics, strict=True):
        by_seed, row = values[name, metric], one.loc[column]
        gaps = by_seed - values[goal, metric]
        assert METRICS[metric].mode == mode and row["ours_method"] == name and row["seeds"] == 2
        assert row[["ours", "gap_to_retrain"]].tolist() == pytest.approx([by_seed.mean(), gaps.mean()])
        assert row["gap_half_width"] == pytest.approx(12.706 * gaps.std() / 2**0.5, rel=1e-3)
    assert found["paper"].notna().sum() == (576 if mode == "compat" else 0)
    assert set(CODE.values()).isdisjoint(found["method"])


def test_random_forgetting_is_judged_on_the_forgotten_training_images(rows, table):
    metric = table(rows, "strict").groupby("table")["metric"].agg(set)
    assert metric["4"] == {"acc_retain_test", "acc_forget_train", "mia_loss_auc"}
    assert "acc_forget_train" not in metric["1"]


def test_a_cell_that_was_not_run_says_so_and_one_that_the_paper_lacks_stands_apart(rows, table):
    found = table(rows)
    ran, other, further = (found.query(q) for q in ("status == 'run'", "table == 'other'", "method == 'scrub'"))
    cells = ran[["dataset", "ours_arch", "scenario", "forget"]].itertuples(index=False, name=None)
    assert set(cells) == set(paper_grid.CELLS) and ran["ours"].notna().all()
    assert found.loc[found["status"] == "not run", ["ours", "gap_to_paper"]].isna().all(axis=None)
    assert set(other["forget"]) == {"cat"} and set(further["table"]) == {"1", "3", "4", "other"}
    assert other["paper"].isna().all() and further["paper"].isna().all()
    assert not found.duplicated(["table", "arch", "forget", "method", "column"]).any()


@pytest.mark.parametrize("mode", FORMS)
@pytest.mark.parametrize("cells", [paper_grid.CELLS[:1], paper_grid.CELLS[4:]], ids=len)
def test_any_subset_of_cells_will_do(table, far, cells, mode):
    some = paper_grid.grid(cells, seeds=(0,), methods=("original", "retrain", "megu"))[0]
    some = some.assign(profile="small", preset="tuned", code="0")
    found = table(some, mode)
    assert found["half_width"].isna().all() and (found.loc[found["status"] == "run", "seeds"] == 1).all()
    far(some, mode)


def test_distance_to_retrain_is_that_of_each_seed_and_two_retrains_are_the_floor(rows, far):
    found = far(rows, "strict")
    of = found.sort_index().loc["3", "resnet18"]
    assert of.loc["megu", ["cells", "paper_cells", "seeds"]].tolist() == [1, 2, 2] and found["paper"].isna().all()
    part = rows[(rows["dataset"] == "cifar20") & rows["metric"].isin(FORMS["strict"].metrics)]
    points = part.assign(value=part["value"] * np.where(part["metric"] == "mia_loss_auc", 100, 1))
    points = points.groupby(["metric", "method", "seed"])["value"].mean()
    by_seed = [(points[:, "megu", seed] - points[:, "retrain", seed]).abs().mean() for seed in (0, 1)]
    floor = (points[:, "retrain", 0] - points[:, "retrain", 1]).abs().mean()
    assert of["ours"][["megu", "retrain"]].tolist() == pytest.approx([np.mean(by_seed), floor])
    half = far(rows[(rows["arch"] == "resnet-small") | (rows["seed"] == 0)], "strict")
    assert np.isfinite(half.loc[("1", "resnet18", "retrain"), "ours"]) and half.loc[("1", "all", "megu"), "seeds"] == 1
    assert np.isnan(half.loc[("1", "all", "retrain"), "ours"]), "one seed of one network: no two retrains of all cells"


def test_two_grids_in_one_table_are_refused(rows, table, far):
    for name, value in (("profile", "paper"), ("preset", "paper"), ("code", "ba9876543210")):
        both = pd.concat([rows, rows.assign(**{name: value, "seed": rows["seed"] + 5})])
        for make in (table, far):
            with pytest.raises(ValueError, match=rf"one table, one grid: the rows are of {name} '.*' and '{value}'"):
                make(both)
    with pytest.raises(ValueError, match="is there twice"):
        one_grid(pd.concat([rows, rows.iloc[:1]]))
    larger = rows[rows["arch"] == "resnet-small"].assign(arch="resnet18")
    with pytest.raises(ValueError, match="one table, one profile: resnet-small and resnet18"):
        table(pd.concat([rows, larger]), "strict")
    one_grid(rows)


def test_strict_and_compat_in_one_table_are_refused(rows):
    mixed = rows.assign(mode=rows["mode"].where(rows["metric"] != "mia_ssd_member_rate", "strict"))
    with pytest.raises(ValueError, match="one table, one mode: mia_ssd_member_rate is strict, the table compat"):
        measured(mixed, "compat")
    assert all(set(measured(rows, mode)["mode"]) == {mode} for mode in FORMS)


def test_a_missing_retrain_raises_or_leaves_no_gap(rows, table):
    def without(*names, seeds):
        return rows[~(rows["method"].isin(names) & rows["seed"].isin(seeds) & (rows["forget"] == "sea"))]

    def sea(some):
        return table(some).query("status == 'run' and forget == 'sea'")

    with pytest.raises(ValueError, match="cifar20 resnet-small subclass sea, seed 1: there is no retrained model"):
        table(without("retrain", seeds=[1]), "strict")
    some = sea(without("retrain-head", seeds=[1]))
    assert set(some.loc[some["method"] == "megu", "seeds"]) == {2}
    assert set(some["gap_seeds"]) == {1} and set(sea(rows)["gap_seeds"]) == {2}, "a gap of one seed says that it is"
    none = sea(without("retrain", "retrain-head", seeds=[0, 1]))
    assert none["gap_to_retrain"].isna().all() and none["gap_to_paper"].notna().any()
    assert "retrain" not in set(none["method"])


@pytest.mark.parametrize("name", CODE)
def test_a_public_codes_variant_stands_for_its_method_only_in_the_cells_that_have_it(rows, table, far, name):
    rocket, plain = paper_grid.in_cell(rows, "resnet-small", "rocket"), ~rows["method"].isin(CODE.values())
    some = rows[plain | (rows["method"].eq(CODE[name]) & rocket)]
    found = table(some)
    ran, missing = (found[found["status"].eq(status)] for status in ("run", "not run"))
    assert ran[["ours", "gap_to_retrain"]].notna().all(axis=None) and missing["ours_method"].isna().all()
    ran = ran[ran["method"].eq(name)]
    here = paper_grid.in_cell(ran.assign(arch=ran["ours_arch"]), "resnet-small", "rocket")
    assert set(ran.loc[here, "ours_method"]) == {CODE[name]} and set(ran.loc[~here, "ours_method"]) == {name}
    cells = ran[["ours_arch", "dataset", "scenario", "forget"]].drop_duplicates()
    assert len(cells) == len(paper_grid.CELLS) - (name == "unsir"), "a cell that has only the plain method was run"
    ours = far(some)["ours_method"]
    assert ours["1", "resnet18", name] == f"{CODE[name]}, {name}" and ours["1", "vit-b16", name] == name
    found = table(rows[plain])
    assert set(found["ours_method"]).isdisjoint(CODE.values())
    assert set(found.query("forget == 'sea' and table == '3' and arch == 'resnet18'")["status"]) == {"run"}


def test_a_method_without_a_seed_of_all_its_cells_has_no_distance_and_was_run(rows, far):
    some = rows[~rows["method"].isin(CODE.values()) & (rows["seed"] == (rows["forget"] == "mushroom"))]
    found = far(some).loc[("1", "resnet18", "megu")]
    assert np.isnan(found["ours"]) and found[["cells", "seeds"]].tolist() == [2, 0]
