r"""Errors for people: one line that says what is wrong, with which value, and what to do."""


class MeguError(Exception):
    """The base of all errors whose message is all that a person needs."""


class SettingsError(MeguError, ValueError):
    """A setting is wrong; the message says which, with which value, and what would be right."""


class StageError(MeguError, RuntimeError):
    """A stage is missing, was made with other settings, or its invariants do not hold."""


class WorkError(MeguError, RuntimeError):
    """Some pieces of work failed; the others are done and kept."""


class NotebookError(MeguError, RuntimeError):
    """A notebook failed; the message names it, the error and where its executed copy lies."""
