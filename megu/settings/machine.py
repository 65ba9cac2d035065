r"""Paths and addresses of one machine, given as settings or in ``$MEGU_*``, and recorded nowhere."""

import logging
import os
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from megu.settings.errors import SettingsError
from megu.settings.values import closest, nest


def absolute(path):
    """A path that means the same from every working directory."""
    return None if path is None else str(Path(path).expanduser().resolve())


Address = Annotated[str | None, Field(exclude=True)]
LocalPath = Annotated[Address, AfterValidator(absolute)]
Weights = Annotated[Address, AfterValidator(lambda value: value if value == "random" else absolute(value))]
NAMES = {
    "data.path": "MEGU_DATA_PATH",
    "original.path": "MEGU_ORIGINAL",
    "weights": "MEGU_WEIGHTS",
    "guide.answers": "MEGU_ANSWERS",
    "guide.path": "MEGU_GUIDE_PATH",
    "guide.url": "MEGU_GUIDE_URL",
}
_OTHERS = "MEGU_RUN_DIR", "MEGU_GUIDE_KEY"  # read elsewhere
MACHINE = {name.rpartition(".")[2] for name in NAMES}


def from_environment():
    r"""Nested settings of every ``$MEGU_*`` that is not empty; one that nobody reads is said."""
    _say_unknown(*sorted(name for name in os.environ if name.startswith("MEGU_")))
    return nest({name: value for name, variable in NAMES.items() if (value := os.environ.get(variable))})


@cache
def _say_unknown(*found):
    known = [*NAMES.values(), *_OTHERS]
    for name in found:
        if name not in known:
            logging.getLogger("megu").warning(closest(name, known, "not read: the variable"))


def local(settings):
    r"""The machine's values of a run by dotted name."""
    return {name: value for name in NAMES if (value := attrgetter(name)(settings)) is not None}


def environment(settings):
    r"""The same as variables, for notebooks, which then hold no path."""
    return {NAMES[name]: value for name, value in local(settings).items()}


def without_machine(overrides):
    r"""Nested or dotted settings without those of a machine.

    >>> without_machine({"data": {"name": "npz", "path": "/home/me"}})
    {'data': {'name': 'npz'}}
    """
    return {
        name: without_machine(value) if isinstance(value, dict) else value
        for name, value in overrides.items()
        if name.rpartition(".")[2] not in MACHINE
    }


def check_alone():
    r"""Raises SettingsError in one of several processes, which would all do the same in the same folder."""
    if (count := os.environ.get("WORLD_SIZE", "1")) != "1":  # accelerate launch and torchrun set it
        what = f"this is one of {count} processes (accelerate launch, torchrun), and each would do all of the work"
        raise SettingsError(f"{what}: start it without a launcher; megu compare shares its methods among --workers")
