"""Notebooks are documents: paired, executed, short cells, one parameters cell, no path of a machine."""

import re
import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import ipywidgets
import jupytext
import jupytext.cli
import nbformat
import papermill
import pytest
from conftest import ROOT
from papermill.exceptions import PapermillExecutionError
from papermill.translators import translate_parameters
from pixels import write

from megu.runs.store import STAGES
from megu.settings.errors import SettingsError
from megu.settings.values import check_parameters

FOLDER, PROJECT = ROOT / "notebooks", (ROOT / "pyproject.toml").read_text()
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}  # as JupyterLab writes it
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


def saved(name, folder, settings):
    """Which of a copied pair change when JupyterLab opens and saves the notebook, then its .py, and jupytext syncs."""
    files = [folder / "notebooks" / f"{name}.{kind}" for kind in ("ipynb", "py")]
    files[0].parent.mkdir()
    (folder / "pyproject.toml").write_text(settings)
    for file in files:
        shutil.copy(FOLDER / file.name, file)
    before = [file.read_bytes() for file in files]
    for file in files:
        editor, path = jupytext.TextFileContentsManager(root_dir=str(folder)), f"notebooks/{file.name}"
        content = editor.get(path, content=True, type="notebook")["content"]
        content["metadata"]["kernelspec"] = KERNEL
        editor.save({"type": "notebook", "format": "json", "content": content}, path)
    jupytext.cli.jupytext(["--quiet", "--sync", str(files[0])])
    return [file.suffix for file, text in zip(files, before, strict=True) if file.read_bytes() != text]


def test_saving_in_an_editor_changes_nothing(name, tmp_path):
    assert saved(name, tmp_path, PROJECT) == []


def test_a_header_that_an_editor_changes_is_noticed(tmp_path):
    whole = re.sub(r"(?<=kernelspec,)jupytext.*(?=,-all)", "jupytext", PROJECT)
    assert whole != PROJECT and ".py" in saved("A5_cost", tmp_path, whole)


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


def test_help_lists_every_parameter(name):
    listed = papermill.inspect_notebook(FOLDER / f"{name}.ipynb")
    assert list(listed) == PARAMETERS[name]
    assert all(one["inferred_type_name"] in ("str", "int", "dict") and one["help"] for one in listed.values())


def test_parameters_are_checked_at_once(name):
    cells = code(name)
    at = next(i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
    assert cells[at + 1].source.startswith("check_parameters(globals())\n")


WRONG = [
    ({"sede": 1}, "parameter 'sede' does not exist; did you mean 'seed'?"),
    ({"seed": "one"}, "parameter 'seed' is 'one': give int"),
    ({"seed": True}, "parameter 'seed' is True: give int"),
    ({"overrides": "seeds=1"}, "parameter 'overrides' is 'seeds=1': give dict"),
]


@pytest.mark.parametrize(("given", "why"), [({"seed": 1, "overrides": {"forget.count": 2}}, ""), *WRONG])
def test_a_wrong_parameter_is_refused(given, why):
    parameters = next(cell.source for cell in code("00_prepare") if "parameters" in cell.metadata.get("tags", []))
    cells = ["import megu", parameters, translate_parameters("python3", "python", given, "Parameters"), "if broken("]
    names = {"In": cells}
    exec("\n".join(cells[:-1]), names)
    with pytest.raises(SettingsError, match=re.escape(why)) if why else nullcontext():
        check_parameters(names)


@pytest.mark.slow
@pytest.mark.parametrize(("given", "why"), [({"seed": 1}, ""), WRONG[0]])
def test_papermill_stops_at_a_wrong_parameter(given, why, tmp_path):
    notebook = read("00_prepare")
    at = next(i for i, cell in enumerate(notebook.cells) if cell.source.startswith("check_parameters"))
    check = "from megu.settings.values import check_parameters\ncheck_parameters(globals())"
    notebook.cells = [*notebook.cells[at - 1 : at], nbformat.v4.new_code_cell(check)]
    nbformat.write(notebook, tmp_path / "in.ipynb")
    with pytest.raises(PapermillExecutionError, match=re.escape(f"SettingsError: {why}")) if why else nullcontext():
        papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", given, progress_bar=False)


def test_sliders_start_at_the_values_of_the_run():
    (cell,) = (cell.source for cell in code("02_perturbing_labels") if "interact(" in cell.source)
    made, names = [], {"os": SimpleNamespace(environ={}), "tau": 0.3, "at": 7, "y": [0] * 9}
    manual = {"manual": True}  # nothing is drawn
    names["interact"] = lambda draw, **ranges: made.append(ipywidgets.interactive(draw, manual, **ranges))
    exec(cell, names)
    assert [slider.value for slider in made[0].children[:2]] == [0.3, 7]


def test_no_output_has_more_digits_than_mean_anything_or_a_time_of_day(name):
    said = [str(o.get("text") or o.get("data", {}).get("text/plain", "")) for cell in code(name) for o in cell.outputs]
    shown = "\n".join(said).replace("bound > 0.999999]", "")  # the one bound that is 1 up to rounding
    assert not re.findall(r"\d\.0*[1-9]\d{5,}|\b\d\d:\d\d\b", shown)


def test_prose_before_code_and_a_head(name):
    cells = read(name).cells
    head = cells[0].source
    assert head.startswith(f"# {name[:2]} ·") and "**Question.**" in head and "| reads | writes | feeds |" in head
    assert any("## What was found" in cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("table", [False, True])
def test_your_own_model_misspells_a_class_that_is_a_number_and_shows_images_of_a_table(table, tmp_path):
    files = sorted(write(tmp_path / "photos", [*"0123"]).rglob("*.png"))
    (path := tmp_path / "images.csv").write_text("\n".join(["path,label", *(f"{x},{x.parent.name}" for x in files)]))
    cells, names, asked, shown = [cell.source for cell in code("06_your_own_model")], {}, [], []
    exec(cells[0], names)
    names |= {"request": SimpleNamespace(data=str(path if table else tmp_path / "photos"), forget=["1"])} | {
        "subprocess": SimpleNamespace(
            run=lambda words, **_: asked.append(words) or SimpleNamespace(stderr="", returncode=2)
        ),
        "figures": SimpleNamespace(image_grid=lambda _, called: shown.append(called)),
        "here": tmp_path,
    }
    for cell in cells:
        if re.search("^some = |^misspelt = ", cell, re.M):
            exec(cell, names)
    assert shown == [["0", "0", "1", "1", "2", "2", "3", "3"]] and asked[0][-1] not in "0123"
