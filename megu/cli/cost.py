r"""``megu cost rehearse | predict | measure``."""

from pathlib import Path

import typer

from megu.cli.options import Out, Profile, Seed, Seeds, Set, option, parse, write
from megu.settings.errors import SettingsError

app = typer.Typer(no_args_is_help=True, help="What a run costs: tried, predicted, measured.")


@app.command()
def rehearse(
    profile: Profile = "paper",
    seed: Seed = 0,
    batch: option(int, "Images of a training step, where the profile's are too many for this machine.", min=2) = None,
    out: Out = None,
    set: Set = None,
):
    """One step of every stage of a run with the true network and shapes, data and weights random if absent; with --out
    rehearsal.csv.  Exit code 1 where one fails."""
    from megu.cost.rehearse import rehearse
    from megu.settings.profiles import resolve

    table = rehearse(resolve(profile, seed, parse(set)), batch, typer.echo)
    write(table, out, "rehearsal.csv")
    if (table["failed"] != "").any():
        raise typer.Exit(1)


@app.command()
def predict(
    smoke: option(Path, "gpu_smoke.json of a GPU: its measured speed instead of an assumed one.", exists=True) = None,
    profile: Profile = "paper",
    seeds: Seeds = 3,
    out: Out = None,
):
    """Hours of a profile's grid on a GPU, by counted operations; with --out cost_grid.csv."""
    import json

    from megu.cost.gpu import CARD, measured_gpu
    from megu.cost.predict import grid_cost

    try:
        gpu = measured_gpu(json.loads(smoke.read_text())) if smoke else CARD
    except (OSError, ValueError) as error:  # no text or JSON, too
        raise SettingsError(f"--smoke {smoke.name!r} cannot be used: {str(error).splitlines()[0]}") from None
    table = grid_cost(profile, seeds, gpu)
    typer.echo(table.round(3).to_string(index=False))
    write(table.assign(card=gpu.name, seeds=seeds), out, "cost_grid.csv")
    pflop, low, high = table[["pflop", "hours_low", "hours_high"]].sum()
    typer.echo(f"profile {profile}, {seeds} seeds: {pflop:,.0f} PFLOP, {low:.0f} to {high:.0f} hours on one {gpu.name}")


@app.command()
def measure(out: Out, part: option(list[str], "images, classes, weights or guides alone") = None):
    """Seconds and memory of every stage on this machine, some minutes: cost.csv."""
    from megu.cost.measure import PARTS, measure

    measure(out, part or PARTS, say=typer.echo)
