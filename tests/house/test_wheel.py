"""Installed from a wheel, far from the checkout: the same code, its notebooks and the scripts of the figures."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel of this checkout, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    zipfile.ZipFile(next(folder.glob("*.whl"))).extractall(folder / "site")
    return folder / "site"


def python(code, site, cwd):
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", f"import sys\nsys.argv = ['megu', 'run']\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def test_it_holds_what_a_run_needs(installed):
    names = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    listed = subprocess.run(
        ["git", "ls-files", "megu", "notebooks", "paper_figures"], capture_output=True, text=True, cwd=ROOT
    )
    tracked = {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}
    code = {name for name in tracked if name.startswith("megu/")}
    carried = {name for name in tracked - code if name.endswith(".ipynb") or name.startswith("paper_figures/data")}
    carried |= {name for name in tracked - code if name.startswith("paper_figures") and name.endswith(".py")}
    assert len(carried) > 40 and {f"megu/cli/assets/{name}" for name in carried} == {
        n for n in names if "cli/assets" in n
    }
    assert (
        code <= names
        and "megu = megu.cli.main:main" in next(installed.glob("*.dist-info/entry_points.txt")).read_text()
    )


def test_it_is_the_same_code_and_finds_its_notebooks(installed, tmp_path):
    code = "import megu\nfrom megu.settings.files import shipped\nfrom megu.runs.store import CODE\n"
    code += (
        "print(megu.__file__, CODE, len(list(shipped('notebooks').glob('*.ipynb'))), shipped('paper_figures'), sep='|')"
    )
    there, here = (python(code, site, tmp_path).stdout.strip().split("|") for site in (installed, ROOT))
    assert there[0] == str(installed / "megu" / "__init__.py") and there[1] == here[1] and there[2] == here[2] != "0"
    assert there[3] == str(installed / "megu" / "cli" / "assets" / "paper_figures") and here[3] == str(
        ROOT / "paper_figures"
    )


def test_without_notebooks_a_run_says_so_and_leaves_nothing(installed, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(installed, bare, ignore=lambda folder, names: {"assets"} if folder.endswith("cli") else ())
    (tmp_path / "here").mkdir()
    said = python("from megu.cli.main import main\nmain()", bare, tmp_path / "here")
    assert said.returncode == 2 and said.stderr.startswith(
        "megu: this installation has no notebooks/: install megu from"
    )
    assert said.stderr.count("\n") == 1 and not list((tmp_path / "here").iterdir())
