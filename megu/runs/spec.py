r"""One entry of a grid: which model of which cell is measured, and the key of its result."""

import shlex
from functools import cache, cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from megu.core import weights as pretrained
from megu.guide import SOURCES
from megu.guide.prompt import files_digest
from megu.methods import METHODS, method_settings
from megu.runs.store import CODE
from megu.settings.cells import CELLS, Cell
from megu.settings.config import MACHINE, Part
from megu.settings.errors import SettingsError
from megu.settings.files import digest
from megu.settings.profiles import resolve
from megu.settings.values import closest, nest

FIELDS = ("data", "arch", "scenario", "forget", "method", "seed", "repeat")
CELL = ("data.name", "arch", "forget.", "compare", "seeds", "repeats", "shadows")  # settings that the grid itself gives
LOCAL = (
    "data.path",
    "original.path",
    "weights",
    "guide.path",
    "guide.url",
)  # that every worker takes from the process which leads the grid
FILED = ("mllm", "clip", "replay")  # guides that answer from files at guide.path
OUTSIDE = {
    "compare",
    "methods",
    "seed",
    "seeds",
    "repeats",
    "shadows",
}  # of the settings: no single result depends on them


class RunSpec(Part):
    r"""One unlearned (or reference) model of a grid, frozen; it can be pickled and sent anywhere.

    Attributes:
        profile: name in `megu.settings.profiles.PROFILES`.
        data, arch, scenario, forget: of the cell, see `megu.settings.cells.Cell`.
        method: name in `megu.methods.METHODS`.
        seed: of pre-training.  repeat: of unlearning.
        changes: further (dotted setting, value) pairs.
    """

    profile: str
    data: str
    arch: str
    scenario: str
    forget: tuple[str, ...]
    method: str
    seed: int
    repeat: int = 0
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def cell(self):
        """The `megu.settings.cells.Cell`, without the paper's tables."""
        return Cell(self.data, self.arch, self.scenario, self.forget)

    @property
    def overrides(self):
        """Dotted settings of the cell's run, which holds what its models share and no table of its own."""
        return {**self.cell.overrides(), "compare": [], "seeds": 1, **dict(self.changes)}

    @property
    def settings(self):
        """`megu.settings.config.Settings` of the cell's run."""
        return _settings(self)

    @cached_property
    def key(self):
        r"""Twelve hex digits over all that the result depends on: settings, weights, files of the guide, the method's
        parameters, seeds, code.

        Not where files lie, and not the data and versions, of which a grid has one, see `megu.runs.grid.Grid`.
        """
        return self.found()

    def found(self):
        r"""The `key` as this process finds it, which may have other files or other code than the one that made the
        spec."""
        about = self._settings_without()
        if self.settings.guide.source in FILED and self.settings.guide.path:
            about["guide"]["files"] = _files(self.settings.guide.path)
        parameters = method_settings(self.method, self.settings).model_dump(mode="json")
        return digest(
            {
                "settings": about,
                "method": self.method,
                "parameters": parameters,
                "seed": self.seed,
                "repeat": self.repeat,
                "code": CODE,
            }
        )

    def _settings_without(self, *names):
        about = self.settings.model_dump(mode="json", exclude=OUTSIDE.union(names)) | {
            "level": self.settings.label_level
        }
        return about | ({"weights": pretrained.identity(self.settings.weights)} if self.arch == "vit-b16" else {})

    @property
    def questions(self):
        r"""Twelve hex digits over what the guide's questions and, of guides made from it, the classifier depend on;
        cells share it."""
        return digest({"settings": self._settings_without("forget", "retain_images")})

    @property
    def original(self):
        r"""Twelve hex digits over what the original of this spec depends on; cells share it."""
        return digest(
            {
                "settings": self._settings_without("forget", "retain_images", "guide", "preset"),
                "seed": self.seed,
                "code": CODE,
            }
        )

    @property
    def retrained(self):
        r"""Twelve hex digits over what the retrained model of this spec depends on; methods share it."""
        return digest(
            {"settings": self._settings_without("retain_images", "guide", "preset"), "seed": self.seed, "code": CODE}
        )

    @property
    def about(self):
        """The columns that name this model in a tidy table."""
        cell = {"dataset": self.data, "arch": self.arch, "scenario": self.scenario, "forget": self.cell.request}
        return cell | {"method": self.method, "seed": self.seed, "repeat": self.repeat}

    @property
    def command(self):
        """The notebooks with this model alone, to step through; without paths of this machine.

        A guide that is made from the classifier asks the first one of a run: then there are the models of earlier seeds
            as well.
        """
        compared = [] if self.method in ("original", "retrain") else [self.method]
        first = 0 if SOURCES[self.settings.guide.source].needs_model else self.seed
        values = {**self.overrides, "compare": compared, "repeats": self.repeat + 1, "seeds": self.seed - first + 1}
        pairs = [f"{name}={value}" for name, value in values.items() if recorded(name, value)]
        return shlex.join(
            [
                "python",
                "-m",
                "megu",
                "run",
                "--profile",
                self.profile,
                "--seed",
                str(first),
                *(x for pair in pairs for x in ("--set", pair)),
            ]
        )

    def __str__(self):
        return "/".join(map(str, self.about.values()))


