r"""The run directory: a manifest, stages that are sealed, artefacts that appear whole or not at all."""

import json
import platform
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
from filelock import FileLock

import megu
from megu.core.resume import checkpoints
from megu.runs.claims import statements
from megu.settings.config import Settings
from megu.settings.errors import SettingsError, StageError
from megu.settings.extras import versions
from megu.settings.files import atomic, hash_bytes, hash_file, hash_json, project_root, write_json, writing
from megu.settings.progress import collect_notices, repeat_notices
from megu.settings.values import shown

STAGES = {  # stage -> the notebook that seals it
    "prepare": "00_prepare",
    "entanglement": "01_entanglement",
    "labels": "02_perturbing_labels",
    "noise": "03_noise_pair",
    "unlearn": "04_unlearn",
    "evaluate": "05_evaluate",
}
NO_RESULTS = ("cli", "cost", "figures")  # rooms that results do not depend on
PACKAGES = ("torch", "torchvision", "transformers", "open_clip_torch", "numpy", "scipy", "scikit-learn", "pandas")


def code_digest() -> str:
    r"""Twelve hex digits over the source files that results depend on, so that other code never reads old results."""
    root, parts = Path(megu.__file__).parent, []
    for file in sorted(root.rglob("*.py")):
        path = file.relative_to(root)
        hidden = any(part.startswith(".") for part in path.parts)  # an editor's copies
        if path.parts[0] not in NO_RESULTS and not hidden:
            parts += path.as_posix(), file.read_bytes()
    return hash_bytes(*parts)[:12]


CODE = code_digest()  # of what is loaded, whatever becomes of the files


def differences(theirs: dict, ours: dict, where: str = "") -> list[str]:
    r"""Where two nested dictionaries differ, by dotted name; hashes say nothing to people."""
    out = []
    for key in sorted({*theirs, *ours}):
        a, b = theirs.get(key), ours.get(key)
        if isinstance(a, dict) and isinstance(b, dict) and a and b:
            out += differences(a, b, f"{where}{key}.")
        elif a != b:
            hashes = all(re.fullmatch("[0-9a-f]{12,}", str(value)) for value in (a, b))
            out.append(f"{where}{key} is another" if hashes else f"{where}{key} was {shown(a, 40)}, is {shown(b, 40)}")
    return out


