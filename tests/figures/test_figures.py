"""Figures and tables come from tidy data."""

import functools
import json
import runpy
import shlex
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image

from megu import methods
from megu.cli.options import parse
from megu.figures import heatmaps
from megu.figures import results as figures
from megu.figures.style import METRICS
from megu.measure.summary import summary
from megu.runs.notebooks import run_script
from megu.runs.tune import recipe_digest
from megu.settings.errors import NotebookError
from megu.settings.profiles import resolve

HERE = ROOT / "paper_figures"
SCRIPTS = sorted(p.name for p in (*HERE.glob("fig*.py"), *HERE.glob("tab*.py")))


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_builds_from_tidy_data(script, tmp_path):
    run_script(HERE / script, HERE / "data", tmp_path)
    made, grids = (
        list(tmp_path.iterdir()),
        {path.stem.split("_")[1] for path in (HERE / "data").glob("grid_*_source.json")},
    )
    each_profile = {
        "fig18_grid_time.py": len(grids),
        "fig19_grid_gaps.py": len(grids),
        "tab05_paper.py": 2 * len(grids | {"small", "paper"}),
    }
    assert len(made) == each_profile.get(script, 1)
    for path in made:
        assert (HERE / "out" / path.name).exists(), "the tracked figure is missing: make figures"
        if path.suffix == ".md":
            assert path.read_text() == (HERE / "out" / path.name).read_text(), (
                "the tracked table is stale: make figures"
            )
        if path.suffix == ".png":
            picture = Image.open(path).convert("L")
            assert min(picture.size) > 300 and picture.getextrema()[0] < 100 < picture.getextrema()[1]


