r"""One entry of a study: a model that is measured, and the key of its result."""

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from megu.core import weights as pretrained
from megu.guide import SOURCES
from megu.guide.prompt import files_digest
from megu.methods import METHODS, method_settings
from megu.runs.models import OF_RUN, REFERENCES
from megu.runs.store import CODE
from megu.settings.cells import Cell
from megu.settings.config import Settings
from megu.settings.errors import SettingsError
from megu.settings.files import hash_json
from megu.settings.machine import MACHINE, local
from megu.settings.profiles import resolve
from megu.settings.values import dotted

FILED = ("mllm", "clip", "replay")  # guides that answer from files at guide.path
OUTSIDE = {"compare", "methods", "seed", "seeds", "repeats"}  # settings on which no result depends
WITHOUT = {  # kind of need -> settings on which it does not depend
    "original": ("forget", "retain_images", "guide", "preset", "shadows"),
    "shadow": ("forget", "retain_images", "guide", "preset"),
    "retrained": ("retain_images", "guide", "preset", "shadows"),
    "answers": ("forget", "retain_images", "shadows"),
}


class Need(NamedTuple):
    r"""What several specs need: kind, digest of what it depends on, a shadow's number, names of what comes first."""

    kind: str
    key: str
    number: int
    after: tuple[str, ...]


@dataclass(frozen=True)
class Spec:
    r"""One model of a study and what is measured of it; it can be sent anywhere.

    Attributes:
        seed: of pre-training.  repeat: of unlearning.
        changes: (dotted setting, value) pairs, of all models of the cell.
        variation: such pairs of this model alone, of its method's settings or `megu.runs.models.OF_RUN`.
        measures: see `megu.runs.models.Models.measure`.
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
        """Dotted settings of the run that the cell's models share."""
        return {**self.cell.overrides(), "compare": [], "seeds": 1, **dict(self.changes)}

    @property
    def _own(self):
        head = f"methods.{self.method}."
        return self.overrides | {k if k in OF_RUN else head + k: v for k, v in self.variation}

    @property
    def settings(self) -> Settings:
        """Of this model."""
        return _settings(self.profile, json.dumps(self._own))

    @cached_property
    def key(self) -> str:
        r"""Twelve hex digits over all that the result depends on but what a study has one of, see `Engine`."""
        return self.current_key()

    def current_key(self) -> str:
        r"""The `key` by this process's files and code; the one that made the spec may have others."""
        about, guide = self._settings_without(), self.settings.guide
        if guide.source in FILED and guide.path:
            about["guide"]["files"] = _files(guide.path)
        parameters = method_settings(self.method, self.settings).model_dump(mode="json")
        made = {"method": self.method, "parameters": parameters, "seed": self.seed, "repeat": self.repeat}
        return hash_json({"settings": about, **made, "measures": self.measures, "code": CODE})

    def _settings_without(self, *names):
        s = self.settings
        about = s.model_dump(mode="json", exclude=OUTSIDE.union(names)) | {"level": s.label_level}
        return about | ({"weights": pretrained.identity(s.weights)} if self.cell.arch == "vit-b16" else {})

    @property
    def needs(self) -> dict[str, Need]:
        r"""What is made before this model and shared with others, by its name."""
        c, s = self.cell, self.settings
        data, count = f"{c.data}/{c.arch}/{s.label_level}", s.shadows
        original = f"original {data}/{self.seed}"
        needs = {original: self._need("original", seed=self.seed)}
        needs |= {f"shadow {data}/{k} of {count}": self._need("shadow", shadow=k) for k in range(count)}
        retrained = f"retrained {c.data}/{c.arch}/{c.scenario}/{c.request}/{self.seed}"
        needs[retrained] = self._need("retrained", tuple(needs), seed=self.seed)
        if METHODS[self.method].guided:
            needs[f"answers {data}/{s.guide.source}"] = self._need("answers", (original,))
        return needs

    @property
    def questions(self) -> str:
        r"""Digest of what the guide's questions and its classifier depend on."""
        return self._need("answers").key

    def _need(self, kind, after=(), **which):
        settings = self._settings_without(*WITHOUT[kind])
        return Need(kind, hash_json({"settings": settings, **which, "code": CODE}), which.get("shadow", 0), after)

    @property
    def about(self) -> dict:
        """The columns that name this model in a tidy table."""
        c = self.cell
        of_cell = {"dataset": c.data, "arch": c.arch, "scenario": c.scenario, "forget": c.request}
        return of_cell | {"method": self.method, "seed": self.seed, "repeat": self.repeat}

    @property
    def command(self) -> str:
        """The notebooks with this model alone, without paths; with earlier seeds where the guide is made from the first
        classifier of a run."""
        compared = [] if self.method in REFERENCES else [self.method]
        first = 0 if SOURCES[self.settings.guide.source].needs_model else self.seed
        counts = {"compare": compared, "repeats": self.repeat + 1, "seeds": self.seed - first + 1}
        options = shlex.join(set_options({**self._own, **counts}))
        return f"megu run --profile {self.profile} --seed {first} {options}"

    def __str__(self):
        return "/".join(map(str, (*self.about.values(), *filter(None, (self.point, self.variant)))))


def set_options(values: dict[str, Any]) -> list[str]:
    r"""``--set name=value`` of dotted settings, without paths and addresses of this machine."""
    given = [f"{k}={v}" for k, v in values.items() if k.rpartition(".")[2] not in MACHINE or v == "random"]
    return [part for pair in given for part in ("--set", pair)]


@cache
def _settings(profile, overrides):
    return resolve(profile, 0, json.loads(overrides))


@cache
def _files(path):
    path = Path(path)
    if not path.exists():
        raise SettingsError(f"guide.path: {path.name!r} does not exist: set it to the guide's file or folder")
    return files_digest(sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path])


def specs_of(
    profile: str,
    cell: Cell,
    names: Iterable[str],
    seeds: Iterable[int],
    repeats: int = 1,
    changes: dict | None = None,
    **more,
) -> list[Spec]:
    r"""Specs of one cell: every seed, method and repeat; references have one repeat.

    Args:
        changes: dotted settings; by default ``threads`` is 1: other numbers add in another order.  Paths and addresses,
            also of the environment, go along.
        more: see `Spec`.
    Raises: SettingsError for a wrong setting.
    """
    changes = dotted({"threads": 1, **(changes or {})})
    settings = resolve(profile, 0, {**cell.overrides(), **changes})
    # Workers take paths from the process that leads; answers lie in the study's folder.
    changes |= {name: value for name, value in local(settings).items() if name != "guide.answers"}
    more |= {"changes": tuple(sorted(changes.items()))}
    specs = [
        Spec(profile, replace(cell, tables=()), name, seed, repeat, **more)
        for seed in seeds
        for name in names
        for repeat in range(1 if METHODS[name].reference else repeats)
    ]
    for spec in {spec.method: spec for spec in specs}.values():
        method_settings(spec.method, spec.settings)
    return specs


def own_specs(profile: str, overrides: dict, names: Iterable[str], repeats: int | None = None, **more) -> list[Spec]:
    r"""`specs_of` a profile's own request, with its seeds and (None) repeats."""
    values = dotted(overrides)
    s = resolve(profile, 0, values)
    cell = Cell(s.data.name, s.arch, s.forget.scenario, () if s.forget.scenario == "random" else s.forget.classes)
    given = ("data.name", "arch", "forget.scenario", "forget.classes", "seeds", "repeats", "compare")
    changes = {name: value for name, value in values.items() if name not in given}
    return specs_of(profile, cell, names, s.seed_list, repeats or s.repeats, changes, **more)