def recorded(name, value):
    r"""Whether a setting may be written down: not where it is a path or an address of this machine."""
    return name.rpartition(".")[2] not in MACHINE or value == "random"


@cache
def _settings(spec):
    return resolve(spec.profile, 0, spec.overrides)


@cache
def _files(path):
    path = Path(path)
    if not path.exists():
        raise SettingsError(f"guide.path: {path.name!r} does not exist: set it to the guide's file or folder")
    return files_digest(sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path])


def _here(profile, changes):
    """Paths and addresses that this process would use, from settings or its environment, by dotted name."""
    settings = resolve(profile, 0, changes)
    return {name: value for name in LOCAL if (value := attrgetter(name)(settings)) is not None}


def grid(profile="paper", only=(), seeds=2, repeats=1, changes=None):
    r"""The specs of a profile's grid, cells in the order of the paper's tables, references of a cell first.

    Args:
        profile: name in `megu.settings.cells.CELLS`.
        only: selections such as ``"data=cifar10,method=megu|ssd"``: all conditions of one must hold, one of several
            suffices; none selects everything.  The original and the retrained model of what is selected are always
            there: they are the reference.
        seeds, repeats: of pre-training, and of unlearning for each.
        changes: dotted settings for all of them; by default one thread of a CPU, because another number adds in another
            order and a grid's results shall not depend on where it runs.  Paths and addresses, also those from this
            process's environment, go along.
    Returns: list of `RunSpec`.
    Raises: SettingsError for an unknown field or value, a wrong setting, or where nothing is selected; before any work.
    """
    if profile not in CELLS:
        raise SettingsError(closest(profile, CELLS, "profile"))
    changes = dict(_dotted(nest({"threads": 1, **(changes or {})})))
    for name in changes:
        if name.startswith(CELL):
            raise SettingsError(
                f"--set {name}: a grid's cells and seeds are chosen by --only, --seeds and --repeats; `python -m megu run` takes this setting"
            )
    pairs = tuple(sorted((changes | _here(profile, changes)).items()))
    entries = [
        RunSpec(profile=profile, data=c.data, arch=c.arch, scenario=c.scenario, forget=c.forget, method=name, seed=seed, repeat=repeat, changes=pairs)
        for c in CELLS[profile] for seed in range(seeds) for name in c.methods for repeat in range(1 if METHODS[name].reference else repeats)
    ]  # fmt: skip
    chosen = {entry for entry in entries if not only or any(_fits(entry, text) for text in only)}
    for text in only:
        for name, values in _conditions(text):
            known = dict.fromkeys(str(_named(entry, name)) for entry in entries)
            for value in values:
                if value not in known:
                    raise SettingsError(closest(value, known, f"--only {text!r}: the {name}"))
    kept = {(e.cell, e.seed) for e in chosen}
    out = [e for e in entries if e in chosen or (e.method in ("original", "retrain") and (e.cell, e.seed) in kept)]
    if not out:
        raise SettingsError(f"--only {' --only '.join(only)} selects nothing of the grid of profile {profile!r}")
    for entry in out:
        method_settings(entry.method, entry.settings)  # refuses a wrong setting now
    return out


def _dotted(values, prefix=""):
    for key, value in values.items():
        name = f"{prefix}{key}"
        yield from (
            _dotted(value, f"{name}.")
            if isinstance(value, dict)
            else [(name, tuple(value) if isinstance(value, list) else value)]
        )


@cache
def _conditions(text):
    pairs = [part.partition("=") for part in text.split(",")]
    for name, equals, _ in pairs:
        if not equals:
            raise SettingsError(
                f"--only {text!r}: {name.strip()!r} has no '=': write field=value or field=value|value, several with a comma between"
            )
        if name.strip() not in FIELDS:
            raise SettingsError(closest(name.strip(), FIELDS, f"--only {text!r}: the field"))
    return tuple((name.strip(), tuple(one.strip() for one in values.split("|"))) for name, _, values in pairs)


def _fits(entry, text):
    return all(str(_named(entry, name)) in values for name, values in _conditions(text))


def _named(entry, name):
    return entry.about["dataset" if name == "data" else name]
