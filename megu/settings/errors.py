r"""Errors for people: what is wrong, with which value, and what to do."""


class MeguError(Exception):
    """The message is all that a person needs."""


class SettingsError(MeguError, ValueError):
    """A setting or an input is wrong."""

    def __init__(self, message=""):
        super().__init__(" ".join(map(str.strip, str(message).splitlines())))  # it may hold a foreign value


class StageError(MeguError, RuntimeError):
    """A stage is missing, was made with other settings, or its invariants do not hold."""


class WorkError(MeguError, RuntimeError):
    """Some pieces of work failed; the others are kept."""


class NotebookError(MeguError, RuntimeError):
    """A notebook failed."""


def why(error: BaseException) -> str:
    r"""A foreign error in a few words."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}"
