r"""The command for the paper's experiments: ``python -m megu grid``."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from megu.cli.options import Set, parse

HELP = """Measure the paper's cells: every method, network and forgetting request of a profile.  Repeat it after an interrupt: it goes on.

\b
What is left to do; one process for each GPU or core:
  python -m megu grid --profile small --dry-run
  python -m megu grid --profile small --only data=cifar10
A selection: all conditions of one --only, any of several:
  ... --only 'arch=resnet18,method=megu|ssd' --only scenario=random
Dask workers, or jobs of dask-jobqueue, that share this folder:
  ... --scheduler tcp://host:8786       ... --cluster slurm --jobs 16
  (dask worker tcp://host:8786 --nworkers 8 --nthreads 1; on a machine
  with several GPUs each worker needs a CUDA_VISIBLE_DEVICES of its own)
Four GPUs make originals and retrained models together, first:
  accelerate launch --num_processes 4 -m megu grid ... --pretrain"""


def grid(
    profile: Annotated[str, typer.Option(help="quick, small or paper, see `megu.settings.cells.CELLS`.")] = "small",
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="field=value|value,... of data, arch, scenario, forget, method, seed, repeat; may be repeated."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds of pre-training.", min=1)] = 2,
    repeats: Annotated[int, typer.Option(help="Seeds of unlearning for each of them.", min=1)] = 1,
    folder: Annotated[Path | None, typer.Option(help="Where the results lie; by default runs/grid-<profile>.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the tidy tables of what was selected there.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes on this machine; one per GPU or core if left out.", min=1)
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler.")] = None,
    cluster: Annotated[str | None, typer.Option(help="slurm, pbs, sge or lsf.")] = None,
    jobs: Annotated[int, typer.Option(help="Jobs of the cluster.", min=1)] = 1,
    set: Set = None,
    pretrain: Annotated[
        bool,
        typer.Option(
            "--pretrain", help="Make originals and retrained models only, by all processes that are launched."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what is left to do; nothing is measured.")] = False,
):
    """Run the grid of a profile."""
    say = typer.echo
    if int(os.environ.get("RANK", 0)):  # one of several processes that pretrain together: the first one speaks
        os.environ["TQDM_DISABLE"], say = "1", lambda _: None
    from megu.runs.executors import executor  # noqa: PLC0415  (torch takes seconds; --help must not)
    from megu.runs.grid import Grid  # noqa: PLC0415
    from megu.runs.spec import grid as specs_of  # noqa: PLC0415
    from megu.runs.spec import recorded  # noqa: PLC0415
    from megu.settings.errors import WorkError  # noqa: PLC0415

    how = executor(workers, scheduler, cluster, jobs)
    specs = specs_of(profile, tuple(only or ()), seeds, repeats, parse(set))
    made = Grid(profile, folder)
    left = made.pieces(specs)
    say(
        f"{len(specs)} models in {made.path.name}: {len(made.finished(specs))} measured, {len(left)} pieces of work"
        " left"
    )
    if dry_run:
        say("\n".join(piece.name for piece in left))
        return
    if pretrain:
        made.pretrain(specs, say)
        return
    failed = made.carry_out(specs, how)
    if out and made.finished(specs):
        again = [part for text in only or () for part in ("--only", text)] + [
            "--seeds",
            str(seeds),
            "--repeats",
            str(repeats),
        ]
        again += [part for text in set or () for part in ("--set", text) if recorded(*text.split("=", 1))]
        made.write(specs, out, f"python -m megu grid --profile {profile} {shlex.join(again)}")
        typer.echo(f"written: {os.path.relpath(out)}/grid_{profile}.csv and its seconds and source")
    if failed:
        lines = [f"  {name}: {error} ({os.path.relpath(file)})" for name, (error, file) in failed.items()]
        raise WorkError(
            "\n".join(
                [
                    (
                        f"{len(failed)} of {len(left)} pieces failed; the others are kept, and the same command tries"
                        " again:"
                    ),
                    *lines,
                ]
            )
        )
