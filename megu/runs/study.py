r"""The studies: each is a list of specs, measured by one engine and written as tidy tables."""

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from megu.core.models import blocks
from megu.measure import recovery as known
from megu.methods import ANY, METHODS, method
from megu.runs.engine import Engine
from megu.runs.executors import executor
from megu.runs.experiment import NOISES
from megu.runs.models import REFERENCES
from megu.runs.runner import Inline, Job, run_all
from megu.runs.spec import Spec, own_specs, set_options, specs_of
from megu.runs.store import CODE, RunDirectory
from megu.settings.cells import ABLATIONS, CELLS, MECHANISM, STRENGTHS
from megu.settings.errors import SettingsError, WorkError
from megu.settings.files import atomic, hash_file, project_root, write_json
from megu.settings.values import closest, dotted, merge, nest

FIELDS = ("data", "arch", "scenario", "forget", "method", "seed", "repeat")
_MECHANISM = "acc_forget_train acc_retain_test tow noised_named noised_perturbed noised_loss".split()
CELL = ("data.name", "arch", "forget.", "compare", "seeds", "repeats", "shadows")  # settings that the grid gives


def _write(out, name, tables, source):
    # Hashes show where an interrupt left files of two studies.
    for table, rows in tables.items():
        with atomic(out / f"{table}.csv") as part:
            rows.to_csv(part, index=False, float_format="%.6g")
    files = {f"{table}.csv": hash_file(out / f"{table}.csv") for table in tables}
    write_json(out / f"{name}_source.json", {**source, "files": files})


def _failures(engine, specs, how):
    # Carries all out; lines of what failed.
    left, failed = len(engine.jobs(specs)), engine.carry_out(specs, how)
    head = f"{len(failed)} of {left} jobs failed; the others are kept, and the same command tries again:"
    lines = [f"  {job}: {error} ({os.path.relpath(file)})" for job, (error, file) in failed.items()]
    return "\n".join([head, *lines]) if failed else ""


