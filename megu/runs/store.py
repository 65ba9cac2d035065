r"""The run directory: a manifest, stages that are required and sealed, artefacts that appear whole or not at all."""

import hashlib
import json
import platform
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from filelock import FileLock

import megu
from megu.runs.claims import statements
from megu.settings.config import Settings
from megu.settings.errors import SettingsError, StageError
from megu.settings.extras import versions
from megu.settings.files import atomic, hash_file, hash_json, project_root, write_json, writing

STAGES = {  # stage -> the notebook that seals it, in the order of a run
    "prepare": "00_prepare",
    "entanglement": "01_entanglement",
    "labels": "02_perturbing_labels",
    "noise": "03_noise_pair",
    "unlearn": "04_unlearn",
    "evaluate": "05_evaluate",
}
# Rooms that results do not depend on: how a command is given, what it would cost, how tables are drawn.
NO_RESULTS = ("cli", "cost", "figures")
PACKAGES = ("torch", "torchvision", "transformers", "open_clip_torch", "numpy", "scipy", "scikit-learn", "pandas")


def code_digest():
    r"""Twelve hex digits over the source files that results depend on, so that other code never reads old results."""
    root = Path(megu.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        if file.relative_to(root).parts[0] not in NO_RESULTS:
            digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:12]


CODE = code_digest()  # of what this process has loaded, whatever becomes of the files


def differences(theirs, ours, where=""):
    r"""Sentences that say where two nested dictionaries differ, by dotted name."""
    out = []
    for key in sorted({*theirs, *ours}):
        a, b = theirs.get(key), ours.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            out += differences(a, b, f"{where}{key}.")
        elif a != b:
            out.append(f"{where}{key} was {a!r}, is {b!r}")
    return out


