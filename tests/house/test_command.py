"""The command line: groups, old names, one line for what is wrong; parts that need an extra."""

import subprocess
import sys

import pytest
from conftest import ROOT
from refusals import refused
from typer.testing import CliRunner

from megu.cli.main import RENAMED, app
from megu.cli.options import parse

GROUPS = {"guide --source clip": "guide ask", "cost --out results": "cost measure", "cost --seeds 1": "cost predict"}
NOW = {**RENAMED, **GROUPS}


def invoke(*words):
    return CliRunner().invoke(app, [*words])


@pytest.mark.parametrize("old", NOW)
def test_an_old_name_says_the_new_one(old):
    with refused(f"is now `megu {NOW[old]}`"):
        raise invoke(*old.split()).exception
    assert invoke(*NOW[old].split(), "--help").exit_code == 0, "the new name is one"


def test_groups_have_help_and_what_is_unknown_is_refused():
    for group in ("study", "guide", "cost"):
        assert "Commands" in invoke(group, "--help").output
    assert invoke("studdy").exit_code == 2 and "No such command" in invoke("studdy").output


@pytest.mark.parametrize("name", ["table.csv", "taken"])
def test_out_is_a_folder(name, tmp_path):
    (tmp_path / "taken").touch()
    with refused(f"--out '{name}' is a file: name a folder"):
        raise invoke("tune", "--out", str(tmp_path / name)).exception


@pytest.mark.slow
def test_help_waits_for_no_slow_import():
    code = """
import sys
from megu.cli.main import app
try:
    app(["--help"])
finally:
    sys.exit(str(sys.modules.keys() & {"torch", "transformers", "pandas", "papermill", "matplotlib"}))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "unlearn" in said.stdout and said.stderr.strip() == "set()"


@pytest.mark.parametrize("words", [("--out", ""), ("--data=",), ("--forget", "ant", "--forget", ""), ("--model", "")])
def test_an_empty_value_is_no_path_to_where_one_stands(words):
    with refused(f"^{words[0].strip('=')} is empty: give a value .is a variable unset.., or leave it out"):
        raise invoke("unlearn", *words, "--retrain", "--dry-run").exception


def test_a_setting_is_given_once():
    assert parse(["recipe.lr=0.1", "recipe.lr=1e-1"]) == {"recipe.lr": 0.1}
    twice = ["forget.classes=['bag']", "forget.classes=['coat']"]
    with refused(r"--set forget.classes is given twice \(.'bag'. and .'coat'.\): give it once"):
        parse(twice)
    with refused("--set forget.classes is given twice"):
        raise invoke("unlearn", "--set", twice[0], "--set", twice[1]).exception


@pytest.mark.parametrize(("words", "needed"), [
    (["forget.count=50"], "forget.scenario=random"), (["data.size=64"], "data.name=folder"),
    (["data.source='hub'"], "data.name=cifar10"), (["forget.scenario=random", "forget.classes=['bag']"], "=class "),
])  # fmt: skip
def test_a_setting_that_a_run_does_not_read_is_refused(words, needed):
    with refused(f"^{words[-1].partition('=')[0]} is .*, which nothing reads: set .*{needed}"):
        raise invoke("run", *(word for one in words for word in ("--set", one)), "--run-dir", "/dev/null/x").exception


@pytest.mark.parametrize(
    "words", ["--forget-list a.txt --forget-list b.txt", "--test a --test=b", "--method x --method y"]
)
def test_a_file_or_name_that_would_replace_another_is_refused(words):
    with refused("^--[a-z-]* is given 2 times .*, and takes one value: give it once"):
        raise invoke("unlearn", *words.split(), "--dry-run").exception
    with refused("^no model and no arch"):  # what may be repeated, and a number that corrects another
        raise invoke("unlearn", *"--forget a --forget b --seed 1 --seed 2 --dry-run --dry-run".split()).exception
    assert "--method is given" not in str(invoke("compare", *"--method a --method b --dry-run".split()).exception)
