r"""What belongs to one machine: paths and addresses, given as settings or in ``$MEGU_*``, and recorded nowhere."""

from functools import reduce
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from megu.settings.values import nest


def absolute(path):
    """A path that means the same from every working directory: notebooks run in their own folder."""
    return None if path is None else str(Path(path).expanduser().resolve())


def _weights(value):
    return value if value == "random" else absolute(value)


Address = Annotated[str | None, Field(exclude=True)]
LocalPath = Annotated[str | None, AfterValidator(absolute), Field(exclude=True)]
Weights = Annotated[str | None, AfterValidator(_weights), Field(exclude=True)]
NAMES = {  # the setting -> the field of `Machine`, which is the variable's name without MEGU_
    "data.path": "data_path",
    "original.path": "original",
    "weights": "weights",
    "guide.answers": "answers",
    "guide.path": "guide_path",
    "guide.url": "guide_url",
}
MACHINE = tuple(dict.fromkeys(name.rpartition(".")[2] for name in NAMES))  # last names of these settings


class Machine(BaseSettings):
    """The values that the environment gives; a setting of a run comes before them."""

    model_config = SettingsConfigDict(env_prefix="MEGU_", env_ignore_empty=True, frozen=True)

    data_path: LocalPath = None
    original: LocalPath = None
    weights: Weights = None
    answers: LocalPath = None
    guide_path: LocalPath = None
    guide_url: Address = None


def from_environment():
    r"""Nested settings that ``$MEGU_*`` give."""
    machine = Machine()
    return nest({name: value for name, key in NAMES.items() if (value := getattr(machine, key)) is not None})


def local(settings):
    r"""The machine's values of a run by dotted name, those of the environment among them; for another process."""
    values = {name: reduce(getattr, name.split("."), settings) for name in NAMES}
    return {name: value for name, value in values.items() if value is not None}


def environment(settings):
    r"""The same as variables, so that no executed notebook holds a path."""
    return {f"MEGU_{NAMES[name]}".upper(): value for name, value in local(settings).items()}


def without_machine(overrides):
    r"""Nested or dotted settings without those of a machine, at any depth.

    >>> without_machine({"seeds": 1, "data": {"name": "npz", "path": "/home/me/x.npz"}})
    {'seeds': 1, 'data': {'name': 'npz'}}
    """
    return {
        name: without_machine(value) if isinstance(value, dict) else value
        for name, value in overrides.items()
        if name.rpartition(".")[2] not in MACHINE
    }
