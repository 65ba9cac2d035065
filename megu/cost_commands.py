r"""The commands about what a run needs: ``python -m megu rehearse | cost``."""

from pathlib import Path
from typing import Annotated

import typer

from megu.options import Profile, Seed, Set, parse


def rehearse(
    profile: Profile = "paper",
    seed: Seed = 0,
    batch: Annotated[int | None, typer.Option(help="Images of a training step, where the profile's batch is too much for this machine.", min=2)] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file for what was measured.")] = None,
    set: Set = None,
):
    """One step of every stage of a run with the true network and shapes, data and weights random where they are not here.  Exit code 1 where one fails."""
    from megu.profiles import resolve  # noqa: PLC0415
    from megu.rehearsal import rehearse as play  # noqa: PLC0415

    table = play(resolve(profile, seed, parse(set)), batch, typer.echo)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(out, index=False, float_format="%.6g")
    if (table["failed"] != "").any():
        raise typer.Exit(1)
