"""Notebooks are documents: paired, executed, short cells, one parameters cell, no path of a machine."""

import re

import jupytext
import nbformat
import pytest
from conftest import ROOT

from megu.runs.store import STAGES

FOLDER = ROOT / "notebooks"
# Those that stand alone seal no stage; their parameters.
ALONE = {
    "06_your_own_model": ["config", "model", "arch", "data", "forget", "normalise", "seed"],
    "A1_guides": ["data_dir"],
    "A2_every_method": ["data_dir"],
    "A3_one_thing_at_a_time": ["data_dir"],
    "A4_the_papers_tables": ["data_dir"],
    "A5_cost": ["profile", "seeds"],
}
PARAMETERS = {**dict.fromkeys(STAGES.values(), ["profile", "seed", "run_dir", "overrides"]), **ALONE}


@pytest.fixture(params=PARAMETERS)
def name(request):
    return request.param


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def test_every_stage_has_its_notebook():
    for kind in ("ipynb", "py"):
        assert sorted(p.stem for p in FOLDER.glob(f"*.{kind}")) == list(PARAMETERS)


def test_pair_says_the_same(name):
    paired, own = (
        [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in notebook.cells]
        for notebook in (jupytext.read(FOLDER / f"{name}.py"), read(name))
    )
    assert paired == own


def test_executed_from_top_to_bottom(name):
    """nbval compares nothing in a notebook that was never executed."""
    cells = code(name)
    if not any(cell.execution_count for cell in cells):
        pytest.skip(f"needs an executed notebooks/{name}.ipynb: make notebooks")
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert any("image/png" in o.get("data", {}) for o in outputs), "a notebook shows at least one picture"


def test_size_and_no_path_of_a_machine(name):
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < 400_000
    assert "papermill" not in read(name).metadata
    assert not re.search(r"/(home|root|Users|tmp|work)/", path.read_text())


def test_parameters_and_cells(name):
    cells, last = code(name), "statements(claims)" if name in ALONE else "lab.seal(claims)"
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1 and re.findall(r"^(\w+):", tagged[0].source, re.M) == PARAMETERS[name]
    for cell in cells:
        lines = [line for line in cell.source.splitlines() if not line.startswith(("import ", "from "))]
        assert len(lines) <= 15, cell.source
        assert not re.search(r"^\s*(def|class|try)\b", cell.source, re.M), cell.source
    assert f"print(*{last}, sep=" in cells[-1].source


def test_prose_before_code_and_a_head(name):
    cells = read(name).cells
    head = cells[0].source
    assert head.startswith(f"# {name[:2]} ·") and "**Question.**" in head and "| reads | writes | feeds |" in head
    assert any("## What was found" in cell.source for cell in cells if cell.cell_type == "markdown")
