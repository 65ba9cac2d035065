"""The core stands alone: what needs an extra says which, in one line, and leaves nothing behind."""

import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
from conftest import ROOT
from refusals import refused
from test_environment import EXTRAS, PROJECT, plain

from megu.core import models
from megu.core.architectures import builders
from megu.core.parallel import Team
from megu.guide import SOURCES, GuideContext
from megu.runs.executors import executor
from megu.settings.config import Guide
from megu.settings.errors import MeguError

HIDE = "import sys\nsys.modules.update(dict.fromkeys({hidden!r}))\n"
ALL = """
import importlib, pkgutil, megu
from megu.settings.extras import MissingExtraError
for found in pkgutil.walk_packages(megu.__path__, "megu."):
    if found.name != "megu.__main__":
        try:
            importlib.import_module(found.name)
        except MissingExtraError as error:
            print(found.name, str(error).split("megu")[-1][:-1])
"""
MAIN = "from megu.cli.main import main\nsys.argv[0] = 'megu'\nmain()"
CORE = {plain(package) for package in PROJECT["dependencies"]}


def without(extras, code, *words, cwd):
    """A process to which the packages of these extras are not installed."""
    packages = {plain(package) for extra in extras for package in EXTRAS[extra]} - CORE
    owners = packages_distributions().items()
    hidden = sorted(module for module, of in owners if packages & set(map(plain, of)))
    assert hidden
    command, path = [sys.executable, "-c", HIDE.format(hidden=hidden) + code, *words], os.pathsep.join(sys.path)
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, "PYTHONPATH": path})


@pytest.mark.slow
def test_the_core_needs_no_extra(tmp_path):
    said = without(set(EXTRAS) - {"test", "site"}, ALL, cwd=tmp_path)
    need = [line for line in said.stdout.splitlines() if not line.startswith("megu.cost.")]
    assert said.returncode == 0, said.stderr
    extras = {"cli.export": "guides", "own.checkpoint": "guides", "runs.notebooks": "notebooks", "runs.tune": "tune"}
    assert need == [f"megu.{module} [{extra}]'" for module, extra in extras.items()]


COMMANDS = {
    ("notebooks", "nbformat"): ("run",),
    ("tune", "optuna"): ("tune", "--out", "trials"),
    ("crate", "rocrate"): ("crate", "run"),
    ("guides", "huggingface_hub"): ("export", "run", "megu", "0", "--out", "made"),
}


@pytest.mark.slow
@pytest.mark.parametrize("missing", COMMANDS, ids="-".join)
def test_a_command_without_its_extra_says_it_in_one_line(missing, tmp_path):
    extra, module = missing
    said = without([extra], MAIN, *COMMANDS[missing], cwd=tmp_path)
    assert said.returncode == 2
    assert said.stderr == f"megu: {module} is not installed: `pip install 'megu[{extra}]'`\n"
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def asks(source, **settings):
    return SOURCES[source](GuideContext(["a", "b"], Guide(**settings)))


PARTS = {
    ("guides", "transformers"): lambda: models.build("vit-tiny", 10, (1, 28, 28), 0),
    ("guides", "open_clip"): lambda: asks("clip", model="ViT-B-32", revision="laion")._loaded,
    ("timm", "timm"): lambda: [*builders("timm:resnet18", 2, (3, 32, 32))],
    ("served", "openai"): lambda: asks("served", model="a", url="http://localhost")._client,
    ("cluster", "distributed"): lambda: executor(scheduler="tcp://127.0.0.1:1")().__enter__(),
    ("cluster", "accelerate"): lambda: Team(cpu=True),
}


@pytest.mark.parametrize("missing", PARTS, ids="-".join)
def test_a_part_without_its_extra_is_refused(missing, monkeypatch):
    extra, module = missing
    monkeypatch.setitem(sys.modules, module, None)
    with refused(rf"{module} is not installed: `pip install 'megu\[{extra}\]'`", MeguError):
        PARTS[missing]()


@pytest.mark.slow
def test_the_check_of_an_installation_says_what_is_missing(tmp_path):
    hidden = {plain(package) for package in EXTRAS["onnx"] + EXTRAS["guides"]} - CORE
    code = f"""
import importlib.metadata as metadata, re, runpy
version = metadata.version
def without(name):
    if re.sub("[-_.]+", "-", name).lower() in {hidden!r}:
        raise metadata.PackageNotFoundError(name)
    return version(name)
metadata.version = without
runpy.run_path({str(ROOT / "env" / "check.py")!r})
"""
    said = without(["onnx", "guides"], code, cwd=tmp_path)
    lines = dict(re.findall(r"^extra (\S+) +(.*)", said.stdout, re.M))
    assert said.returncode == 0 and not said.stderr and lines.keys() == EXTRAS.keys(), said.stderr
    assert lines["onnx"] == "lacks onnx, onnxruntime, onnxscript: `pip install '.[onnx]'`"
    assert lines["guides"].startswith("lacks accelerate, gguf, hug") and lines["tune"] == lines["parquet"] == "here"
    assert re.search(r"^SmolLM2-135M +transformers is not installed: `pip install 'megu.guides.'`", said.stdout, re.M)