@dataclass(frozen=True)
class Study:
    r"""Studies of a profile's own request, whose tables go to the folder ``out``.

    Attributes: workers: see `executor`.  seeds: of pre-training; ``overrides`` come before them.  folder: of the
        results, see `Engine`.
    """

    out: Path
    profile: str = "quick"
    workers: int | None = None
    seeds: int = 3
    overrides: dict = field(default_factory=dict)
    folder: Path | None = None

    def _measured(self, specs):
        engine = Engine(self.profile, self.folder)
        if failures := _failures(engine, specs, executor(self.workers)):
            raise WorkError(failures)
        rows, seconds, source = engine.tables(specs)
        source |= {"forget": specs[0].settings.forget.model_dump(), "workers": self.workers}
        one = {key: source[key][0] for key in ("device", "retain_images") if len(source[key]) == 1}
        return engine, rows, seconds, source | one

    def _variants(self, table, columns, variants, usual, **more):
        # Writes a table of (method, point, variant, changed settings).
        overrides, specs = merge(nest({"seeds": self.seeds, **self.overrides}), usual), []
        for name, point, variant, values in variants:
            about = {"point": point, "variant": variant, "variation": tuple(values.items()), **more}
            specs += own_specs(self.profile, overrides, [name], 1, **about)
        _, rows, _, source = self._measured(specs)
        _write(self.out, table, {table: rows.assign(method=rows["variant"])[columns.split()]}, source)

    def comparison(self, scenarios: Sequence[str] = ANY, repeats: int = 3, shadows: int = 8) -> None:
        r"""Every method (or those of ``compare``) in every scenario that it supports, over seeds and repeats, and what
        relearning takes after the first repeat: ``comparison.csv``, ``comparison_seconds.csv``."""
        usual, specs = {"seeds": self.seeds, "repeats": repeats, "shadows": shadows, **self.overrides}, []
        for scenario in scenarios:
            chosen = usual.get("compare", [name for name in METHODS if name not in REFERENCES])
            names = (*REFERENCES, *(name for name in chosen if scenario in method(name).scenarios))
            specs += own_specs(self.profile, merge(nest(usual), {"forget": {"scenario": scenario}}), names)
        specs = [spec if spec.repeat else replace(spec, measures=("metrics", "relearn")) for spec in specs]
        engine, rows, seconds, source = self._measured(specs)
        columns = "method seed repeat metric value mode unit scenario".split()
        times = "method seed repeat part seconds scenario".split()
        seconds = pd.concat([seconds[times], pd.DataFrame(engine.guide_seconds(specs), columns=times)])
        source |= {"scenarios": list(scenarios), "shadows": usual["shadows"]}
        _write(self.out, "comparison", {"comparison": rows[columns], "comparison_seconds": seconds}, source)

    def ablation(self, points: Sequence[str] = (), table: str = "ablation") -> None:
        r"""MeGU's open points, each changed alone: ``ablation.csv``, or ``<table>.csv``.

        Args: points: of `ABLATIONS`, by default all but the budget; the default and the retrained model come along.
        Raises: SettingsError for another point.
        """
        if unknown := [point for point in points if point not in ABLATIONS]:
            raise SettingsError(closest(unknown[0], ABLATIONS, "point"))
        points = dict.fromkeys(["default", *(points or [point for point in ABLATIONS if point != "budget"])])
        variants = [("retrain", "retrain", "retrain", {})]
        variants += [("megu", point, *variant) for point in points for variant in ABLATIONS[point].items()]
        self._variants(table, "seed metric value mode unit point variant", variants, {})

    def mechanism(self) -> None:
        r"""What the pair of eq. 11 hides, and what MeGU then leaves, of weak and sure originals: ``mechanism.csv``."""
        specs = []
        for epochs in STRENGTHS:
            own = partial(own_specs, self.profile, {"seeds": self.seeds, **self.overrides, "training.epochs": epochs})
            specs += own(REFERENCES, 1, point=f"{epochs}")
            for variant, values in MECHANISM.items():
                about = {"point": f"{epochs}", "variant": variant, "measures": ("metrics", "start")}
                specs += own(["megu"], 1, variation=tuple(values.items()), **about)
        _, rows, _, source = self._measured(specs)
        rows = rows.query("metric in @_MECHANISM")["method seed metric value point variant".split()]
        _write(self.out, "mechanism", {"mechanism": rows}, source | {"epochs": list(STRENGTHS)})

    def disentanglement(self) -> None:
        r"""Patterns that every method cuts, class-wise, and MeGU with each noise: ``disentanglement_all.csv``."""
        noises = [("megu", "", f"megu, {kind} noise", changes) for kind, changes in NOISES.items()]
        self._class_wise("disentanglement_all", "view measure value low high method seed", "patterns", noises)

    def hidden(self) -> None:
        r"""Percent of forget images named right in other preparations, and of others named so: ``hidden.csv``."""
        self._class_wise("hidden", "metric value method seed", "prepared")

    def _class_wise(self, table, columns, measure, more=()):
        named = {name: e for name, e in METHODS.items() if name in REFERENCES or not e.reference}
        variants = [(name, "", name, {}) for name, e in named.items() if "class" in e.scenarios]
        self._variants(table, columns, [*variants, *more], {"forget": {"scenario": "class"}}, measures=(measure,))


def paper_grid(
    profile: str = "paper", only: Sequence[str] = (), seeds: int = 2, repeats: int = 1, changes: dict | None = None
) -> list[Spec]:
    r"""The specs of a profile's grid in `CELLS`, references of a cell first.

    Args:
        only: selections such as ``"data=cifar10,method=megu|ssd"``: all conditions of any of them; none selects
            everything.  `REFERENCES` of what is selected come along.
        seeds, repeats: of pre-training, and of unlearning for each.
        changes: see `specs_of`.
    Raises: SettingsError for an unknown field, value or setting, or where nothing is selected.
    """
    if profile not in CELLS:
        raise SettingsError(closest(profile, CELLS, "profile"))
    for name in dotted(changes or {}):
        if name.startswith(CELL):
            how = "choose a grid's cells and seeds by --only, --seeds and --repeats, or use `megu run`"
            raise SettingsError(f"--set {name}: {how}")
    specs = [s for c in CELLS[profile] for s in specs_of(profile, c, c.methods, range(seeds), repeats, changes)]
    wanted = [_conditions(text, specs) for text in only]
    chosen = {s for s in specs if not only or any(all(_value(s, n) in v for n, v in one.items()) for one in wanted)}
    if not chosen:
        raise SettingsError(f"--only {' --only '.join(only)} selects nothing of the grid of profile {profile!r}")
    cells = {(spec.cell, spec.seed) for spec in chosen}
    return [s for s in specs if s in chosen or (s.method in REFERENCES and (s.cell, s.seed) in cells)]


