r"""One entry of a study: which model of which cell is measured, and the key of its result; the paper's grid of them."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from megu.core import weights as pretrained
from megu.guide import SOURCES
from megu.guide.prompt import files_digest
from megu.methods import METHODS, method_settings
from megu.runs.models import REFERENCES
from megu.runs.store import CODE
from megu.settings.cells import CELLS, Cell
from megu.settings.config import MACHINE, Settings
from megu.settings.errors import SettingsError
from megu.settings.files import digest
from megu.settings.profiles import resolve
from megu.settings.values import closest, nest

FIELDS = ("data", "arch", "scenario", "forget", "method", "seed", "repeat")
# Settings that a grid itself gives, and those that every worker takes from the process which leads the study.
CELL = ("data.name", "arch", "forget.", "compare", "seeds", "repeats", "shadows")
LOCAL = ("data.path", "original.path", "weights", "guide.path", "guide.url")
FILED = ("mllm", "clip", "replay")  # guides that answer from files at guide.path
OUTSIDE = {"compare", "methods", "seed", "seeds", "repeats"}  # of the settings: no single result depends on them


@dataclass(frozen=True)
class Spec:
    r"""One unlearned (or reference) model of a study and what is measured of it; it can be sent anywhere.

    Attributes:
        profile: name in `megu.settings.profiles.PROFILES`.
        cell: data, network and forgetting request.
        method: name in `megu.methods.METHODS`.
        seed: of pre-training.  repeat: of unlearning.
        changes: (dotted setting, value) pairs, of all models of the cell.
        variation: such pairs for this model alone, of its method's settings or ``guide.source``.
        measures: see `megu.runs.evaluation.Evaluation.measure`.
        point, variant: names of the variation in a table.
    """

    profile: str
    cell: Cell
    method: str
    seed: int
    repeat: int = 0
    changes: tuple[tuple[str, Any], ...] = ()
    variation: tuple[tuple[str, Any], ...] = ()
    measures: tuple[str, ...] = ("metrics",)
    point: str = ""
    variant: str = ""

    @property
    def overrides(self) -> dict:
        """Dotted settings of the cell's run, which holds what its models share and no table of its own."""
        return {**self.cell.overrides(), "compare": [], "seeds": 1, **dict(self.changes)}

    @cached_property
    def source(self) -> str | None:
        """The guide of this model where it is not that of its cell."""
        return dict(self.variation).get("guide.source")

    @cached_property
    def method_changes(self) -> dict:
        """Dotted settings of the method that are of this model alone."""
        return {name: value for name, value in self.variation if name != "guide.source"}

    @property
    def settings(self) -> Settings:
        """Of this model."""
        return _settings(self.profile, self.cell, self.changes, self.method, self.variation)

    @cached_property
    def key(self) -> str:
        r"""Twelve hex digits over all that the result depends on: settings, weights, files of the guide, the method's
        parameters, seeds, what is measured, code.

        Not where files lie, and not the data and versions, of which a study has one, see `megu.runs.engine.Engine`.
        """
        return self.current_key()

    def current_key(self) -> str:
        r"""The `key` as this process finds it, which may have other files or other code than the one that made the
        spec."""
        about, guide = self._settings_without(), self.settings.guide
        if guide.source in FILED and guide.path:
            about["guide"]["files"] = _files(guide.path)
        parameters = method_settings(self.method, self.settings).model_dump(mode="json")
        made = {"method": self.method, "parameters": parameters, "seed": self.seed, "repeat": self.repeat}
        return digest({"settings": about, **made, "measures": self.measures, "code": CODE})

    def _settings_without(self, *names):
        about = self.settings.model_dump(mode="json", exclude=OUTSIDE.union(names)) | {
            "level": self.settings.label_level
        }
        vit = self.cell.arch == "vit-b16"
        return about | ({"weights": pretrained.identity(self.settings.weights)} if vit else {})

    # What cells and methods share
    @property
    def questions(self) -> str:
        r"""Digest over what the guide's questions and, of guides made from it, the classifier depend on."""
        return digest({"settings": self._settings_without("forget", "retain_images", "shadows")})

    @property
    def original(self) -> str:
        r"""Digest over what the original depends on."""
        return self._made("forget", "retain_images", "guide", "preset", "shadows", seed=self.seed)

    @property
    def retrained(self) -> str:
        r"""Digest over what the retrained model depends on."""
        return self._made("retain_images", "guide", "preset", "shadows", seed=self.seed)

    def shadow(self, k: int) -> str:
        r"""Digest over what shadow model k depends on."""
        return self._made("forget", "retain_images", "guide", "preset", shadow=k)

    def _made(self, *without, **which):
        return digest({"settings": self._settings_without(*without), **which, "code": CODE})

    @property
    def about(self) -> dict:
        """The columns that name this model in a tidy table."""
        c = self.cell
        names = {"dataset": c.data, "arch": c.arch, "scenario": c.scenario, "forget": c.request, "method": self.method}
        return names | {"seed": self.seed, "repeat": self.repeat}

    @property
    def command(self) -> str:
        """The notebooks with this model alone, to step through; without paths of this machine.

        A guide that is made from the classifier asks the first one of a run: then there are the models of earlier seeds
        as well.
        """
        compared = [] if self.method in REFERENCES else [self.method]
        first = 0 if SOURCES[self.settings.guide.source].needs_model else self.seed
        counts = {"compare": compared, "repeats": self.repeat + 1, "seeds": self.seed - first + 1}
        own = {name if name == "guide.source" else f"methods.{self.method}.{name}": v for name, v in self.variation}
        pairs = [f"{name}={v}" for name, v in {**self.overrides, **own, **counts}.items() if recorded(name, v)]
        given = [part for pair in pairs for part in ("--set", pair)]
        return shlex.join(["megu", "run", "--profile", self.profile, "--seed", str(first), *given])

    def __str__(self):
        return "/".join(map(str, (*self.about.values(), *filter(None, (self.point, self.variant)))))


