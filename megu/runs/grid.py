r"""The grid: every spec measured once, on any executor; originals and retrained models shared by all that need them."""

import json
import threading
import time
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path

import pandas as pd
import torch

from megu.datasets import identity
from megu.datasets.sources import load
from megu.measure.summary import minutes
from megu.methods import METHODS
from megu.runs.cellrun import CellRun
from megu.runs.pretrain import pretrain
from megu.runs.schedule import Piece, carry_out
from megu.runs.store import CODE, Run
from megu.settings.errors import SettingsError, StageError
from megu.settings.files import atomic, project_root, sha256, write_json

_ALONE = (
    threading.Lock()
)  # a worker with several threads carries out one piece at a time: torch's random state is the process's


class Grid:
    r"""A folder in which the results of a grid lie, by their keys; all of one version of the data, torch, each guide,
    and one device for each network.

    Args:
        profile: of all specs.
        path: folder, on a disk that all workers share; None for ``runs/grid-<profile>``.
    """

    def __init__(self, profile, path=None):
        self.path = Path(path or project_root() / "runs" / f"grid-{profile}").resolve()
        self.profile, self.code = profile, CODE

    @cached_property
    def run(self):
        """The folder's `megu.runs.store.Run`, made when something is to be kept in it."""
        return Run(self.path, {"profile": self.profile})

    def _known(self, group):
        return self.run.manifest[group] if (self.path / "manifest.json").exists() else {}

    def name(self, spec):
        """Of the file of a result."""
        return f"results/{spec.key}.csv"

    def finished(self, specs):
        """Those of the specs whose results are there as they were written, and what is recorded of each result."""
        known = self._known("artefacts")
        return {
            spec: known[self.name(spec)]
            for spec in specs
            if self.name(spec) in known and self._whole(spec, known[self.name(spec)])
        }

    def _whole(self, spec, facts):
        path = self.path / self.name(spec)
        return path.exists() and sha256(path) == facts["sha256"]

    def _open(self, spec):
        if self.code != CODE:
            raise StageError("this worker has loaded other code than the process that leads the grid: restart it")
        if spec.found() != spec.key:
            raise StageError(
                "this worker finds other weights, another original or other answers of the guide than the process that leads the grid"
            )
        asked = self.path, spec.profile, json.dumps(self._overrides(spec))
        lab = _cell(*asked)
        if not (lab.run.path.exists() and lab.shared.path.exists()):  # removed while this worker lived
            _cell.cache_clear()
            lab = _cell(*asked)
        self._same_data(spec.data, lab.images, lab.run.manifest["notes"]["images"])
        # Where a queue mixes machines, a cell's models would be compared across precisions and speeds.
        self.run.same(f"device for {spec.arch}", lab.compute.hardware)
        self.run.same("torch", torch.__version__)
        return lab

    def _same_data(self, name, images, about):
        self.run.same(f"data {name}", {
            "train": about["train"]["images"], "test": about["test"]["images"], "content": f"{about['train']['content']} {about['test']['content']}",
            "order": images.digest(),
        })  # fmt: skip

    def _same_guide(self, spec, lab):
        # Settings may leave open which weights answer: a model without revision is the newest one, and a server says
        # nothing.
        lab.transition()
        note = f"guide {spec.settings.guide.source}, version"
        self.run.same(f"{note}, {spec.questions}", lab.run.manifest["notes"][note])

    def check(self, specs):
        r"""Raises: StageError where the data are others than those of the results in the folder, SettingsError where
        there are none; before any work."""
        for spec in {spec.data: spec for spec in specs}.values():
            images = load(spec.settings)
            self._same_data(spec.data, images, identity.described(images))

    def _overrides(self, spec):
        return {"guide.answers": str(self.path / "answers.jsonl"), **spec.overrides}

    def pretrain(self, specs, say=print):
        r"""Make the originals and retrained models of specs, by several processes where this is one of several, see
        `megu.runs.pretrain.pretrain`."""
        for cell in dict.fromkeys(spec.cell for spec in specs):
            of_cell = [spec for spec in specs if spec.cell == cell]
            say(f"{cell.data}, {cell.arch}, {cell.scenario}, {cell.request}")
            overrides, seeds = self._overrides(of_cell[0]), list(dict.fromkeys(spec.seed for spec in of_cell))
            pretrain(of_cell[0].profile, 0, self.path, overrides, say, CellRun, seeds)
            for spec in of_cell:
                self._made(spec, "original")
                self._made(spec, "retrained")

    def _made(self, spec, what):
        self.run.note(f"{what} {getattr(spec, what)}", spec.seed)

    def original(self, spec):
        """Make the original of a spec, once."""
        with _ALONE:
            self._open(spec).original(spec.seed)
            self._made(spec, "original")

    def retrained(self, spec):
        """Make the retrained model of a spec, once, and what else its cell's models are compared with."""
        with _ALONE:
            self._open(spec).references(spec.seed)
            self._made(spec, "retrained")

    def measure(self, spec):
        """Measure a spec, once."""

        def make():
            started, lab = time.time(), self._open(spec)
            if METHODS[spec.method].guided:
                self._same_guide(spec, lab)
            found, facts = lab.measured(spec.method, spec.seed, spec.repeat)
            about = {
                "spec": str(spec),
                "device": lab.compute.hardware,
                "started": round(started),
                "finished": round(time.time()),
            }
            return found, {**facts, **about}

        with _ALONE:
            self.run.once(self.name(spec), make, lambda table, path: table.to_csv(path, index=False), pd.read_csv)

    def pieces(self, specs):
        r"""The work that is left: `megu.runs.schedule.Piece` of every spec without a result, and of the models that
        these need.

        A model that was made is not made again; where its file has been removed since, the first that needs it makes
        it.
        """
        models, out, finished, known = {}, [], self.finished(specs), self._known("notes")
        for spec in specs:
            if spec in finished:
                continue
            original = f"original {spec.data}/{spec.arch}/{spec.settings.label_level}/{spec.seed}"
            retrained = f"retrained {spec.data}/{spec.arch}/{spec.scenario}/{spec.cell.request}/{spec.seed}"
            if f"original {spec.original}" not in known:
                models.setdefault(original, Piece(original, self.original, (spec,)))
            if f"retrained {spec.retrained}" not in known:
                models.setdefault(retrained, Piece(retrained, self.retrained, (spec,), (original,)))
            out.append(Piece(str(spec), self.measure, (spec,), (original, retrained)))
        return [*models.values(), *out]

    def carry_out(self, specs, executor):
        r"""Measure all specs that have no result yet.

        Args:
            specs: list of `megu.runs.spec.RunSpec`.  executor: see `megu.runs.schedule.carry_out`.
        Returns: name of the piece -> (one line, file with the whole traceback and the command of its notebooks) of what
            failed.
        Raises: as `check`; before any work.
        """
        self.check(specs)
        pieces = self.pieces(specs)
        commands = {piece.name: piece.arguments[0].command for piece in pieces}
        for piece in pieces:
            self._failure(piece.name).unlink(missing_ok=True)

        def keep(name, error):
            with (
                suppress(StageError),
                atomic(self._failure(name)) as part,
            ):  # of a full disk the piece's own error speaks
                part.write_text(f"its notebooks: {commands[name]}\n\n{error.trace or error}")

        failed = carry_out(pieces, executor, self.path.name, keep)
        return {name: (str(error), self._failure(name)) for name, error in failed.items()}

    def _failure(self, name):
        return self.path / "failures" / f"{name.replace('/', '-')}.txt"

    def tables(self, specs):
        r"""(rows, seconds): tidy DataFrames of all specs with a result; first columns dataset, arch, scenario, forget,
        method, seed, repeat."""
        found, seconds = [], []
        for spec, facts in self.finished(specs).items():
            rows = pd.read_csv(self.path / self.name(spec)).drop(columns=["method", "seed", "repeat", "goal", "images"])
            found.append(pd.DataFrame([spec.about]).merge(rows, how="cross"))
            seconds += [{**spec.about, "part": part, "seconds": value} for part, value in facts["seconds"].items()]
        if not found:
            raise SettingsError(f"{self.path.name} holds no result of what is asked for: run the grid first")
        return pd.concat(found, ignore_index=True), pd.DataFrame(seconds)

    def write(self, specs, out, command):
        r"""Write ``grid_<profile>.csv``, ``.._seconds.csv`` and ``.._source.json`` to the folder ``out``: all that is
        known of ``specs``.

        Args:
            specs: list of `megu.runs.spec.RunSpec`.  out: folder.  command: what repeats this, without paths of this
                machine.
        """
        profile = self.profile
        rows, seconds = self.tables(specs)
        files = {}
        for name, table, digits in (
            (f"grid_{profile}.csv", rows, "%.6g"),
            (f"grid_{profile}_seconds.csv", seconds, "%.4g"),
        ):
            with atomic(out / name) as part:
                table.to_csv(part, index=False, float_format=digits)
            files[name] = sha256(out / name)  # so that a reader sees where an interrupt left files of two grids
        notes, finished = self.run.manifest["notes"], self.finished(specs)
        settings = [spec.settings for spec in finished]
        write_json(out / f"grid_{profile}_source.json", {
            "profile": profile, "command": command, "preset": sorted({s.preset for s in settings}), "seeds": sorted({spec.seed for spec in finished}),
            "repeats": len({spec.repeat for spec in finished}), "retain_images": sorted({s.retain_images for s in settings}),
            "epochs": {f"{s.data.name}, {s.arch}": f"from a file, sha256 {s.original.sha256}" if s.original.path else s.training.epochs for s in settings},
            "data": {spec.data: notes[f"data {spec.data}"] for spec in finished},
            "device": sorted({facts["device"] for facts in finished.values()}), "torch": notes["torch"], "files": files, "code": CODE,
            "minutes": round(minutes(seconds), 1), "measured": len(finished), "not_run": len(specs) - len(finished),
        })  # fmt: skip


@lru_cache(maxsize=2)
def _cell(path, profile, overrides):
    return CellRun(profile, 0, path, json.loads(overrides))
