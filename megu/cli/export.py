r"""The command that turns a run's model into a folder for others: ``python -m megu export``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from megu.settings.errors import SettingsError
from megu.settings.files import writing


def export(
    run_dir: Annotated[Path, typer.Argument(help="Run directory.")],
    method: Annotated[str, typer.Argument(help="Name of the method, original and retrain among them.")],
    seed: Annotated[int, typer.Argument(help="Seed of pre-training.", min=0)],
    out: Annotated[
        Path, typer.Option(help="Folder for model.safetensors, config.json and the model card; a new or an empty one.")
    ],
    push: Annotated[
        str | None, typer.Option(help="Send it to the hub as owner/name, too (log in by `hf auth login` first).")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everyone see it on the hub.")] = False,
):
    """Write a model of a run as a checkpoint that others can load
    (`megu.own.checkpoint.Checkpoint.from_pretrained`)."""
    from megu.own import checkpoint  # noqa: PLC0415  (a slow import)

    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise SettingsError(f"--out {out.name!r} is not empty: name a new folder")
    made = checkpoint.export(run_dir, method, seed)
    with writing(out):
        made.save_pretrained(out)
    typer.echo(f"written  {checkpoint.WEIGHTS}, {checkpoint.CONFIG}, README.md in {os.path.relpath(out)}")
    if push:
        try:
            typer.echo(
                f"sent     {made.push_to_hub(push, private=not public, commit_message=f'{method}, seed {seed}')}"
            )
        except Exception as error:  # of the hub, of the login, or of whichever client reaches the network
            why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}"
            raise SettingsError(
                f"{push!r} was not sent ({why}): check name, login and network; the folder is written"
            ) from None
