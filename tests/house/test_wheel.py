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
    command = [sys.executable, "-c", f"import sys\nsys.argv = ['megu', 'run']\n{code}"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def test_it_holds_what_a_run_needs(installed):
    names = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    command = ["git", "ls-files", "megu", "notebooks", "paper_figures"]
    listed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    tracked = {name for name in listed if (ROOT / name).exists()}
    code = {name for name in tracked if name.startswith("megu/")}
    carried = {
        name
        for name in tracked - code
        if name.endswith(".ipynb") or (name.startswith("paper_figures") and name.endswith(".py")) or "/data/" in name
    }
    assert len(carried) > 40 and {f"megu/cli/assets/{n}" for n in carried} == {n for n in names if "cli/assets" in n}
    scripts = next(installed.glob("*.dist-info/entry_points.txt")).read_text()
    assert code <= names and "megu = megu.cli.main:main" in scripts


def test_it_is_the_same_code_and_finds_its_notebooks(installed, tmp_path):
    code = """
import megu
from megu.settings.files import shipped
from megu.runs.store import CODE
print(megu.__file__, shipped("paper_figures"), CODE, len(list(shipped("notebooks").glob("*.ipynb"))), sep="|")
"""
    there, here = (python(code, site, tmp_path).stdout.strip().split("|") for site in (installed, ROOT))
    package = installed / "megu"
    assert there[:2] == [str(package / "__init__.py"), str(package / "cli" / "assets" / "paper_figures")]
    assert here[1] == str(ROOT / "paper_figures") and there[2:] == here[2:] and here[3] != "0"


def test_without_notebooks_a_run_says_so_and_leaves_nothing(installed, tmp_path):
    bare, here = tmp_path / "bare", tmp_path / "here"
    shutil.copytree(installed, bare, ignore=lambda folder, names: {"assets"} if folder.endswith("cli") else ())
    here.mkdir()
    said = python("from megu.cli.main import main\nmain()", bare, here)
    assert said.returncode == 2 and said.stderr.count("\n") == 1 and not list(here.iterdir())
    assert said.stderr.startswith("megu: this installation has no notebooks/: install megu from")
