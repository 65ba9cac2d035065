r"""The commands of one run: ``megu run | tune | pretrain``."""

import os

import typer

from megu.cli.options import Out, Profile, RunDir, Seed, Set, Workers, experiment, one_voice, option, parse

SEVERAL = """Make the originals and retrained models of a run, with one process or several.  Repeat it after an interrupt: it goes on.

\b
  megu pretrain --profile paper --set seeds=3
  accelerate launch --num_processes 4 -m megu pretrain --profile paper --set arch=vit-b16
  torchrun --nproc_per_node 4 -m megu pretrain --profile paper --set arch=vit-b16"""  # noqa: E501  (a line is a paragraph)


def run(profile: Profile = "quick", seed: Seed = 0, run_dir: RunDir = None, set: Set = None):
    """Run notebooks 00-05 and print where the results are.  Repeat it after an interrupt: it goes on."""
    from megu.runs.notebooks import build_figures, run_notebooks
    from megu.settings.files import shipped

    shipped("notebooks")  # what is missing is said before a run directory is made
    made = experiment(profile, seed, run_dir, set)
    run_notebooks(made, say=typer.echo)
    build_figures(made.run, say=typer.echo)
    path = os.path.relpath(made.run.path)
    typer.echo(f"results: {path}/summary.csv; executed notebooks: {path}/notebooks")


def tune(
    out: Out,
    method: option(list[str] | None, "A method to tune; may be repeated.  All that can be, if left out.") = None,
    trials: option(int, "Trials of each method.", min=1) = 20,
    profile: Profile = "quick",
    run_dir: RunDir = None,
    workers: Workers = None,
    set: Set = None,
):
    """Choose learning rates, noise weights and the like on validation images (class-wise forgetting): tuning.csv."""
    from megu.runs.tune import tune as search

    table = search(profile, trials=trials, methods=method, overrides=parse(set), run_dir=run_dir, workers=workers)
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "tuning.csv", index=False)
    typer.echo(table[table["chosen"]].to_string(index=False))


def pretrain(profile: Profile = "quick", seed: Seed = 0, run_dir: RunDir = None, set: Set = None):
    """Make the originals and retrained models of a run."""
    say = one_voice()
    from megu.runs.pretrain import pretrain as make

    made = make(profile, seed, run_dir, parse(set), say)
    if made:
        say(f"models: {os.path.relpath(made.run.path)}/models")
