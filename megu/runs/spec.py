r"""One entry of a study: which model of which cell is measured, and the key of its result."""

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from megu.core import weights as pretrained
from megu.guide import SOURCES
from megu.guide.prompt import files_digest
from megu.methods import METHODS, method_settings
from megu.runs.models import REFERENCES
from megu.runs.store import CODE
from megu.settings.cells import Cell
from megu.settings.config import Settings
from megu.settings.errors import SettingsError
from megu.settings.files import hash_json
from megu.settings.machine import MACHINE, local
from megu.settings.profiles import resolve
from megu.settings.values import nest

FILED = ("mllm", "clip", "replay")  # guides that answer from files at guide.path
OUTSIDE = {"compare", "methods", "seed", "seeds", "repeats"}  # of the settings: no single result depends on them
WITHOUT = {  # settings on which what several models need does not depend
    "original": ("forget", "retain_images", "guide", "preset", "shadows"),
    "shadow": ("forget", "retain_images", "guide", "preset"),
    "retrained": ("retain_images", "guide", "preset", "shadows"),
    "answers": ("forget", "retain_images", "shadows"),
}


class Need(NamedTuple):
    r"""What several specs need: its kind, a digest over what it depends on, its number, names of what comes first."""

    kind: str
    key: str
    number: int
    after: tuple[str, ...]


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
        method = self.method if self.variation else ""
        return _settings(self.profile, self.cell, self.changes, method, self.variation)

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
        return hash_json({"settings": about, **made, "measures": self.measures, "code": CODE})

    def _settings_without(self, *names):
        settings = self.settings
        about = settings.model_dump(mode="json", exclude=OUTSIDE.union(names)) | {"level": settings.label_level}
        return about | ({"weights": pretrained.identity(settings.weights)} if self.cell.arch == "vit-b16" else {})

    @property
    def needs(self) -> dict[str, "Need"]:
        r"""What is made before this model and shared with others, by a name that says which."""
        c, settings = self.cell, self.settings
        data, seed = f"{c.data}/{c.arch}/{settings.label_level}", {"seed": self.seed}
        original = f"original {data}/{self.seed}"
        shadows = {
            f"shadow {data}/{k} of {settings.shadows}": self._need("shadow", shadow=k) for k in range(settings.shadows)
        }
        retrained = f"retrained {data.rpartition('/')[0]}/{c.scenario}/{c.request}/{self.seed}"
        needs = {original: self._need("original", **seed), **shadows}
        needs[retrained] = self._need("retrained", tuple(needs), **seed)
        if METHODS[self.method].guided:
            needs[f"answers {data}/{settings.guide.source}"] = self._need("answers", (original,))
        return needs

    @property
    def questions(self) -> str:
        r"""Digest over what the guide's questions and, of guides made from it, the classifier depend on."""
        return self._need("answers").key

    def _need(self, kind, after=(), **which):
        settings = self._settings_without(*WITHOUT[kind])
        return Need(kind, hash_json({"settings": settings, **which, "code": CODE}), which.get("shadow", 0), after)

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
    values = dict(dotted(nest(overrides or {})))
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
    changes = dict(dotted(nest({"threads": 1, **(changes or {})})))
    settings = resolve(profile, 0, {**cell.overrides(), **changes})
    # Every worker takes them from the process which leads the study, whose answers lie in the study's folder.
    here = {name: value for name, value in local(settings).items() if name != "guide.answers"}
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


def dotted(values: dict, prefix: str = ""):
    r"""(dotted name, value) of everything in nested dictionaries; lists become tuples."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from dotted(value, f"{name}.")
        else:
            yield name, tuple(value) if isinstance(value, list) else value
