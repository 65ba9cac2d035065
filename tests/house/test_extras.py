"""The core stands alone: what needs an extra says which, in one line, and leaves nothing behind."""

import tomllib
from importlib.metadata import packages_distributions

from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
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
            print(found.name, error)
"""


def modules_of(extra):
    """Names that are imported from the packages of an extra, which the core has not."""
    import re  # noqa: PLC0415

    plain = lambda text: re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", text)[0]).lower()  # noqa: E731
    core = {plain(package) for package in PROJECT["dependencies"]}
    wanted = {plain(package) for package in PROJECT["optional-dependencies"][extra]} - core
    return sorted(
        module for module, owners in packages_distributions().items() if wanted & {plain(owner) for owner in owners}
    )
