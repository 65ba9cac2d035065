"""The house: imports go one way, files hold one idea, docstrings say where a formula is from."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from megu.methods import METHODS

PACKAGE = ROOT / "megu"
CODE = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
OTHERS = [path for folder in ("tests", "paper_figures", "env") for path in sorted((ROOT / folder).rglob("*.py"))]
FILES = CODE | {path.relative_to(ROOT).as_posix(): path.read_text() for path in OTHERS}
MANY = {"megu/methods", "megu/guide"}  # one file for each method, one for each source
README, LOG = (ROOT / "README.md").read_text(), (ROOT / "paper_figures" / "README.md").read_text()


def lint(folder):
    """What import-linter says of the contracts in pyproject.toml about the package in a folder."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config", ROOT / "pyproject.toml"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


@pytest.mark.slow
def test_imports_go_one_way():
    said = lint(ROOT)
    assert said.returncode == 0, said.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("file", "line", "contract"), [
    ("settings/files.py", "import megu.core.device", "Imports go one way"),
    ("noise_pair.py", "import megu.perturbing_labels", "Imports go one way"),
    ("figures/style.py", "import torch", "Figures know tables only"),
])  # fmt: skip
def test_an_import_against_the_order_is_noticed(file, line, contract, tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "megu", ignore=shutil.ignore_patterns("__pycache__", "assets"))
    broken = tmp_path / "megu" / file
    broken.write_text(broken.read_text() + f"\n{line}\n")
    said = lint(tmp_path)
    assert said.returncode and f"{contract} BROKEN" in said.stdout


def test_a_room_is_not_crowded():
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}:
        entries = [path for path in folder.iterdir() if path.name != "__pycache__"]
        assert len(entries) <= (25 if folder.relative_to(ROOT).as_posix() in MANY else 15), folder


@pytest.mark.parametrize("path", FILES)
def test_a_file_holds_one_idea(path):
    assert len(FILES[path].splitlines()) <= 250


def test_no_pickles_no_leftovers():
    for path in FILES.keys() - {"tests/house/test_house.py"}:
        assert not re.search(r"^\s*# ?(TODO|FIXME|XXX)", FILES[path], re.M), path
        pickles = r"torch\.load\((?![^)]*weights_only=True)|import pickle|allow_pickle=True"
        assert not re.search(pickles, FILES[path]), path


def test_every_source_line_is_in_the_readme_map():
    table, cited = README[README.index("## From the paper to the code") :], 0
    for path, text in CODE.items():
        for source in re.findall(r"Source: arXiv 2602\.17088,? ?([^\n]*)", text):
            for equation in re.findall(r"eq\. [\d-]+|Algorithm 1", source):
                cited += 1
                assert equation in table and path in table, (
                    f"{path} cites {equation}: README.md's map lacks one of them"
                )
    assert cited >= 9


def test_every_departure_is_in_the_assumption_log():
    log = set(re.findall(r"^\| (A\d+) \|", LOG, re.M))
    assert log == {f"A{i}" for i in range(1, 17)}
    for path, text in CODE.items():
        # Both ends of A2-A4, too.
        assert {f"A{number}" for number in re.findall(r"\bA(\d+)\b", text)} <= log, path


def test_methods_have_titles_and_sources():
    assert len({entry.title for entry in METHODS.values()}) == len(METHODS)
    assert all("Source:" in entry.unlearn.__doc__ for entry in METHODS.values())
