"""The core stands alone: what needs an extra says which, in one line, and leaves nothing behind."""

import os
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
from test_environment import EXTRAS, PROJECT, plain

from megu.core import models
from megu.settings.extras import MissingExtraError

HIDE = """
import sys
for name in {hidden!r}:
    sys.modules[name] = None
"""
ALL = """
import importlib, pkgutil, megu
from megu.settings.extras import MissingExtraError
for found in pkgutil.walk_packages(megu.__path__, "megu."):
    if found.name != "megu.__main__":
        try:
            importlib.import_module(found.name)
        except MissingExtraError as error:
            print(found.name, str(error).split("megu")[-1])
"""
MAIN = "from megu.cli.main import main\nsys.argv[0] = 'megu'\nmain()"
PATH = os.pathsep.join(sys.path)
CORE = {plain(package) for package in PROJECT["dependencies"]}


def without(extras, code, *words, cwd):
    """A process to which the packages of these extras are not installed."""
    packages = {plain(package) for extra in extras for package in EXTRAS[extra]} - CORE
    owners = packages_distributions().items()
    hidden = sorted(module for module, of in owners if packages & set(map(plain, of)))
    assert hidden
    command = [sys.executable, "-c", HIDE.format(hidden=hidden) + code, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, "PYTHONPATH": PATH})


@pytest.mark.slow
def test_every_module_is_there_without_any_extra(tmp_path):
    said = without(set(EXTRAS) - {"test"}, ALL, cwd=tmp_path)
    assert (said.returncode, said.stdout.splitlines()) == (
        0,
        ["megu.own.checkpoint [guides]'", "megu.runs.notebooks [notebooks]'", "megu.runs.tune [tune]'"],
    ), said.stderr


ASK = ("guide", "ask", "--exemplars", "1", "--classes", "shirt,coat", "--out", "answers")
NEEDS = {
    ("notebooks", "papermill"): ("run",),
    ("tune", "optuna"): ("tune", "--out", "trials"),
    ("guides", "open_clip"): (*ASK, "--source", "clip"),
    ("guides", "huggingface_hub"): ("export", "run", "megu", "0", "--out", "made"),
    ("served", "openai"): (*ASK, "--source", "served", "--set", "guide.model=a", "--set", "guide.url=http://localhost"),
    ("cluster", "distributed"): ("study", "paper", "--only", "method=megu", "--scheduler", "tcp://here:1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("missing", NEEDS, ids="-".join)
def test_a_part_without_its_extra_says_it_in_one_line(missing, tmp_path):
    extra, module = missing
    said = without([extra], MAIN, *NEEDS[missing], cwd=tmp_path)
    assert said.returncode == 2 and said.stderr.count("\n") == 1, said.stderr
    assert said.stderr == f"megu: {module} is not installed: pip install 'megu[{extra}]'\n"
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_vit_without_its_extra_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"transformers is not installed: pip install 'megu\[guides\]'"):
        models.build("vit-tiny", 10, (1, 28, 28), 0)
