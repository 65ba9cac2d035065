"""Notebooks are documents: paired, executed, short cells, one parameters cell, no path of a machine."""

import re

import jupytext
import nbformat
import pytest
from conftest import ROOT

from megu.runs.store import STAGES

STAGED = sorted(STAGES.values())
ALONE = {
    "06_your_own_model": ["seed", "forget"],
    "07_cost": ["profile", "seeds"],
}  # stand alone: they seal no stage; their parameters
NAMES = [*STAGED, *ALONE]
PARAMETERS = {**ALONE, **dict.fromkeys(STAGED, ["profile", "seed", "run_dir", "overrides"])}
LAST = {**dict.fromkeys(ALONE, "statements(claims)"), **dict.fromkeys(STAGED, "lab.seal(claims)")}


def read(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_stage_has_its_notebook():
    assert (
        NAMES
        == sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb"))
        == sorted(p.stem for p in (ROOT / "notebooks").glob("*.py"))
    )


@pytest.mark.parametrize("name", NAMES)
def test_pair_says_the_same(name):
    source = jupytext.read(ROOT / "notebooks" / f"{name}.py")
    assert [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in source.cells] == [
        (c.cell_type, c.source, c.metadata.get("tags", [])) for c in read(name).cells
    ]


@pytest.mark.parametrize("name", NAMES)
def test_executed_from_top_to_bottom(name):
    """nbval compares nothing in a notebook that was never executed."""
    if not any(cell.execution_count for cell in code(read(name))):
        pytest.skip(f"needs an executed notebooks/{name}.ipynb: make notebooks")
    assert [cell.execution_count for cell in code(read(name))] == list(range(1, len(code(read(name))) + 1))
    outputs = [output for cell in code(read(name)) for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert any("image/png" in o.get("data", {}) for o in outputs), "a notebook shows at least one picture"


@pytest.mark.parametrize("name", NAMES)
def test_size_and_no_path_of_a_machine(name):
    path = ROOT / "notebooks" / f"{name}.ipynb"
    assert path.stat().st_size < 400_000
    assert "papermill" not in read(name).metadata
    assert not re.search(r"/(home|root|Users|tmp|work)/", path.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_cells(name):
    cells = code(read(name))
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1 and re.findall(r"^(\w+):", tagged[0].source, re.M) == PARAMETERS[name]
    for cell in cells:
        lines = [line for line in cell.source.splitlines() if not line.startswith(("import ", "from "))]
        assert len(lines) <= 15, cell.source
        assert not re.search(r"^\s*(def|class|try)\b", cell.source, re.M), cell.source
    assert f"print(*{LAST[name]}, sep=" in cells[-1].source and "claims" in cells[-1].source


@pytest.mark.parametrize("name", NAMES)
def test_prose_before_code_and_a_head(name):
    cells = read(name).cells
    head = cells[0].source
    assert head.startswith(f"# {name[:2]} ·") and "**Question.**" in head and "| reads | writes | feeds |" in head
    assert any("## What was found" in cell.source for cell in cells if cell.cell_type == "markdown")
