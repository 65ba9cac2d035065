r"""Packages that one room alone needs: extras."""

from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version

from megu.settings.errors import MeguError


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


def versions(packages):
    r"""Name -> version of those packages that are installed."""
    out = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            out[name] = version(name)
    return out