def test_collect_refuses_an_unfinished_run(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"stages": {}}))
    with pytest.raises(NotebookError, match="not finished"):
        run_script(HERE / "collect.py", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", ["collect.py", "fig5_gaps.py", "fig6_comparison.py", "tab01_results.py"])
def test_a_folder_that_is_not_there_is_answered_in_one_sentence(script, tmp_path):
    with pytest.raises(NotebookError, match=r"'nowhere' is no (folder|run directory): give one") as told:
        run_script(HERE / script, tmp_path / "nowhere", tmp_path / "out")
    assert (
        "\n" not in str(told.value) and isinstance(told.value.__cause__, SystemExit) and not (tmp_path / "out").exists()
    )
    if script == "fig5_gaps.py":
        with pytest.raises(NotebookError, match=r"summary\.csv is not in"):
            run_script(HERE / script, tmp_path, tmp_path / "out")


CHANGES = (
    ("quick", 0, {}),
    ("quick", 3, {"seeds": 1, "forget.classes": ["sandal"], "compare": ["megu"]}),
    (
        "quick",
        0,
        {
            "methods.megu.noise.lam": 0.2,
            "methods.finetune.recipe.lr": 0.05,
            "forget.scenario": "random",
            "forget.count": 7,
        },
    ),
    ("small", 0, {"data.name": "cifar20", "forget.classes": ["vehicles 2"], "arch": "vit-tiny", "training.epochs": 2}),
    ("paper", 1, {"preset": "tuned", "compare": ["ssd", "megu"], "guide.source": "mllm", "guide.model": "7"}),
)


@pytest.mark.parametrize(("profile", "seed", "overrides"), CHANGES)
def test_the_command_of_a_run_makes_the_same_run(profile, seed, overrides, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import collect  # noqa: PLC0415

    settings = resolve(profile, seed, overrides)
    parameters = {name: methods.method_settings(name, settings).model_dump(mode="json") for name in settings.compare}
    said = shlex.split(
        collect.command({"settings": settings.model_dump(mode="json", exclude={"methods"}), "parameters": parameters})
    )
    if not overrides:
        assert said == ["make", "reproduce"]
        return
    assert said[:6] == ["python", "-m", "megu", "run", "--profile", profile] and ("--seed" in said) == bool(seed)
    again = resolve(profile, seed, parse([said[i + 1] for i, part in enumerate(said) if part == "--set"]))
    assert again.model_dump(exclude={"methods"}) == settings.model_dump(exclude={"methods"})
    assert {name: methods.method_settings(name, again).model_dump(mode="json") for name in again.compare} == parameters
    assert len(said) < 20, "what a recipe brings along need not be said"


def test_one_seed_has_no_interval(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(HERE))
    import tab01_results  # noqa: PLC0415
    import tab03_ablation  # noqa: PLC0415

    for name in ("timings.csv", "ablation.csv", "results.csv"):
        table = pd.read_csv(HERE / "data" / name)
        table[table["seed"] == 0].to_csv(tmp_path / name, index=False)
    summary(pd.read_csv(tmp_path / "results.csv")).to_csv(tmp_path / "summary.csv", index=False)
    for name in ("source.json", "ablation_source.json"):
        (tmp_path / name).write_text(json.dumps(json.loads((HERE / "data" / name).read_text()) | {"seeds": [0]}))
    for script in (tab01_results, tab03_ablation):
        assert (
            "±" not in script.table(tmp_path)
            and "nan" not in script.table(tmp_path)
            and "one seed" in script.table(tmp_path)
        )
        assert "±" in script.table(HERE / "data")


def drawn(script):
    """The figure of a script, drawn from the tracked data."""
    sys.path.insert(0, str(HERE))
    try:
        made = runpy.run_path(str(HERE / script))
        return made["draw"](HERE / "data")
    finally:
        sys.path.remove(str(HERE))


@pytest.mark.parametrize("script", ["fig5_gaps.py", "fig6_comparison.py"])
def test_metrics_have_words(script):
    fig = drawn(script)
    assert not [ax.get_title() for ax in fig.axes if "_" in ax.get_title() or ax.get_title() in METRICS]
    assert {label.get_text() for ax in fig.axes for label in ax.texts} <= {" not run"} and all(
        ax.xaxis.get_tick_params()["labelbottom"] for ax in fig.axes
    )
    assert any(ax.texts for ax in fig.axes) == (script == "fig6_comparison.py"), "what was not run is said"


@pytest.mark.parametrize("script", ["fig15_disentanglement.py", "fig16_known_parts.py"])
def test_no_interval_is_cut_and_every_line_is_explained(script):
    fig = drawn(script)
    for ax in fig.axes:
        low, high = ax.get_xlim()
        ends = [
            x
            for bars in ax.containers
            for lines in bars[2]
            for segment in lines.get_segments()
            for x in segment[:, 0]
            if np.isfinite(x)
        ]
        assert ax.get_xlabel() and all(low <= x <= high for x in ends)
    explained = " ".join(text.get_text() for text in fig.legends[0].get_texts())
    assert ("interval" if "15" in script else "0.9") in explained


def test_a_colour_bar_says_what_lies_beyond_it():
    sim = np.array([[0.9, 0.2], [0.1, 0.15]])
    words = {"title": "", "xlabel": "", "ylabel": "", "label": "share"}
    for top, extend in ((0.9, "max"), (0.15, "neither")):
        sim[0, 0] = top
        assert heatmaps.matrix(sim, "ab", **words).axes[1]._colorbar.extend == extend


def test_only_collect_reads_runs():
    for script in HERE.glob("*.py"):
        assert script.stem == "collect" or "manifest" not in script.read_text()


def test_source_and_data_belong_together():
    source, results = (
        json.loads((HERE / "data" / "source.json").read_text()),
        pd.read_csv(HERE / "data" / "results.csv"),
    )
    assert source["seeds"] == sorted(results["seed"].unique())
    assert set(results["method"]) == {"original", "retrain", *resolve().compare}


def test_the_defaults_are_what_was_chosen_on_validation_images():
    table = pd.read_csv(HERE / "data" / "tuning.csv")
    assert (table.groupby("method")["chosen"].sum() == 1).all()
    assert set(table["recipe"]) == {recipe_digest(resolve())}, (
        "the recipe has changed since the search: python -m megu tune"
    )
    for row in table[table["chosen"]].to_dict("records"):
        tried = table[table["method"] == row["method"]]
        assert row["score"] == tried["score"].max() and len(tried) == len(table) / table["method"].nunique(), (
            "equal numbers of trials"
        )
        parameters = methods.method_settings(row["method"], resolve()).model_dump()
        for name in methods.METHODS[row["method"]].search:
            value = functools.reduce(lambda group, key: group[key], name.split("."), parameters)
            assert value == row[name], f"{row['method']}: {name} is not the tuned value"


def test_no_second_is_lost_in_the_figure_of_times():
    parts = [
        ("ssd", "importance", 3.0),
        ("ssd", "fine-tuning", 1.0),
        ("megu", "noise", 0.5),
        ("megu", "fine-tuning", 2.0),
        ("megu", "evaluation", 9.0),
    ]
    fig = figures.time_per_stage(
        pd.DataFrame(parts, columns=["method", "part", "seconds"]), {"ssd": "SSD", "megu": "MeGU"}
    )
    assert [text.get_text().strip() for text in fig.axes[0].texts] == ["4.0 s", "2.5 s"]
    assert "other" in [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