def recorded(name: str, value: Any) -> bool:
    r"""Whether a setting may be written down: not where it is a path or an address of this machine."""
    return name.rpartition(".")[2] not in MACHINE or value == "random"


@cache
def _settings(profile, cell, changes, method, variation):
    spec = Spec(profile, cell, method, 0, 0, changes)
    own = {name if name == "guide.source" else f"methods.{method}.{name}": value for name, value in variation}
    return resolve(profile, 0, {**spec.overrides, **own})


@cache
def _files(path):
    path = Path(path)
    if not path.exists():
        raise SettingsError(f"guide.path: {path.name!r} does not exist: set it to the guide's file or folder")
    return files_digest(sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path])


def cell_of(profile: str, overrides: dict | None = None) -> tuple[Cell, dict, Settings]:
    r"""The cell of a profile's own request; the settings that are of its models; all settings, with the numbers of
    seeds and repeats."""
    values = dict(_dotted(nest(overrides or {})))
    s = resolve(profile, 0, values)
    cell = Cell(s.data.name, s.arch, s.forget.scenario, () if s.forget.scenario == "random" else s.forget.classes)
    given = ("data.name", "arch", "forget.scenario", "forget.classes", "seeds", "repeats", "compare")
    return cell, {name: value for name, value in values.items() if name not in given}, s