class RunDirectory:
    r"""Artefacts, each made once, and a manifest of what they depend on (``about``); written when something is kept.

    Args: called: what people call it, where that is not a ``run_dir``.
    Raises: StageError where the directory belongs to other settings or its manifest cannot be read.
    """

    def __init__(
        self, path: str | Path, about: dict, seeds: Sequence[int] = (), notes: Callable[[], dict] = dict, called=None
    ):
        self._called, self._another = called or repr(Path(path).name), "folder" if called else "run_dir"
        self.path, self.about, self._seeds, self._notes = Path(path), _as_json(about), seeds, notes
        self._file = self.path / "manifest.json"
        if self._file.exists():
            _ = self.manifest

    @property
    def manifest(self) -> dict:
        """As it is on disk, or would first be.  Raises: see the class."""
        if not self._file.exists():
            return _as_json(self._first)
        try:
            manifest = json.loads(self._file.read_text())
            if not isinstance(manifest, dict):
                raise ValueError
        except ValueError:  # no JSON, or no text
            raise StageError(f"manifest.json in {self.path.name!r} is damaged: remove the run directory") from None
        if changed := differences({key: manifest.get(key) for key in self.about}, self.about):
            what = f"{self._called} was made otherwise ({'; '.join(changed)})"
            raise StageError(f"{what}: choose another {self._another}")
        return manifest

    @cached_property
    def _first(self):
        about = {"megu": megu.__version__, "digest": hash_json(self.about), "seeds": list(self._seeds)}
        about |= {"python": platform.python_version(), "versions": versions(PACKAGES)}
        return {**about, "artefacts": {}, "notes": self._notes(), "stages": {}, **self.about}

    @contextmanager
    def _changed(self):
        with self._lock("manifest"):
            manifest = self.manifest
            yield manifest
            write_json(self._file, manifest, locked=True)

    def _lock(self, name):
        # between processes; free again where one dies
        path = self.path / ".locks" / f"{name.replace('/', '-')}.lock"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)

    def note(self, key: str, value: Any) -> None:
        r"""Keep a fact about the run in the manifest."""
        if self.manifest["notes"].get(key) != value:
            with self._changed() as manifest:
                manifest["notes"][key] = value

    def same(self, key: str, value: Any) -> None:
        r"""Keep a fact that must not change.  Raises: StageError with both values where it was another."""
        value = _as_json(value)
        if self.manifest["notes"].get(key) != value:
            with self._changed() as manifest:
                known = manifest["notes"].setdefault(key, value)
            if known != value:
                changed = f"{self._called} was made with {key} {known!r}, now it is {value!r}"
                raise StageError(f"{changed}: choose another {self._another}")

    def once(self, name: str, make: Callable, save: Callable, load: Callable):
        r"""The artefact in the file ``name``, made once: ``make() -> (object, facts)``, ``save(object, path)``.

        It is always read by ``load(path)``, so that a resumed run continues from the same bits.  Trainings of ``make``
        that were stopped go on where they were, see `megu.core.resume.checkpoints`.  What ``make`` said in the log is
        kept as well, for the report of whoever reads the artefact.
        Raises: StageError where the file is not the one that was written.
        """
        path, unfinished = self.path / name, self.path / ".unfinished" / name.replace("/", "-")

        def made():
            return path.exists() and name in self.manifest["artefacts"]

        if not made():
            with self._lock(name):
                if not made():  # by the process that held the lock
                    with checkpoints(unfinished, [self.about, name]), collect_notices(said := []):
                        content, facts = make()
                    with atomic(path, locked=True) as part:
                        save(content, part)
                    with self._changed() as manifest:
                        manifest["artefacts"][name] = {"sha256": hash_file(path), **facts}
                        manifest["artefacts"][name] |= {"notices": said} if said else {}
                    shutil.rmtree(unfinished, ignore_errors=True)
        known = self.manifest["artefacts"][name]
        repeat_notices(known.get("notices", []))
        if hash_file(path) != known["sha256"]:
            raise StageError(f"{name} in {self.path.name!r} is not what was written: remove it to have it made again")
        return load(path)

    def facts(self, name: str) -> dict:
        r"""What was recorded when an artefact was made."""
        known = self.manifest["artefacts"][name]
        return {key: value for key, value in known.items() if key not in ("sha256", "notices")}

    def table(self, name: str, make: Callable[[], pd.DataFrame | tuple[pd.DataFrame, dict]]) -> pd.DataFrame:
        r"""`once` for a table, or (table, facts), kept as CSV."""

        def content():
            made = make()
            return made if isinstance(made, tuple) else (made, {})

        return self.once(name, content, lambda table, path: table.to_csv(path, index=False), pd.read_csv)

    def sealed(self, stage: str) -> bool:
        r"""Whether a stage is finished."""
        if stage not in STAGES:
            raise SettingsError(f"stage {stage!r} does not exist; stages are: {', '.join(STAGES)}")
        return stage in self.manifest["stages"]

    def require(self, *stages: str) -> None:
        r"""Raises: StageError with the notebook to run, where one of ``stages`` is not sealed."""
        for stage in stages:
            if not self.sealed(stage):
                raise StageError(f"{self.path.name!r} lacks stage {stage!r}: run notebooks/{STAGES[stage]} first")

    def seal(self, stage: str, claims: list, seconds: float) -> list[str]:
        r"""Finish a stage, whose claims go to the manifest, and give their `statements`.

        Raises: StageError with the invariants that fail; nothing is sealed then.
        """
        try:
            lines = statements(claims)
        except StageError as error:
            raise StageError(f"stage {stage!r} is not sealed: {error}") from None
        if not self.sealed(stage):
            record = {"claims": [claim.record() for claim in claims], "seconds": round(seconds, 2)}
            with self._changed() as manifest:
                manifest["stages"][stage] = record
        return lines


def _as_json(value):
    return json.loads(json.dumps(value))


def run_directory(
    settings: Settings, about: dict, run_dir: str | Path | None = None, study: Path | None = None
) -> Path:
    r"""Where a run lives: ``run_dir``, or ``runs/<profile>-<what is forgotten>-<digest of about>``; in the folder of a
    ``study``, ``<data>-<network>-...``."""
    forget = settings.forget
    what = "random" if forget.scenario == "random" else "-".join((forget.scenario, *forget.classes))
    what = f"{re.sub(r'[^a-z0-9-]+', '_', what.lower())}-{hash_json(about)[:6]}"
    if study:
        return study / f"{settings.data.name}-{settings.arch}-{what}"
    return Path(run_dir or project_root() / "runs" / f"{settings.profile}-{what}")


def in_memory():
    r"""What stands for a `RunDirectory` where nothing is kept."""
    facts = {}

    def once(name, make, save, load):
        content, facts[name] = make()
        return content

    nothing, notes = (lambda key, value: None), {"notes": {}}
    return SimpleNamespace(path=None, manifest=notes, once=once, facts=facts.get, note=nothing, same=nothing)
