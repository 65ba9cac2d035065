"""A run in which nothing is forgotten goes through all notebooks, says so, and prints only claims that were asked."""

import nbformat
import pytest

from megu.runs.experiment import Experiment
from megu.runs.notebooks import run_notebooks
from megu.runs.store import STAGES


@pytest.fixture(scope="module")
def nothing_forgotten(tiny_overrides, tmp_path_factory):
    """A tiny run with a learning rate of MeGU that changes next to nothing, and no second method to save it."""
    few = {"seeds": 1, "training.epochs": 6, "compare": ["megu"], "guide.source": "posterior"}
    few["methods.megu.recipe.lr"] = 1e-9
    lab = Experiment(run_dir=tmp_path_factory.mktemp("negative") / "run", overrides={**tiny_overrides, **few})
    run_notebooks(lab, say=lambda line: None)
    return lab.run


def claims(run):
    return {claim["sentence"]: claim for stage in run.manifest["stages"].values() for claim in stage["claims"]}


def printed(run):
    """Last output of the last code cell of every executed notebook."""
    notebooks = (nbformat.read(run.path / "notebooks" / f"{name}.ipynb", as_version=4) for name in STAGES.values())
    cells = ([cell for cell in notebook.cells if cell.cell_type == "code"] for notebook in notebooks)
    return "\n".join(code[-1].outputs[-1]["text"] for code in cells)


@pytest.mark.slow
def test_a_negative_result_goes_through_all_stages_and_is_shown(nothing_forgotten):
    assert all(nothing_forgotten.sealed(stage) for stage in STAGES)
    failed = claims(nothing_forgotten)["MeGU has forgotten: forgotten test images named right, %"]
    assert failed["state"] == "fails" and failed["value"] > failed["bound"] == 2
    half = claims(nothing_forgotten)["forget images that MeGU names right, %, fewer than half of the original's"]
    assert half["state"] == "fails" and half["value"] > 1.9 * half["bound"]
    assert f"fails: {failed['sentence']} [{failed['value']:.3g}, bound <= 2]" in printed(nothing_forgotten)
    held = claims(nothing_forgotten)["the retrained model has forgotten: forgotten test images named right, %"]
    assert held["state"] == "holds", "the positive control"


@pytest.mark.slow
def test_what_was_not_asked_is_recorded_and_not_printed(nothing_forgotten):
    said, lines = claims(nothing_forgotten), printed(nothing_forgotten)
    unasked = [sentence for sentence, claim in said.items() if claim["state"] == "not asked here"]
    assert {
        "MeGU without the guide takes at most 15 % of retraining: share",
        "classes of 9 whose neighbour by the guide is sensible, mean over draws",
    } <= set(unasked)
    assert not [sentence for sentence in unasked if f": {sentence}" in lines]
    assert all(f"{claim['state']}: {sentence}" in lines for sentence, claim in said.items() if sentence not in unasked)
    assert {claim["state"] for claim in said.values() if claim["kind"] == "invariant"} <= {"holds", "not asked here"}
