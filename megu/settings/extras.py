r"""Packages that one room alone needs: extras."""

from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from megu.settings.errors import MeguError

ONNX = "onnxruntime", "onnxscript"  # torch imports the second late


class MissingExtraError(MeguError, ImportError):
    """A package of an extra is not installed."""


@contextmanager
def extra(name):
    r"""The block's imports need an extra of pyproject.toml.  Raises: MissingExtraError."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = error.name.partition(".")[0]
        raise MissingExtraError(f"{package} is not installed: `pip install 'megu[{name}]'`") from None


def check_extra(name, *modules):
    r"""Raises MissingExtraError where one of the modules of an extra is not installed; none is imported."""
    with extra(name):
        for module in modules:
            if getattr(find_spec(module), "origin", None) is None:  # a mere folder of this name is no package
                raise ModuleNotFoundError(name=module)


def versions(packages):
    r"""Name -> version of those packages that are installed."""
    out = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            out[name] = version(name)
    return out
