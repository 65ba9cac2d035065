r"""Packages that one room alone needs are extras of the project: what is missing is named with its remedy."""

from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from megu.settings.errors import MeguError


class MissingExtraError(MeguError, ImportError):
    """A package of an extra is not installed; the message says which, and how it is."""


@contextmanager
def extra(name):
    r"""Imports inside the block need the extra ``name`` of pyproject.toml.

    >>> with extra("notebooks"):
    ...     import no_such_package
    Traceback (most recent call last):
    megu.settings.extras.MissingExtraError: no_such_package is not installed: `pip install 'megu[notebooks]'`

    Raises: MissingExtraError where a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = error.name.partition(".")[0]
        raise MissingExtraError(f"{package} is not installed: `pip install 'megu[{name}]'`") from None


def versions(packages):
    r"""Versions by name of those of the packages that are installed.

    >>> sorted(versions(("typer", "no-such-package")))
    ['typer']
    """
    out = {}
    for name in packages:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            continue  # of an extra
    return out
