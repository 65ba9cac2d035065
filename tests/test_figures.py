"""Figures and tables come from tidy data, and README says what the data say."""

import functools
import json

import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image

from megu import figures, methods
from megu.batch import NotebookError, run_script
from megu.profiles import resolve
from megu.tune import recipe_digest

HERE = ROOT / "paper_figures"
SCRIPTS = sorted(p.name for p in (*HERE.glob("fig*.py"), *HERE.glob("tab*.py")))


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_builds_from_tidy_data(script, tmp_path):
    run_script(HERE / script, HERE / "data", tmp_path)
    made, grids = list(tmp_path.iterdir()), {path.stem.split("_")[1] for path in (HERE / "data").glob("grid_*_source.json")}
    each_profile = {"fig18_grid_time.py": len(grids), "fig19_grid_gaps.py": len(grids), "tab05_paper.py": 2 * len(grids | {"small", "paper"})}
    assert len(made) == each_profile.get(script, 1)
    for path in made:
        assert (HERE / "out" / path.name).exists(), "the tracked figure is missing: make figures"
        if path.suffix == ".png":
            picture = Image.open(path).convert("L")
            assert min(picture.size) > 300 and picture.getextrema()[0] < 100 < picture.getextrema()[1]


def test_collect_refuses_an_unfinished_run(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"stages": {}}))
    with pytest.raises(NotebookError, match="not finished"):
        run_script(HERE / "collect.py", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_collect_reads_runs():
    for script in HERE.glob("*.py"):
        assert script.stem == "collect" or "manifest" not in script.read_text()


def test_readme_table_is_the_data(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import tab01_results  # noqa: PLC0415

    readme = (ROOT / "README.md").read_text()
    assert tab01_results.table(HERE / "data") in readme, "README's table is stale: make figures"
    assert tab01_results.with_table(readme, "other") != readme
    import tab02_comparison  # noqa: PLC0415

    assert tab02_comparison.tables(HERE / "data") in readme, "README's comparison is stale: make figures"
    import tab06_grid  # noqa: PLC0415

    assert tab06_grid.table(HERE / "data") in readme, "README's grid is stale: make figures"


def test_source_and_data_belong_together():
    source, results = json.loads((HERE / "data" / "source.json").read_text()), pd.read_csv(HERE / "data" / "results.csv")
    assert source["seeds"] == sorted(results["seed"].unique())
    assert set(results["method"]) == {"original", "retrain", *resolve().compare}


def test_the_defaults_are_what_was_chosen_on_validation_images():
    table = pd.read_csv(HERE / "data" / "tuning.csv")
    assert (table.groupby("method")["chosen"].sum() == 1).all()
    assert set(table["recipe"]) == {recipe_digest(resolve())}, "the recipe has changed since the search: python -m megu tune"
    for row in table[table["chosen"]].to_dict("records"):
        tried = table[table["method"] == row["method"]]
        assert row["score"] == tried["score"].max() and len(tried) == len(table) / table["method"].nunique(), "equal numbers of trials"
        parameters = methods.method_settings(row["method"], resolve()).model_dump()
        for name in methods.METHODS[row["method"]].search:
            value = functools.reduce(lambda group, key: group[key], name.split("."), parameters)
            assert value == row[name], f"{row['method']}: {name} is not the tuned value"


def test_no_second_is_lost_in_the_figure_of_times():
    parts = [("ssd", "importance", 3.0), ("ssd", "fine-tuning", 1.0), ("megu", "noise", 0.5), ("megu", "fine-tuning", 2.0), ("megu", "evaluation", 9.0)]
    fig = figures.time_per_stage(pd.DataFrame(parts, columns=["method", "part", "seconds"]), {"ssd": "SSD", "megu": "MeGU"})
    assert [text.get_text().strip() for text in fig.axes[0].texts] == ["4.0 s", "2.5 s"]
    assert "other" in [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