class RunDirectory:
    r"""A directory of artefacts, each made once, and a manifest that says what they depend on.

    Opening one twice with different settings is refused, so results never mix.  Nothing is written before something is
    to be kept.

    Args:
        path: directory, made when it is needed.
        about: what the artefacts depend on, as a JSON-like dictionary: ``settings``, ``parameters`` of every method,
            ``data``, ``code``.
        seeds: of the repetitions, for the manifest.
        notes: function without arguments that gives the first facts of the manifest.
    Raises: StageError where the directory belongs to other settings or its manifest cannot be read.
    """

    def __init__(self, path: str | Path, about: dict, seeds: Sequence[int] = (), notes: Callable[[], dict] = dict):
        self.path, self.about, self._seeds, self._notes = Path(path), json.loads(json.dumps(about)), seeds, notes
        self._file = self.path / "manifest.json"
        if self._file.exists():
            self._refuse_others()

    def _refuse_others(self):
        manifest = self.manifest
        if changed := differences({key: manifest.get(key) for key in self.about}, self.about):
            raise StageError(
                f"run directory {self.path.name!r} was made otherwise ({'; '.join(changed)}): choose another run_dir"
            )

    def _begin(self):
        with self._lock("manifest"):
            if not self._file.exists():
                first = {
                    "megu": megu.__version__,
                    "digest": hash_json(self.about),
                    "seeds": list(self._seeds),
                    "python": platform.python_version(),
                    "versions": versions(PACKAGES),
                    "artefacts": {},
                    "notes": json.loads(json.dumps(self._notes())),
                    "stages": {},
                }
                write_json(self._file, {**first, **self.about}, locked=True)
        self._refuse_others()

    def _lock(self, name):
        # Several processes may work in one run directory; the lock of one that dies is free again.
        path = self.path / ".locks" / f"{name.replace('/', '-')}.lock"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)

    @property
    def manifest(self):
        """The manifest as it is on disk."""
        if not self._file.exists():
            self._begin()
        try:
            return json.loads(self._file.read_text())
        except json.JSONDecodeError:
            raise StageError(
                f"{self._file.name} in {self.path.name!r} is damaged: remove the run directory and start again"
            ) from None

    def _update(self, group, key, value, keep=False):
        # Returns what stands afterwards; with ``keep`` that is what stood before.
        if not self._file.exists():
            self._begin()
        with self._lock("manifest"):
            manifest = self.manifest
            if not (keep and key in manifest[group]):
                manifest[group][key] = value
                write_json(self._file, manifest, locked=True)
            return manifest[group][key]

    def note(self, key, value):
        r"""Keep a fact about the run in the manifest, e.g. which guide answered."""
        if self.manifest["notes"].get(key) != value:
            self._update("notes", key, value)

    def same(self, key, value):
        r"""Keep a fact that must not change while the run directory lives, e.g. the version of the guide.

        Raises: StageError with both values where it was another.
        """
        value = json.loads(json.dumps(value))
        if (known := self._update("notes", key, value, keep=True)) != value:
            raise StageError(
                f"run directory {self.path.name!r} was made with {key} {known!r}, now it is {value!r}: choose another"
                " run_dir"
            )

    def once(self, name, make, save, load):
        r"""The artefact ``name``: loaded where it was already made, else made, written atomically and recorded.

        Args:
            name: file name inside the run directory.
            make: function without arguments, returns (object, facts); facts go to the manifest (seconds, peak memory).
            save: function of (object, path).
            load: function of (path).
        Returns: the object, always as ``load`` reads it, so that a resumed run continues from the same bits.
        """
        path = self.path / name

        def made():
            return path.exists() and name in self.manifest["artefacts"]

        if not made():
            with self._lock(name):
                if not made():  # by the process that held the lock
                    content, facts = make()
                    with atomic(path, locked=True) as part:
                        save(content, part)
                    self._update("artefacts", name, {"sha256": hash_file(path), **facts})
        if hash_file(path) != self.manifest["artefacts"][name]["sha256"]:
            raise StageError(
                f"{name} in {self.path.name!r} is not the file that was written there: remove it to have it made again"
            )
        return load(path)

    def facts(self, name: str) -> dict:
        r"""What was recorded when the artefact ``name`` was made: seconds, peak memory."""
        return {key: value for key, value in self.manifest["artefacts"][name].items() if key != "sha256"}

    def table(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        r"""A tidy table as CSV, made once by ``make()`` and read back."""
        return self.measured(name, lambda: (make(), {}))

    def measured(self, name: str, make: Callable[[], tuple[pd.DataFrame, dict]]) -> pd.DataFrame:
        r"""The same for a function that gives a table and facts about it."""
        return self.once(name, make, lambda table, path: table.to_csv(path, index=False), pd.read_csv)

    def sealed(self, stage):
        r"""Whether a stage is finished."""
        if stage not in STAGES:
            raise SettingsError(f"stage {stage!r} does not exist; stages are: {', '.join(STAGES)}")
        return stage in self.manifest["stages"]

    def require(self, *stages):
        r"""Raise StageError naming the notebook to run first, for the first of ``stages`` that is not sealed."""
        for stage in stages:
            if not self.sealed(stage):
                raise StageError(
                    f"stage {stage!r} is missing in run directory {self.path.name!r}: run notebooks/{STAGES[stage]}"
                    " first"
                )

    def seal(self, stage, claims, seconds):
        r"""Finish a stage: its claims are written to the manifest with their state, value and bound.

        Args:
            stage: name in `STAGES`.
            claims: list of `megu.runs.claims.Claim`.
            seconds: wall time of the stage.
        Returns: list of lines, the claims that hold or fail, see `megu.runs.claims.statements`.
        Raises: StageError with the invariants that fail; nothing is sealed then.
        """
        try:
            lines = statements(claims)
        except StageError as error:
            raise StageError(f"stage {stage!r} is not sealed: {error}") from None
        if not self.sealed(stage):
            record = {"claims": [claim.record() for claim in claims], "seconds": round(seconds, 2)}
            self._update("stages", stage, record)
        return lines


def run_directory(
    settings: Settings, about: dict, run_dir: str | Path | None = None, study: Path | None = None
) -> Path:
    r"""Where a run lives: ``run_dir``, or ``runs/<profile>-<what is forgotten>-<digest of about>`` so that settings
    never mix; inside the folder of a study, if it is part of one."""
    what = f"{request_name(settings)}-{hash_json(about)[:6]}"
    if study:
        return study / f"{settings.data.name}-{settings.arch}-{what}"
    return Path(run_dir or project_root() / "runs" / f"{settings.profile}-{what}")


def request_name(settings: Settings) -> str:
    r"""What is forgotten, for the name of a directory."""
    forget = settings.forget
    what = "random" if forget.scenario == "random" else "-".join((forget.scenario, *forget.classes))
    return re.sub(r"[^a-z0-9-]+", "_", what.lower())
