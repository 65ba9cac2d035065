r"""The studies: each is a list of specs, measured by one engine and written as tidy tables by one writer."""

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch

from megu.core.models import blocks
from megu.measure import recovery as known
from megu.measure.summary import against_default
from megu.methods import ANY, METHODS, method
from megu.runs.engine import Engine
from megu.runs.executors import executor
from megu.runs.experiment import NOISES
from megu.runs.models import REFERENCES
from megu.runs.paper_grid import paper_grid
from megu.runs.runner import Job, run_all
from megu.runs.spec import Spec, cell_of, recorded, specs_of
from megu.runs.store import CODE, RunDirectory
from megu.settings.cells import ABLATIONS
from megu.settings.errors import WorkError
from megu.settings.files import atomic, hash_file, project_root, shipped, write_json
from megu.settings.values import merge, nest


def write_tables(out: Path, name: str, tables: dict[str, pd.DataFrame], source: dict):
    r"""The one writer of tidy tables: ``<table>.csv`` of each, and ``<name>_source.json`` that says where they are
    from, with the hash of each, so that a reader sees where an interrupt left files of two studies."""
    for table, rows in tables.items():
        with atomic(out / f"{table}.csv") as part:
            rows.to_csv(part, index=False, float_format="%.6g")
    files = {f"{table}.csv": hash_file(out / f"{table}.csv") for table in tables}
    write_json(out / f"{name}_source.json", {**source, "files": files})


def _measured(specs, workers, folder):
    # (engine, rows, seconds, their source where all specs are of one kind of data and network)
    engine = Engine(specs[0].profile, folder)
    if failed := engine.carry_out(specs, executor(workers)):
        first = {name: error for name, (error, _) in failed.items() if not error.startswith("it needs ")}
        why = "; ".join(f"{name}: {error}" for name, error in first.items())
        raise WorkError(f"{len(failed)} jobs failed; the others are kept.  {why}")
    rows, seconds = engine.tables(specs)
    source = engine.source(specs, seconds) | {"forget": specs[0].settings.forget.model_dump(), "workers": workers}
    return engine, rows, seconds, source | {key: source[key][0] for key in ("device", "retain_images")}


def comparison_specs(profile: str, scenario: str, overrides: dict) -> list[Spec]:
    r"""Every method that supports a scenario (or those of ``compare``), with the steps that relearning takes after the
    first unlearning."""
    cell, changes, s = cell_of(profile, merge(nest(overrides), {"forget": {"scenario": scenario}}))
    chosen = overrides.get("compare", [name for name in METHODS if name not in REFERENCES])
    names = [name for name in chosen if scenario in method(name).scenarios]
    given = profile, cell, (*REFERENCES, *names), s.seed_list, s.repeats, changes
    return specs_of(*given, measures=lambda repeat: ("metrics",) if repeat else ("metrics", "relearn"))


def comparison(
    out: Path,
    profile: str = "quick",
    scenarios: Sequence[str] = ANY,
    workers: int | None = None,
    seeds: int = 3,
    repeats: int = 3,
    shadows: int = 8,
    overrides: dict | None = None,
    folder: Path | None = None,
):
    r"""Every method in every scenario, over seeds of pre-training and of unlearning: ``comparison.csv``,
    ``comparison_seconds.csv``, ``comparison_source.json``."""
    usual = {"seeds": seeds, "repeats": repeats, "shadows": shadows, **(overrides or {})}
    specs = [spec for scenario in scenarios for spec in comparison_specs(profile, scenario, usual)]
    engine, rows, seconds, source = _measured(specs, workers, folder)
    columns = ["method", "seed", "repeat", "metric", "value", "mode", "unit", "scenario"]
    times = ["method", "seed", "repeat", "part", "seconds", "scenario"]
    guides = pd.DataFrame(engine.guide_seconds(specs), columns=times)
    tables = {"comparison": rows[columns], "comparison_seconds": pd.concat([seconds[times], guides])}
    write_tables(out, "comparison", tables, {**source, "scenarios": list(scenarios), "shadows": usual["shadows"]})


def ablation(
    out: Path,
    profile: str = "quick",
    workers: int | None = None,
    seeds: int = 3,
    overrides: dict | None = None,
    folder: Path | None = None,
):
    r"""MeGU's open points (A2, A6-A10, A12 and tau), each changed alone: ``ablation.csv``, ``ablation_source.json``."""
    cell, changes, s = cell_of(profile, {"seeds": seeds, **(overrides or {})})
    specs = specs_of(profile, cell, ["retrain"], s.seed_list, 1, changes, point="retrain", variant="retrain")
    for point, variants in ABLATIONS.items():
        for variant, values in variants.items():
            more = {"point": point, "variant": variant, "variation": tuple(values.items())}
            specs += specs_of(profile, cell, ["megu"], s.seed_list, 1, changes, **more)
    _, rows, _, source = _measured(specs, workers, folder)
    columns = ["seed", "metric", "value", "mode", "unit", "point", "variant"]
    write_tables(out, "ablation", {"ablation": rows[columns]}, source)


