r"""The commands about what a run needs: ``python -m megu rehearse | cost``."""

from pathlib import Path
from typing import Annotated

import typer

from megu.cli.options import Profile, Seed, Set, parse
from megu.settings.errors import SettingsError


def rehearse(
    profile: Profile = "paper",
    seed: Seed = 0,
    batch: Annotated[
        int | None,
        typer.Option(help="Images of a training step, where the profile's batch is too much for this machine.", min=2),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file for what was measured.")] = None,
    set: Set = None,
):
    """One step of every stage of a run with the true network and shapes, data and weights random where they are not
    here.  Exit code 1 where one fails."""
    from megu.cost.rehearse import rehearse as play  # noqa: PLC0415
    from megu.settings.profiles import resolve  # noqa: PLC0415

    table = play(resolve(profile, seed, parse(set)), batch, typer.echo)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(out, index=False, float_format="%.6g")
    if (table["failed"] != "").any():
        raise typer.Exit(1)


def cost(
    out: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Folder for cost.csv: measure on this machine, some minutes.  Without it only the prediction is"
                " printed."
            )
        ),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(help="With --out: measure images, classes, weights or guides alone; may be repeated."),
    ] = None,
    smoke: Annotated[
        Path | None,
        typer.Option(help="gpu_smoke.json of a GPU: its measured speed instead of an assumed one.", exists=True),
    ] = None,
    profile: Annotated[str, typer.Option(help="Whose grid is predicted.")] = "paper",
    seeds: Annotated[int, typer.Option(help="Seeds of pre-training.", min=1)] = 3,
):
    """What a grid costs: stages measured on this machine, and hours on a GPU by counted operations."""
    import json  # noqa: PLC0415

    from megu.cost.measure import PARTS, measure  # noqa: PLC0415
    from megu.cost.predict import CARD, grid_cost, measured_gpu  # noqa: PLC0415

    if part and out is None:
        raise SettingsError("--part chooses what is measured, but without --out nothing is: give --out FOLDER")
    try:
        gpu = measured_gpu(json.loads(smoke.read_text())) if smoke else CARD
    except (OSError, ValueError) as error:  # among them what is no text or no JSON
        raise SettingsError(f"--smoke {smoke.name!r} cannot be used: {str(error).splitlines()[0]}") from None
    table = grid_cost(profile, seeds, gpu)
    if out is not None:
        measure(out, part or tuple(PARTS), say=typer.echo)
    typer.echo(table.round(3).to_string(index=False))
    total = table[["pflop", "hours_low", "hours_high"]].sum()
    typer.echo(
        f"profile {profile}, {seeds} seeds: {total['pflop']:,.0f} PFLOP, {total['hours_low']:.0f} to"
        f" {total['hours_high']:.0f} hours on one {gpu.name}"
    )
