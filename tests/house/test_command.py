"""The command line: groups, old names, one line for what is wrong; parts that need an extra."""

import subprocess
import sys

import pytest
from conftest import ROOT
from typer.testing import CliRunner

from megu.cli.main import RENAMED, app
from megu.settings.errors import SettingsError

NOW = {
    **RENAMED,
    "guide --source clip": "guide ask",
    "cost --out results": "cost measure",
    "cost --seeds 1": "cost predict",
}


def invoke(*words):
    return CliRunner().invoke(app, [*words])


@pytest.mark.parametrize("old", NOW)
def test_an_old_name_says_the_new_one(old):
    error = invoke(*old.split()).exception
    assert isinstance(error, SettingsError) and f"is now `megu {NOW[old]}`" in str(error) and "\n" not in str(error)
    assert invoke(*NOW[old].split(), "--help").exit_code == 0, "the new name is one"


def test_groups_have_help_and_what_is_unknown_is_refused():
    for group in ("study", "guide", "cost"):
        assert "Commands" in invoke(group, "--help").output
    assert invoke("studdy").exit_code == 2 and "No such command" in invoke("studdy").output


def test_out_is_a_folder(tmp_path):
    (tmp_path / "taken").touch()
    for name in ("table.csv", "taken"):
        with pytest.raises(SettingsError, match=f"--out '{name}' is a file: name a folder"):
            raise invoke("tune", "--out", str(tmp_path / name)).exception


@pytest.mark.slow
def test_help_waits_for_no_slow_import():
    code = """
import sys, time
from megu.cli.main import app
try:
    app(["--help"])
finally:
    slow = ("torch", "transformers", "pandas", "papermill", "matplotlib")
    sys.exit(str([name for name in slow if name in sys.modules]))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "unlearn" in said.stdout and said.stderr.strip() == "[]"