def tracked_ablation(point: str) -> pd.DataFrame:
    r"""What the ablation measured for one point of the assumption log, see `megu.measure.summary.against_default`;
    empty where its table is not here."""
    file = shipped("paper_figures") / "data" / "ablation.csv"
    if not file.exists():
        return pd.DataFrame(columns=["point", "variant", "metric", "change", "change_half_width"])
    table = against_default(pd.read_csv(file))
    return table[table["point"] == point]


def disentanglement(
    out: Path,
    profile: str = "quick",
    workers: int | None = None,
    seeds: int = 3,
    overrides: dict | None = None,
    folder: Path | None = None,
):
    r"""The patterns that every method cuts, class-wise, and MeGU with each kind of noise: ``disentanglement_all.csv``
    and its source."""
    usual = merge({"seeds": seeds}, nest(overrides or {}))
    cell, changes, s = cell_of(profile, merge(usual, {"forget": {"scenario": "class"}}))
    names = [name for name, e in METHODS.items() if "class" in e.scenarios and (name in REFERENCES or not e.reference)]
    kinds = {name: () for name in names} | {f"megu, {kind} noise": (("noise.kind", kind),) for kind in NOISES}
    specs = []
    for name, variation in kinds.items():
        more = {"variation": variation, "variant": name, "measures": ("patterns",)}
        specs += specs_of(profile, cell, [name.partition(",")[0]], s.seed_list, 1, changes, **more)
    _, rows, _, source = _measured(specs, workers, folder)
    rows = rows.assign(method=rows["variant"])[["view", "measure", "value", "low", "high", "method", "seed"]]
    write_tables(out, "disentanglement_all", {"disentanglement_all": rows}, source)


def paper(
    profile: str = "small",
    only: Sequence[str] = (),
    seeds: int = 2,
    repeats: int = 1,
    overrides: dict | None = None,
    *,
    folder: Path | None = None,
    out: Path | None = None,
    how: Callable | None = None,
    pretrain: bool = False,
    dry_run: bool = False,
    say: Callable[[str], object] = print,
):
    r"""The paper's cells; ``grid_<profile>.csv``, its seconds and source, in the folder ``out``: all that is known.

    Args:
        profile, only, seeds, repeats, overrides: see `paper_grid`.
        folder: where the results lie.  how: see `megu.runs.executors.executor`.
        pretrain: make originals and retrained models only.  dry_run: say what is left to do, do nothing.
    Raises: WorkError with what failed, after all the rest.
    """
    engine, specs = Engine(profile, folder), paper_grid(profile, only, seeds, repeats, overrides)
    left, name = engine.jobs(specs), f"grid_{profile}"
    say(f"{len(specs)} models in {engine.path.name}: {len(engine.finished(specs))} measured, {len(left)} jobs left")
    if dry_run:
        return say("\n".join(job.name for job in left))
    if pretrain:
        return engine.pretrain(specs, say)
    failed = engine.carry_out(specs, how or executor())
    if out and engine.finished(specs):
        rows, seconds = (table.drop(columns=["point", "variant"]) for table in engine.tables(specs))
        again = [part for text in only for part in ("--only", text)] + f"--seeds {seeds} --repeats {repeats}".split()
        again += [x for n, value in (overrides or {}).items() for x in ("--set", f"{n}={value}") if recorded(n, value)]
        source = {"command": f"megu study paper --profile {profile} {shlex.join(again)}"}
        write_tables(out, name, {name: rows, f"{name}_seconds": seconds}, source | engine.source(specs, seconds))
        say(f"written: {os.path.relpath(out)}/{name}.csv and its seconds and source")
    if failed:
        head = f"{len(failed)} of {len(left)} jobs failed; the others are kept, and the same command tries again:"
        lines = [f"  {job}: {error} ({os.path.relpath(file)})" for job, (error, file) in failed.items()]
        raise WorkError("\n".join([head, *lines]))


# Images whose parts are known
def recovery(out: Path, seeds: Sequence[int] = range(3), workers: int = 1):
    r"""Do the measures find what is there?  ``truth_recovery.csv``, ``truth_units.csv``, ``truth_forgetting.csv`` and
    ``truth_source.json``, by `megu.measure.recovery`."""
    run = RunDirectory(project_root() / "runs" / f"truth-{CODE[:6]}", {"code": CODE})
    run_all([Job(f"seed {seed}", _recover, (run, seed)) for seed in seeds], executor(workers), "known parts")
    kinds = zip(*(_recover(run, seed) for seed in seeds), strict=True)
    tables = {f"truth_{name}": pd.concat(parts) for name, parts in zip(_RECOVER, kinds, strict=True)}
    about = {"seeds": list(seeds), "torch": torch.__version__, "threads": torch.get_num_threads()}
    write_tables(out, "truth", tables, {"command": "megu study recovery --out paper_figures/data", **about})


def _layers(here, seed):
    layers = (*blocks(here.original, here.data.images.batch(here.test[:2])), None)
    return known.recovery(here.original, here.data, here.test, layers)


_RECOVER = {
    "recovery": _layers,
    "units": lambda here, seed: known.units(here.original, here.data, here.test),
    "forgetting": known.forgetting,
}


def _recover(run, seed):
    def table(name, make):
        return run.table(f"{name}-{seed}.csv", lambda: make(known.world(seed), seed)).assign(seed=seed)

    return [table(*one) for one in _RECOVER.items()]
