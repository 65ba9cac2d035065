r"""The command that makes originals and retrained models ahead of a run: ``python -m megu pretrain``."""

import os

import typer

from megu.cli.options import Profile, RunDir, Seed, Set, parse

EXAMPLES = """Make the originals and retrained models of a run, with one process or several.  Repeat it after an interrupt: it goes on.

\b
  python -m megu pretrain --profile paper --set seeds=3
  accelerate launch --num_processes 4 -m megu pretrain --profile paper --set arch=vit-b16
  torchrun --nproc_per_node 4 -m megu pretrain --profile paper --set arch=vit-b16"""


def pretrain(profile: Profile = "quick", seed: Seed = 0, run_dir: RunDir = None, set: Set = None):
    """Make the originals and retrained models of a run."""
    if int(os.environ.get("RANK", 0)):
        os.environ["TQDM_DISABLE"] = "1"  # one bar is enough; read when tqdm is imported
    from megu.runs.pretrain import pretrain as make  # noqa: PLC0415

    lab = make(profile, seed, run_dir, parse(set), typer.echo)
    if lab:
        typer.echo(f"models: {os.path.relpath(lab.run.path)}/models")
