r"""The engine of all studies: what several specs need is made once, then every spec is measured."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
import torch

from megu.datasets import identity
from megu.datasets.sources import load
from megu.measure.shadows import confidence
from megu.measure.summary import minutes
from megu.methods import METHODS
from megu.runs.experiment import opened
from megu.runs.pretrain import pretrain
from megu.runs.runner import Job, run_jobs
from megu.runs.spec import Need, Spec
from megu.runs.store import CODE, RunDirectory
from megu.settings.errors import SettingsError, StageError
from megu.settings.files import atomic, hash_file, project_root

_ALONE = threading.Lock()  # threads of a worker take turns: torch's random state is the process's


class Engine:
    r"""A folder of results by key, of one version of the data, torch and each guide and one device for each network.

    Args: path: on a disk that all workers share; None for ``runs/study-<profile>``.
    """

    def __init__(self, profile: str, path: str | Path | None = None):
        self.path = Path(path or project_root() / "runs" / f"study-{profile}").resolve()
        self.profile, self.code, self.run = profile, CODE, RunDirectory(self.path, {"profile": profile})

    def file(self, spec: Spec) -> str:
        """The file of a result."""
        return f"results/{spec.key}.csv"

    def finished(self, specs: Sequence[Spec]) -> dict[Spec, dict]:
        """Specs whose results are there as they were written, and what is recorded of each."""
        known, out = self.run.manifest["artefacts"], {}
        for spec in specs:
            facts, path = known.get(self.file(spec)), self.path / self.file(spec)
            if facts and path.exists() and hash_file(path) == facts["sha256"]:
                out[spec] = facts
        return out

    def _open(self, spec):
        if self.code != CODE:
            raise StageError("this worker has loaded other code than the study's leader: restart it")
        if spec.current_key() != spec.key:
            raise StageError("this worker finds other weights, another original or answers: give it the same files")
        run = opened(spec.profile, 0, None, json.dumps(self._overrides(spec)), self.path)
        self._same_data(spec, run.images, run.run.manifest["notes"]["images"])
        # A queue may mix machines, whose precisions and speeds cannot be compared.
        self.run.same(f"device for {spec.cell.arch}", run.compute.hardware)
        self.run.same("torch", torch.__version__)
        return run

    def _same_data(self, spec, images, about):
        content = f"{about['train']['content']} {about['test']['content']}"
        counts = {part: about[part]["images"] for part in ("train", "test")}
        self.run.same(f"data {_data(spec)}", {**counts, "content": content, "order": images.digest()})

    def _overrides(self, spec):
        return {"guide.answers": str(self.path / "answers.jsonl"), **spec.overrides}

    def make(self, spec: Spec, need: Need):
        """Make what several specs need, and note that it is there."""
        with _ALONE:
            run = self._open(spec)
            if need.kind == "original":
                run.original(spec.seed)
            elif need.kind == "shadow":
                confidence(run.models, need.number, spec.settings.shadows)
            elif need.kind == "retrained":
                run.models.references(spec.seed)
            else:
                self._ask(spec, run)
            self._note(need)

    def _note(self, need):
        self.run.note(f"{need.kind} {need.key}", True)

    def _ask(self, spec, run):
        # Settings may leave open which weights answer, e.g. the newest revision.
        run.transition(spec.settings.guide.source)
        notes, guide = run.run.manifest["notes"], f"guide {spec.settings.guide.source}"
        self.run.same(f"{guide}, version, {spec.questions}", notes[f"{guide}, version"])
        if seconds := notes.get(f"{guide}, seconds"):
            self.run.note(f"{guide}, seconds, {spec.questions}", seconds)

    def measure(self, spec: Spec):
        """Measure a spec, once."""

        def make():
            started, run = time.time(), self._open(spec)
            if METHODS[spec.method].guided:
                self._ask(spec, run)
            given = spec.method, spec.seed, spec.repeat, dict(spec.variation), spec.measures
            table, facts = run.models.measure(*given)
            about = {"spec": str(spec), "device": run.compute.hardware, "seconds": facts["seconds"]}
            about |= {"started": round(started), "finished": round(time.time())}
            return table.drop(columns=["method", "seed", "repeat", "goal", "images"], errors="ignore"), about

        with _ALONE:
            self.run.table(self.file(spec), make)

    def jobs(self, specs: Sequence[Spec]) -> list[Job]:
        r"""The work that is left: what specs without a result need and was never made, and these specs."""
        first, last, finished, known = {}, [], self.finished(specs), self.run.manifest["notes"]
        for spec in specs:
            if spec not in finished:
                needs = spec.needs
                for name, need in needs.items():
                    if f"{need.kind} {need.key}" not in known:
                        first.setdefault(name, Job(name, self.make, (spec, need), need.after))
                last.append(Job(str(spec), self.measure, (spec,), tuple(needs)))
        return [*first.values(), *last]

    def check(self, specs: Sequence[Spec]):
        r"""Raises: StageError where the data are not those of the results; SettingsError where there are none."""
        for spec in {_data(spec): spec for spec in specs}.values():
            images = load(spec.settings)
            self._same_data(spec, images, identity.described(images))

    def carry_out(self, specs: Sequence[Spec], executor: Callable) -> dict[str, tuple[str, Path]]:
        r"""Measure all specs without a result; ``executor``: see `megu.runs.executors.executor`.

        Returns: name of each failed job -> (one line, file with trace and command).
        Raises: as `check`, before any work.
        """
        self.check(specs)
        jobs = self.jobs(specs)
        commands = {job.name: job.arguments[0].command for job in jobs}
        files = {name: self.path / "failures" / f"{name.replace('/', '-')}.txt" for name in commands}
        for file in files.values():
            file.unlink(missing_ok=True)

        def keep(name, error):
            with suppress(StageError), atomic(files[name]) as part:  # the disk may be full
                part.write_text(f"its notebooks: {commands[name]}\n\n{error.trace or error}")

        failed = run_jobs(jobs, executor, self.path.name, keep)
        return {name: (str(error), files[name]) for name, error in failed.items()}

    def pretrain(self, specs: Sequence[Spec], say: Callable[[str], object]):
        r"""The originals and retrained models of specs, see `megu.runs.pretrain.pretrain`."""
        for cell in dict.fromkeys(spec.cell for spec in specs):
            of_cell = [spec for spec in specs if spec.cell == cell]
            say(f"{cell.data}, {cell.arch}, {cell.scenario}, {cell.request}")
            seeds = list(dict.fromkeys(spec.seed for spec in of_cell))
            pretrain(self.profile, 0, None, self._overrides(of_cell[0]), say, self.path, seeds)
            for need in (need for spec in of_cell for need in spec.needs.values()):
                if need.kind in ("original", "retrained"):
                    self._note(need)

    def guide_seconds(self, specs: Sequence[Spec]) -> list[dict]:
        r"""Rows of the seconds that guides took where asked live: once for all models of a cell."""
        notes, out = self.run.manifest["notes"], {}
        for spec in specs:
            if seconds := notes.get(f"guide {spec.settings.guide.source}, seconds, {spec.questions}"):
                about = spec.about | {"method": "guide", "repeat": 0}
                out[tuple(about.values())] = {**about, "part": "guide", "seconds": seconds}
        return list(out.values())

    def tables(self, specs: Sequence[Spec]) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
        r"""(rows, seconds) of all specs with a result, tidy, after columns `Spec.about`, point, variant; and their
        source, for ``_source.json``."""
        rows, seconds, finished, notes = [], [], self.finished(specs), self.run.manifest["notes"]
        for spec, facts in finished.items():
            about = spec.about | {"point": spec.point, "variant": spec.variant}
            rows.append(pd.DataFrame([about]).merge(pd.read_csv(self.path / self.file(spec)), how="cross"))
            seconds += [{**about, "part": part, "seconds": value} for part, value in facts["seconds"].items()]
        if not rows:
            raise SettingsError(f"{self.path.name} holds no such result: run the study first")
        settings, seconds = [spec.settings for spec in finished], pd.DataFrame(seconds)
        source = {
            "profile": self.profile,
            "preset": sorted({s.preset for s in settings}),
            "seeds": sorted({spec.seed for spec in finished}),
            "repeats": len({spec.repeat for spec in finished}),
            "retain_images": sorted({s.retain_images for s in settings}),
            "epochs": {f"{s.data.name}, {s.arch}": _epochs(s) for s in settings},
            "data": {_data(spec): notes[f"data {_data(spec)}"] for spec in finished},
            "device": sorted({facts["device"] for facts in finished.values()}),
            "torch": notes["torch"],
            "code": CODE,
            "minutes": round(minutes(seconds), 1),
            "measured": len(finished),
            "not_run": len(specs) - len(finished),
        }
        return pd.concat(rows, ignore_index=True), seconds, source


def _data(spec):
    # The same images with labels of superclasses are other data; CIFAR-20 has no others.
    named = spec.cell.data == "cifar20" or spec.settings.label_level == "class"
    return spec.cell.data if named else f"{spec.cell.data} by superclass"


def _epochs(s):
    return f"from a file, sha256 {s.original.sha256}" if s.original.path else s.training.epochs
