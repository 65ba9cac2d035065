"""The house: imports go one way, files hold one idea, docstrings say where a formula is from."""

import ast
import re
import subprocess
import sys

import pytest
from conftest import ROOT

import megu
from megu.methods import METHODS

PACKAGE = ROOT / "megu"
ORDER = re.findall(r"^    (\w+) {2,}", megu.__doc__, re.M)
FILES = sorted(p for folder in ("megu", "tests", "paper_figures", "env") for p in (ROOT / folder).rglob("*.py"))
NO_TORCH = (
    "classes", "cells", "values", "config", "profiles", "disk", "store", "tables", "grid_tables", "reported", "paper_tables", "style", "figures",
    "grid_figures", "pattern_figures", "heatmaps", "batch",
)  # fmt: skip


def imported(path):
    """Names of the megu modules that a file imports, first level."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "megu":
            deeper = node.module.split(".")[1:]
            found |= {deeper[0]} if deeper else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("megu.")}
    return found


def modules():
    return [(p.relative_to(PACKAGE).parts[0].removesuffix(".py"), p) for p in sorted(PACKAGE.rglob("*.py"))]


def test_every_module_has_its_place():
    assert {name for name, _ in modules()} - {"__init__", "__main__"} == set(ORDER)


@pytest.mark.parametrize(("name", "path"), [(n, p) for n, p in modules() if n not in ("__init__", "__main__")], ids=lambda v: getattr(v, "stem", v))
def test_a_module_imports_only_what_stands_above_it(name, path):
    above = ORDER[: ORDER.index(name)]
    inside = {name} if path.parent != PACKAGE else set()
    assert imported(path) <= {*above, *inside}, f"{path.name} reaches down"


def test_guide_transition_and_noise_do_not_know_of_each_other():
    rooms = ("guide", "transition", "noise")
    for name, path in modules():
        if name in rooms:
            assert not imported(path) & (set(rooms) - {name})


def test_modules_without_torch():
    for name, path in modules():
        if name in NO_TORCH:
            assert "import torch" not in path.read_text() and "from torch" not in path.read_text()
            reached = imported(path)
            assert reached <= set(NO_TORCH) | {"__version__"}, f"{name} reaches torch through {reached}"


def test_help_waits_for_no_slow_import():
    slow = "[name for name in ('torch', 'transformers', 'pandas', 'papermill', 'matplotlib') if name in sys.modules]"
    code = "import sys\nsys.argv = ['megu', '--help']\nfrom megu import __main__\ntry:\n    __main__.main()\nfinally:\n    sys.exit(str(SLOW))"
    said = subprocess.run([sys.executable, "-c", code.replace("SLOW", slow)], capture_output=True, text=True, cwd=ROOT)
    assert "unlearn" in said.stdout and said.stderr.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_holds_one_idea(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 250 or "lines because" in lines[0]


def test_no_pickles_no_leftovers():
    for path in set(FILES) - {ROOT / "tests" / "test_layers.py"}:
        text = path.read_text()
        assert not re.search(r"^\s*# ?(TODO|FIXME|XXX)", text, re.M), path
        assert not re.search(r"torch\.load\((?![^)]*weights_only=True)|import pickle|allow_pickle=True", text), path


def test_every_source_line_is_in_the_readme_map():
    readme = (ROOT / "README.md").read_text()
    table, cited = readme[readme.index("## From the paper to the code") :], 0
    for path in PACKAGE.rglob("*.py"):
        for source in re.findall(r"Source: arXiv 2602\.17088,? ?([^\n]*)", path.read_text()):
            for equation in re.findall(r"eq\. [\d-]+|Algorithm 1", source):
                cited += 1
                assert equation in table, f"{path.name} cites {equation}, which the map in README.md lacks"
                assert path.relative_to(ROOT).as_posix() in table, f"{path.name} is not in the map in README.md"
    assert cited >= 9


def test_every_departure_is_in_the_assumption_log():
    readme = (ROOT / "README.md").read_text()
    log = set(re.findall(r"^\| (A\d+) \|", readme, re.M))
    assert log == {f"A{i}" for i in range(1, 14)}
    for path in PACKAGE.rglob("*.py"):
        for first, last in re.findall(r"\bA(\d+)(?:-A(\d+))?\b", path.read_text()):
            assert f"A{first}" in log and (not last or f"A{last}" in log)


def test_methods_have_titles_and_sources():
    assert len({entry.title for entry in METHODS.values()}) == len(METHODS)
    assert all("Source:" in entry.unlearn.__doc__ for entry in METHODS.values())
