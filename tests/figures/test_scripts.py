"""Figures and tables come from tidy data."""

import functools
import json
import shlex

import ablation
import collect
import numpy as np
import pandas as pd
import pytest
import table1_results
from conftest import ROOT
from PIL import Image

from megu import methods
from megu.cli.options import parse
from megu.figures.markdown import fill
from megu.measure.summary import summary
from megu.runs.notebooks import run_script
from megu.runs.tune import recipe_digest
from megu.settings.errors import NotebookError
from megu.settings.profiles import resolve

HERE = ROOT / "paper_figures"
DATA = HERE / "data"
SCRIPTS = sorted(path.name for path in HERE.glob("*.py") if path.stem not in ("collect", "documents"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of all outputs, made from the tracked data."""
    out = tmp_path_factory.mktemp("out")
    for script in SCRIPTS:
        assert run_script(HERE / script, DATA, out), f"{script} writes nothing"
    return out


def test_every_script_builds_what_is_tracked(made):
    assert {path.name for path in made.iterdir()} == {path.name for path in (HERE / "out").iterdir()}, "make figures"
    for path in made.iterdir():
        if path.suffix == ".png":
            picture = Image.open(path).convert("L")
            assert min(picture.size) > 300 and picture.getextrema()[0] < 100 < picture.getextrema()[1]
        else:
            assert path.read_text() == (HERE / "out" / path.name).read_text(), f"{path.name} is stale: make figures"


@pytest.mark.parametrize(("text", "more", "said"), [
    ("<!-- begin z -->\n<!-- end z -->", {}, "no function makes the span 'z': choose one of x"),
    ("<!-- begin x -->", {}, "the span 'x' needs both of its marks"),
    ("1 <!-- end x -->", {}, "the span 'x' needs both of its marks"),
    ("", {"y": str}, "no span 'y'"),
])  # fmt: skip
def test_a_span_that_cannot_be_filled_is_refused(text, more, said):
    whole = "a <!-- begin x -->1<!-- end x -->,\n<!-- begin x -->\n\n<!-- end x -->\n"
    spans = {"x": lambda: "2 \\1\n"}
    assert fill(whole, spans) == "a <!-- begin x -->2 \\1<!-- end x -->,\n<!-- begin x -->\n2 \\1\n<!-- end x -->\n"
    with pytest.raises(ValueError, match=said):
        fill(whole + text, spans | more)


def test_collect_refuses_an_unfinished_run(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"stages": {}}))
    with pytest.raises(NotebookError, match="not finished"):
        run_script(HERE / "collect.py", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_overview_follows_one_image_of_a_run_that_can_be_opened(tiny):
    made = collect.overview(tiny)
    table, pixels = made["overview"].set_index("role"), made["overview_image"]
    assert table.loc["own", "class"] == "shirt" != table.loc["chosen", "class"] and len(table) == len(
        tiny.images.classes
    )
    assert len(pixels) == np.prod(tiny.images.shape) and not pixels["positive"].equals(pixels["negative"])
    assert collect._opened(tiny.run.path, tiny.run.manifest) is None, "no run of images that the package lacks"


@pytest.mark.parametrize("script", ["collect.py", "table1_results.py", "comparison.py"])
def test_a_folder_that_is_not_there_is_answered_in_one_sentence(script, tmp_path):
    with pytest.raises(NotebookError, match=r"'nowhere' is no (folder|run directory): give one") as refused:
        run_script(HERE / script, tmp_path / "nowhere", tmp_path / "out")
    assert "\n" not in str(refused.value) and isinstance(refused.value.__cause__, SystemExit)
    assert not (tmp_path / "out").exists()
    if script == "table1_results.py":
        with pytest.raises(NotebookError, match=r"summary\.csv is not in"):
            run_script(HERE / script, tmp_path, tmp_path / "out")
    if script == "comparison.py":
        assert run_script(HERE / script, tmp_path, tmp_path / "out") == [], "a run has no comparison of its own"


CHANGES = (
    ("quick", 0, {}),
    ("quick", 3, {"seeds": 1, "forget.classes": ["sandal"], "compare": ["megu"]}),
    ("quick", 0, {"methods.megu.noise.lam": 0.2, "methods.finetune.recipe.lr": 0.05, "forget.scenario": "random"}
     | {"forget.count": 7}),
    ("small", 0, {"data.name": "cifar20", "forget.classes": ["vehicles 2"], "arch": "vit-tiny", "training.epochs": 2}),
    ("paper", 1, {"preset": "tuned", "compare": ["ssd", "megu"], "guide.source": "mllm", "guide.model": "7"}),
)  # fmt: skip


@pytest.mark.parametrize(("profile", "seed", "overrides"), CHANGES)
def test_the_command_of_a_run_makes_the_same_run(profile, seed, overrides):
    def parts(settings):
        of_methods = {name: methods.method_settings(name, settings) for name in settings.compare}
        parameters = {name: found.model_dump(mode="json") for name, found in of_methods.items()}
        return {"settings": settings.model_dump(mode="json", exclude={"methods"}), "parameters": parameters}

    settings = resolve(profile, seed, overrides)
    said = shlex.split(collect.command(parts(settings)))
    if not overrides:
        assert said == ["make", "reproduce"]
        return
    assert said[:6] == ["python", "-m", "megu", "run", "--profile", profile] and ("--seed" in said) == bool(seed)
    again = resolve(profile, seed, parse([said[i + 1] for i, part in enumerate(said) if part == "--set"]))
    assert parts(again) == parts(settings)
    assert len(said) < 20, "what a recipe brings along need not be said"


def test_one_seed_has_no_interval(tmp_path):
    for name in ("timings.csv", "ablation.csv", "results.csv"):
        table = pd.read_csv(DATA / name)
        table[table["seed"] == 0].to_csv(tmp_path / name, index=False)
    summary(pd.read_csv(tmp_path / "results.csv")).to_csv(tmp_path / "summary.csv", index=False)
    for name in ("source.json", "ablation_source.json"):
        (tmp_path / name).write_text(json.dumps(json.loads((DATA / name).read_text()) | {"seeds": [0]}))
    for script in (table1_results, ablation):
        text = script.table(tmp_path)
        assert "±" not in text and "nan" not in text and "one seed" in text
        assert "±" in script.table(DATA)


def test_only_collect_reads_runs():
    for script in HERE.rglob("*.py"):
        assert script.stem == "collect" or "manifest" not in script.read_text()


def test_source_and_data_belong_together():
    source, results = json.loads((DATA / "source.json").read_text()), pd.read_csv(DATA / "results.csv")
    assert source["seeds"] == sorted(results["seed"].unique())
    assert set(results["method"]) == {"original", "retrain", *resolve().compare}


def test_the_defaults_are_what_was_chosen_on_validation_images():
    table = pd.read_csv(DATA / "tuning.csv")
    assert (table.groupby("method")["chosen"].sum() == 1).all() and table.groupby("method").size().nunique() == 1
    assert set(table["recipe"]) == {recipe_digest(resolve())}, "the recipe has changed: python -m megu tune"
    for row in table[table["chosen"]].to_dict("records"):
        assert row["score"] == table.loc[table["method"] == row["method"], "score"].max()
        parameters = methods.method_settings(row["method"], resolve()).model_dump()
        if row["method"] == "megu":  # searched as two free weights, before eq. 11 was known
            pair = parameters["noise"]["alpha"], 1 - parameters["noise"]["alpha"]
            found = [parameters["noise"]["scale"] * share for share in pair]
            assert found == pytest.approx([row["noise.weight_pos"], row["noise.weight_neg"]])
        for name in methods.METHODS[row["method"]].search.keys() & row.keys():
            value = functools.reduce(lambda group, key: group[key], name.split("."), parameters)
            assert value == row[name], f"{row['method']}: {name} is not the tuned value"