def specs_of(
    profile: str,
    cell: Cell,
    names: Iterable[str],
    seeds: Iterable[int],
    repeats: int = 1,
    changes: dict | None = None,
    measures: tuple[str, ...] | Callable[[int], tuple[str, ...]] = ("metrics",),
    **more,
) -> list[Spec]:
    r"""Specs of one cell: of every seed every method, of every method every repeat; what is only a reference has one.

    Args:
        changes: dotted settings; by default one thread of a CPU, because another number adds in another order and a
            result shall not depend on where it is made.  Paths and addresses, also those from this process's
            environment, go along.
        measures, more: see `Spec`; measures may be a function of the repeat.
    Raises: SettingsError for a wrong setting, before any work.
    """
    changes = dict(_dotted(nest({"threads": 1, **(changes or {})})))
    settings = resolve(profile, 0, {**cell.overrides(), **changes})
    here = {name: value for name in LOCAL if (value := attrgetter(name)(settings)) is not None}
    given, cell = {"changes": tuple(sorted((changes | here).items())), **more}, replace(cell, tables=())
    specs = [
        Spec(
            profile,
            replace(cell, tables=()),
            name,
            seed,
            repeat,
            measures=measures(repeat) if callable(measures) else measures,
            **given,
        )
        for seed in seeds
        for name in names
        for repeat in range(1 if METHODS[name].reference else repeats)
    ]
    for spec in {spec.method: spec for spec in specs}.values():
        method_settings(spec.method, spec.settings)
    return specs


def _dotted(values, prefix=""):
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _dotted(value, f"{name}.")
        else:
            yield name, tuple(value) if isinstance(value, list) else value


def paper_grid(
    profile: str = "paper", only: Sequence[str] = (), seeds: int = 2, repeats: int = 1, changes: dict | None = None
) -> list[Spec]:
    r"""The specs of a profile's grid, cells in the order of the paper's tables, references of a cell first.

    Args:
        profile: name in `megu.settings.cells.CELLS`.
        only: selections such as ``"data=cifar10,method=megu|ssd"``: all conditions of one must hold, one of several
            suffices; none selects everything.  The original and the retrained model of what is selected are always
            there: they are the reference.
        seeds, repeats: of pre-training, and of unlearning for each.
        changes: see `specs_of`.
    Raises: SettingsError for an unknown field or value, a wrong setting, or where nothing is selected; before any work.
    """
    if profile not in CELLS:
        raise SettingsError(closest(profile, CELLS, "profile"))
    for name, _ in _dotted(nest(changes or {})):
        if name.startswith(CELL):
            raise SettingsError(
                f"--set {name}: a grid's cells and seeds are chosen by --only, --seeds and --repeats; `megu run` takes"
                " this setting"
            )
    specs = [s for c in CELLS[profile] for s in specs_of(profile, c, c.methods, range(seeds), repeats, changes)]
    conditions = [_conditions(text) for text in only]
    for text, pairs in zip(only, conditions, strict=True):
        for name, values in pairs:
            known = dict.fromkeys(_value(spec, name) for spec in specs)
            if unknown := [value for value in values if value not in known]:
                raise SettingsError(closest(unknown[0], known, f"--only {text!r}: the {name}"))
    chosen = [s for s in specs if not only or any(all(_value(s, n) in v for n, v in pairs) for pairs in conditions)]
    cells = {(spec.cell, spec.seed) for spec in chosen}
    chosen = {*chosen, *(s for s in specs if s.method in REFERENCES and (s.cell, s.seed) in cells)}
    if not chosen:
        raise SettingsError(f"--only {' --only '.join(only)} selects nothing of the grid of profile {profile!r}")
    return [spec for spec in specs if spec in chosen]


def _conditions(text):
    pairs = [part.partition("=") for part in text.split(",")]
    for name, equals, _ in pairs:
        if not equals:
            raise SettingsError(
                f"--only {text!r}: {name.strip()!r} has no '=': write field=value or field=value|value, several with a"
                " comma between"
            )
        if name.strip() not in FIELDS:
            raise SettingsError(closest(name.strip(), FIELDS, f"--only {text!r}: the field"))
    return [(name.strip(), [one.strip() for one in values.split("|")]) for name, _, values in pairs]


def _value(spec, name):
    return str(spec.about["dataset" if name == "data" else name])
