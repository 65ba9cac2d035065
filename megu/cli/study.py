r"""The commands over many runs: ``megu study comparison | ablation | disentanglement | paper | recovery``."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from megu.cli.options import (
    DryRun,
    Out,
    OutOrNone,
    Profile,
    Repeats,
    RunDir,
    Seed,
    Seeds,
    Set,
    Workers,
    experiment,
    one_voice,
    parse,
)

app = typer.Typer(no_args_is_help=True, help="Many runs as tidy tables.  Repeat one after an interrupt: it goes on.")
PAPER = """Measure the paper's cells: every method, network and forgetting request of a profile.

\b
What is left to do; one process for each GPU or core:
  megu study paper --profile small --dry-run
  megu study paper --profile small --only data=cifar10
A selection: all conditions of one --only, any of several:
  ... --only 'arch=resnet18,method=megu|ssd' --only scenario=random
Dask workers, or jobs of dask-jobqueue, that share this folder:
  ... --scheduler tcp://host:8786       ... --cluster slurm --jobs 16
  (dask worker tcp://host:8786 --nworkers 8 --nthreads 1; on a machine
  with several GPUs each worker needs a CUDA_VISIBLE_DEVICES of its own)
Four GPUs make originals and retrained models together, first:
  accelerate launch --num_processes 4 -m megu study paper ... --pretrain"""


@app.command()
def comparison(
    out: Out,
    scenario: Annotated[
        list[str] | None, typer.Option(help="class, subclass or random; may be repeated.  All, if left out.")
    ] = None,
    seeds: Seeds = 3,
    repeats: Repeats = 3,
    shadows: Annotated[int, typer.Option(help="Shadow models of the likelihood-ratio attack; 0 for none.", min=0)] = 8,
    profile: Profile = "quick",
    workers: Workers = None,
    set: Set = None,
):
    """Every method against the true retrain."""
    from megu.runs.comparison import ANY, compare_all

    counts = {"seeds": seeds, "repeats": repeats, "shadows": shadows}
    compare_all(out, profile, scenario or ANY, typer.echo, workers, **counts, overrides=parse(set))


@app.command()
def ablation(
    out: Out,
    profile: Profile = "quick",
    seed: Seed = 0,
    run_dir: RunDir = None,
    workers: Workers = None,
    set: Set = None,
):
    """MeGU's open points changed one at a time."""
    from megu.runs.ablation import ablate_all
    from megu.runs.workers import share

    workers, usual = share(workers)
    ablate_all(experiment(profile, seed, run_dir, set, usual), out, workers)


@app.command()
def disentanglement(out: Out, seeds: Seeds = 3, profile: Profile = "quick", workers: Workers = None, set: Set = None):
    """Which patterns every method cuts (class-wise).  Takes the models of `comparison` where they are there."""
    from megu.runs.comparison import disentangle_all

    disentangle_all(out, profile, workers, seeds, parse(set))


@app.command()
def recovery(out: Out, seeds: Seeds = 3):
    """Check the entanglement measures on images whose parts are known."""
    from megu.runs.recovery import measure

    measure(out, range(seeds))


@app.command(help=PAPER)
def paper(
    profile: Annotated[str, typer.Option(help="quick, small or paper, see `megu.settings.cells.CELLS`.")] = "small",
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="field=value|value,... of data, arch, scenario, forget, method, seed, repeat; may be repeated."
        ),
    ] = None,
    seeds: Seeds = 2,
    repeats: Repeats = 1,
    folder: Annotated[Path | None, typer.Option(help="Where the results lie; by default runs/grid-<profile>.")] = None,
    out: OutOrNone = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes on this machine; one per GPU or core if left out.", min=1)
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler.")] = None,
    cluster: Annotated[str | None, typer.Option(help="slurm, pbs, sge or lsf.")] = None,
    jobs: Annotated[int, typer.Option(help="Jobs of the cluster.", min=1)] = 1,
    set: Set = None,
    pretrain: Annotated[
        bool, typer.Option("--pretrain", help="Originals and retrained models only, by all launched processes.")
    ] = False,
    dry_run: DryRun = False,
):
    """Run the grid of a profile; with --out the tidy tables of what was selected are written there."""
    say = one_voice()
    from megu.runs.executors import executor
    from megu.runs.grid import Grid
    from megu.runs.spec import grid as specs_of
    from megu.runs.spec import recorded
    from megu.settings.errors import WorkError

    how = executor(workers, scheduler, cluster, jobs)
    specs = specs_of(profile, tuple(only or ()), seeds, repeats, parse(set))
    made = Grid(profile, folder)
    left, done = made.pieces(specs), len(made.finished(specs))
    say(f"{len(specs)} models in {made.path.name}: {done} measured, {len(left)} pieces of work left")
    if dry_run:
        say("\n".join(piece.name for piece in left))
        return
    if pretrain:
        made.pretrain(specs, say)
        return
    failed = made.carry_out(specs, how)
    if out and made.finished(specs):
        again = [part for text in only or () for part in ("--only", text)]
        again += ["--seeds", str(seeds), "--repeats", str(repeats)]
        again += [part for text in set or () for part in ("--set", text) if recorded(*text.split("=", 1))]
        made.write(specs, out, f"megu study paper --profile {profile} {shlex.join(again)}")
        say(f"written: {os.path.relpath(out)}/grid_{profile}.csv and its seconds and source")
    if failed:
        head = f"{len(failed)} of {len(left)} pieces failed; the others are kept, and the same command tries again:"
        lines = (f"  {name}: {error} ({os.path.relpath(file)})" for name, (error, file) in failed.items())
        raise WorkError("\n".join([head, *lines]))
