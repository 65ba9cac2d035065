"""What is refused, and that it is said in one line."""

from contextlib import contextmanager

import pytest

from megu.settings.errors import SettingsError


@contextmanager
def refused(words, kind=SettingsError):
    """The block raises an error for people with these words, a regular expression."""
    with pytest.raises(kind, match=words) as error:
        yield
    assert "\n" not in str(error.value)
