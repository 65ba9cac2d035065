r"""``megu study comparison | ablation | disentanglement | paper | recovery``."""

from pathlib import Path

import typer

from megu.cli.options import DryRun, Out, Profile, Repeats, Seeds, Set, Workers, one_voice, option, parse

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
  (dask worker tcp://host:8786 --nworkers 8 --nthreads 1; each with a
  CUDA_VISIBLE_DEVICES of its own where there are several GPUs)
Four GPUs make originals and retrained models together, first:
  accelerate launch --num_processes 4 -m megu study paper ... --pretrain"""


def _study(out, profile, workers, seeds, set):
    from megu.runs.study import Study

    return Study(out, profile, workers, seeds, parse(set))


@app.command()
def comparison(
    out: Out,
    scenario: option(list[str], "class, subclass or random, by default all") = None,
    seeds: Seeds = 3,
    repeats: Repeats = 3,
    shadows: option(int, "Shadow models of the likelihood-ratio attack; 0 for none.", min=0) = 8,
    profile: Profile = "quick",
    workers: Workers = None,
    set: Set = None,
):
    """Every method against the true retrain."""
    from megu.methods import ANY

    _study(out, profile, workers, seeds, set).comparison(scenario or ANY, repeats, shadows)


@app.command()
def ablation(
    out: Out,
    point: option(list[str], "Point of the assumption log, e.g. A10 or noise, by default all but budget") = (),
    table: option(str, "Name of the table, which is written as NAME.csv.") = "ablation",
    seeds: Seeds = 3,
    profile: Profile = "quick",
    workers: Workers = None,
    set: Set = None,
):
    """MeGU's open points changed one at a time."""
    _study(out, profile, workers, seeds, set).ablation(point or (), table)


@app.command()
def mechanism(out: Out, seeds: Seeds = 3, profile: Profile = "quick", workers: Workers = None, set: Set = None):
    """When does the noise pair help?  Weak and sure originals, lambda and scale, guided and random labels."""
    _study(out, profile, workers, seeds, set).mechanism()


@app.command()
def disentanglement(out: Out, seeds: Seeds = 3, profile: Profile = "quick", workers: Workers = None, set: Set = None):
    """Which patterns every method cuts (class-wise).  Takes the originals of `comparison` where they are there."""
    _study(out, profile, workers, seeds, set).disentanglement()


@app.command()
def hidden(out: Out, seeds: Seeds = 3, profile: Profile = "quick", workers: Workers = None, set: Set = None):
    """Is a class named again when its images are prepared otherwise?  Every method, class-wise."""
    _study(out, profile, workers, seeds, set).hidden()


@app.command()
def recovery(out: Out, seeds: Seeds = 3):
    """Check the entanglement measures on images with known parts."""
    from megu.runs.study import recovery

    recovery(out, range(seeds))


@app.command(help=PAPER)
def paper(
    profile: Profile = "small",
    only: option(list[str], "field=value|..., of data, arch, scenario, forget, method, seed, repeat") = (),
    seeds: Seeds = 2,
    repeats: Repeats = 1,
    folder: option(Path, "Where the results lie; by default runs/study-<profile>.") = None,
    out: Out = None,
    workers: Workers = None,
    scheduler: option(str, "Address of a Dask scheduler.") = None,
    cluster: option(str, "slurm, pbs, sge or lsf.") = None,
    jobs: option(int, "Jobs of the cluster.", min=1) = 1,
    set: Set = None,
    pretrain: option(bool, "Originals and retrained models only, by all launched processes.", "--pretrain") = False,
    dry_run: DryRun = False,
):
    """Run the grid of a profile; with --out also write the tidy tables of what was selected."""
    say = one_voice()
    from megu.runs.executors import executor
    from megu.runs.study import paper

    more = {"folder": folder, "out": out, "pretrain": pretrain, "dry_run": dry_run, "say": say}
    paper(profile, tuple(only), seeds, repeats, parse(set), how=executor(workers, scheduler, cluster, jobs), **more)
