"""One list of packages, in pyproject.toml; what is installed is locked."""

import re
import tomllib

import yaml
from conftest import ROOT
from packaging.requirements import Requirement

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
FAKED = {"mlflow", "onnx", "tensorboard", "wandb"}  # extras that are tried by fakes, and really where installed


def plain(requirement):
    """The normalised name of a package."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


TRIED = [EXTRAS[name] for name in EXTRAS if name not in FAKED]
PACKAGES = [Requirement(package) for packages in (PROJECT["dependencies"], *TRIED) for package in packages]


def hashed(file):
    """The version of each package that a file installs: nothing is in it but versions and hashes."""
    lines = (ROOT / "env" / file).read_text().replace("\\\n    ", "").splitlines()
    entry = re.compile(r"([\w.-]+)==(\S+)( ; [^#\\]+)?( --hash=sha256:[0-9a-f]{64})+")
    found = {line: entry.fullmatch(line) for line in lines if line[0] != "#"}
    assert all(found.values()), [line for line in found if not found[line]]
    return {plain(one[1]): one[2] for one in found.values()}


def test_conda_installs_the_same_list():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert listed[-1]["pip"] == ["--requirement env/lock.txt"]
    assert f"python{PROJECT['requires-python']}" in listed


def test_the_lock_pins_every_package():
    pinned = hashed("lock.txt") | {PROJECT["name"]: PROJECT["version"]}
    for package in PACKAGES:
        assert package.specifier.contains(pinned[plain(package.name)]), package


def test_the_test_extra_has_all_others():
    assert EXTRAS["test"][0] == f"megu[{','.join(sorted(set(EXTRAS) - FAKED - {'test'}))}]"


def test_weights_are_pinned():
    assert len(hashed("weights.txt")) == 5


def test_ci_calls_the_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert all(target in (ROOT / "README.md").read_text() for target in ("make test", "make reproduce"))