def _conditions(text, specs):
    out = {}
    for part in text.split(","):
        name, equals, values = map(str.strip, part.partition("="))
        if not equals:
            raise SettingsError(f"--only {text!r}: {name!r} has no '=': write field=value or field=value|value,...")
        if name not in FIELDS:
            raise SettingsError(closest(name, FIELDS, f"--only {text!r}: the field"))
        known = dict.fromkeys(_value(spec, name) for spec in specs)
        for value in (values := [one.strip() for one in values.split("|")]):
            if value not in known:
                raise SettingsError(closest(value, known, f"--only {text!r}: the {name}"))
        out[name] = [value for value in values if value in out.get(name, values)]
    return out


def _value(spec, name):
    return str(spec.about["dataset" if name == "data" else name])


def paper(
    profile: str,
    only: Sequence[str],
    seeds: int,
    repeats: int,
    overrides: dict,
    *,
    folder: Path | None,
    out: Path | None,
    how: Callable,
    pretrain: bool,
    dry_run: bool,
    say: Callable[[str], object],
):
    r"""The paper's cells; ``grid_<profile>.csv``, its seconds and source, in the folder ``out``: all that is known.

    Args: profile, only, seeds, repeats, overrides: see `paper_grid`.  folder: see `Engine`.  how: see `executor`.
        pretrain: originals and retrained models only.  dry_run: only say what is left.
    Raises: WorkError with what failed, after all the rest.
    """
    engine, specs = Engine(profile, folder), paper_grid(profile, only, seeds, repeats, overrides)
    left = engine.jobs(specs)
    say(f"{len(specs)} models in {engine.path.name}: {len(engine.finished(specs))} measured, {len(left)} jobs left")
    if dry_run:
        return say("\n".join(job.name for job in left))
    if pretrain:
        return engine.pretrain(specs, say)
    failures = _failures(engine, specs, how)
    if out and engine.finished(specs):
        *tables, source = engine.tables(specs)
        rows, seconds = (table.drop(columns=["point", "variant"]) for table in tables)
        again = [part for text in only for part in ("--only", text)] + f"--seeds {seeds} --repeats {repeats}".split()
        again = shlex.join([*again, *set_options(overrides)])
        source["command"], name = f"megu study paper --profile {profile} {again}", f"grid_{profile}"
        _write(out, name, {name: rows, f"{name}_seconds": seconds}, source)
        say(f"written: {os.path.relpath(out)}/{name}.csv and its seconds and source")
    if failures:
        raise WorkError(failures)


def recovery(out: Path, seeds: Sequence[int]):
    r"""Do the measures find known parts?  ``truth_{recovery,units,forgetting}.csv``, by `megu.measure.recovery`."""
    run = RunDirectory(project_root() / "runs" / f"truth-{CODE[:6]}", {"code": CODE})
    run_all([Job(f"seed {seed}", _recover, (run, seed)) for seed in seeds], Inline, "known parts")
    kinds = zip(*(_recover(run, seed) for seed in seeds), strict=True)
    tables = {f"truth_{name}": pd.concat(parts) for name, parts in zip(_RECOVER, kinds, strict=True)}
    about = {"seeds": list(seeds), "torch": torch.__version__, "threads": torch.get_num_threads()}
    _write(out, "truth", tables, {"command": "megu study recovery --out paper_figures/data", **about})


_RECOVER = {
    "recovery": lambda here, seed: known.recovery(
        here.original, here.data, here.test, (*blocks(here.original, here.data.images.batch(here.test[:2])), None)
    ),
    "units": lambda here, seed: known.units(here.original, here.data, here.test),
    "forgetting": known.forgetting,
}


def _recover(run, seed):
    def table(name, make):
        return run.table(f"{name}-{seed}.csv", lambda: make(known.world(seed), seed)).assign(seed=seed)

    return [table(*one) for one in _RECOVER.items()]
