r"""The command line: ``python -m megu run | guide | answers | tune | compare | ablate | disentangle | truth | unlearn |
report | grid | ...``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from megu.cli import cost as cost_commands
from megu.cli import export as checkpoint_command
from megu.cli import grid as grid_command
from megu.cli import own as own_commands
from megu.cli import pretrain as pretrain_command
from megu.cli.options import Profile, RunDir, Seed, Set, Workers, parse
from megu.settings.errors import MeguError, SettingsError

app = typer.Typer(
    help="Machine unlearning guided by a multimodal model (MeGU, arXiv 2602.17088).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _experiment(profile, seed, run_dir, pairs, usual=None):
    from megu.settings.profiles import resolve  # noqa: PLC0415

    values = {**(usual or {}), **parse(pairs)}
    resolve(profile, seed, values)  # a wrong setting is refused before torch is imported, which takes seconds
    from megu.runs.experiment import Experiment  # noqa: PLC0415

    return Experiment(profile, seed, run_dir, values)


@app.command()
def run(profile: Profile = "quick", seed: Seed = 0, run_dir: RunDir = None, set: Set = None):
    """Run notebooks 00-05 and print where the results are.  Repeat it after an interrupt: it goes on."""
    lab = _experiment(profile, seed, run_dir, set)
    from megu.runs.notebooks import build_figures, run_notebooks  # noqa: PLC0415

    run_notebooks(lab, say=typer.echo)
    build_figures(lab.run, say=typer.echo)
    typer.echo(
        f"results: {os.path.relpath(lab.run.path)}/summary.csv; executed notebooks:"
        f" {os.path.relpath(lab.run.path)}/notebooks"
    )


@app.command()
def guide(
    out: Annotated[Path, typer.Option(help="JSON lines file that the answers are added to.")],
    source: Annotated[
        str, typer.Option(help="composed, tiny, features, names, llm-names, shuffled, clip, mllm, served or replay.")
    ] = "composed",
    data: Annotated[
        str | None, typer.Option(help="A data set's name, a folder or an .npz; the profile's data, if left out.")
    ] = None,
    classes: Annotated[str, typer.Option(help="Ask about these classes only, e.g. 'shirt,coat,bag'.")] = "",
    exemplars: Annotated[int | None, typer.Option(help="Exemplars of each class.", min=1)] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask nothing: print what is open, and what it would take.")
    ] = False,
    price: Annotated[float | None, typer.Option(help="Of a million input tokens, for --dry-run.", min=0)] = None,
    image_tokens: Annotated[int | None, typer.Option(help="Tokens of one image, for --dry-run.", min=1)] = None,
    write_batch: Annotated[
        Path | None, typer.Option(help="Ask nothing: write the open questions as an OpenAI batch file.")
    ] = None,
    sampled: Annotated[
        bool,
        typer.Option(
            "--sampled", help="In such a file ask for several replies: for servers without log-probabilities."
        ),
    ] = False,
    read_batch: Annotated[
        list[Path] | None,
        typer.Option(help="Put its replies into the answers; may be repeated.", exists=True, dir_okay=False),
    ] = None,
    profile: Profile = "quick",
    set: Set = None,
):
    """Ask a guide about the exemplars of a data set and keep the answers.  Repeat it after an interrupt: it goes on."""
    from megu import guide as guides  # noqa: PLC0415
    from megu.core.device import choose  # noqa: PLC0415
    from megu.settings.profiles import resolve  # noqa: PLC0415

    values = {"forget.scenario": "random", "guide.source": source} | (
        {"guide.exemplars": exemplars} if exemplars else {}
    )
    settings = resolve(profile, 0, {**values, **(guides.data_settings(data) if data else {}), **parse(set)})
    names = [name.strip() for name in classes.split(",") if name.strip()]
    asked = guides.inquire(guides.SOURCES[settings.guide.source], settings, choose(settings).device, names)
    inquiry = guides.Inquiry(*asked, guides.Book(out))
    if (write_batch or read_batch) and not hasattr(inquiry.guide, "body"):
        raise SettingsError(
            f"guide.source={settings.guide.source} sends no requests: a batch file needs --source served"
        )
    for replies in read_batch or ():
        kept, left_out = guides.read_batch(*asked, replies, inquiry.book)
        typer.echo(
            f"{replies.name}: {kept} answers put"
            f" in{''.join(f'; {count} lines left out: {why}' for why, count in left_out.items())}"
        )
    for file in guides.write_batch(inquiry.guide, inquiry.open, write_batch, sampled) if write_batch else ():
        typer.echo(f"written: {file.name}")
    typer.echo(inquiry.bill(price, image_tokens) if dry_run or write_batch or read_batch else inquiry.ask())


@app.command()
def answers(
    file: Annotated[Path, typer.Argument(help="JSON lines file of answers.")],
    export: Annotated[Path | None, typer.Option(help="Write them to a .parquet, .csv or .jsonl.")] = None,
    import_: Annotated[
        Path | None,
        typer.Option("--import", help="Put the answers of a .parquet, .csv or .jsonl into them; every row is checked."),
    ] = None,
):
    """Say whose answers a file holds; export and import them."""
    from collections import Counter  # noqa: PLC0415

    from megu import guide as guides  # noqa: PLC0415

    if not (import_ or file.is_file()):
        raise SettingsError(f"{file.name!r} does not exist")
    book = guides.Book(file)
    if import_:
        kept, left_out = guides.import_answers(import_, book)
        typer.echo(
            f"{import_.name}: {kept} answers put"
            f" in{''.join(f'; {count} rows left out: {why}' for why, count in left_out.items())}"
        )
    if export:
        guides.export_answers(book, export)
    for (name, version), count in Counter((answer.source, answer.version) for answer in book.answers.values()).items():
        typer.echo(f"{count} answers of {name} ({version})")
    if book.damaged:
        typer.echo(f"{book.damaged} damaged lines were left out")


@app.command()
def tune(
    out: Annotated[Path, typer.Option(help="CSV file for the trials.")],
    method: Annotated[
        list[str] | None, typer.Option(help="A method to tune; may be repeated.  All that can be, if left out.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Trials of each method.", min=1)] = 20,
    profile: Profile = "quick",
    run_dir: RunDir = None,
    workers: Workers = None,
    set: Set = None,
):
    """Choose learning rates, noise weights and the like on validation images (class-wise forgetting)."""
    from megu.runs.tune import tune as search  # noqa: PLC0415
    from megu.runs.workers import share  # noqa: PLC0415

    workers, usual = share(workers)
    table = search(
        profile, trials=trials, methods=method, overrides={**usual, **parse(set)}, run_dir=run_dir, workers=workers
    )
    table.to_csv(out, index=False)
    typer.echo(table[table["chosen"]].to_string(index=False))


@app.command()
def compare(
    out: Annotated[Path, typer.Option(help="Folder for the tidy tables.")],
    scenario: Annotated[
        list[str] | None, typer.Option(help="class, subclass or random; may be repeated.  All, if left out.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds of pre-training.", min=1)] = 3,
    repeats: Annotated[int, typer.Option(help="Seeds of unlearning for each of them.", min=1)] = 3,
    shadows: Annotated[int, typer.Option(help="Shadow models of the likelihood-ratio attack; 0 for none.", min=0)] = 8,
    profile: Profile = "quick",
    workers: Workers = None,
    set: Set = None,
):
    """Every method against the true retrain.  Repeat it after an interrupt: it goes on."""
    from megu.runs.comparison import ANY, compare_all  # noqa: PLC0415

    compare_all(
        out,
        profile,
        scenario or ANY,
        typer.echo,
        workers,
        seeds=seeds,
        repeats=repeats,
        shadows=shadows,
        overrides=parse(set),
    )


@app.command()
def ablate(
    out: Annotated[Path, typer.Option(help="Folder for the tidy table.")],
    profile: Profile = "quick",
    seed: Seed = 0,
    run_dir: RunDir = None,
    workers: Workers = None,
    set: Set = None,
):
    """MeGU's open points changed one at a time.  Repeat it after an interrupt: it goes on."""
    from megu.runs.ablation import ablate_all  # noqa: PLC0415
    from megu.runs.workers import share  # noqa: PLC0415

    workers, usual = share(workers)
    ablate_all(_experiment(profile, seed, run_dir, set, usual), out, workers)


@app.command()
def disentangle(
    out: Annotated[Path, typer.Option(help="Folder for the tidy table.")],
    seeds: Annotated[int, typer.Option(help="Seeds of pre-training.", min=1)] = 3,
    profile: Profile = "quick",
    workers: Workers = None,
    set: Set = None,
):
    """Which patterns every method cuts (class-wise).  Takes the models of `compare` where they are there; goes on after
    an interrupt."""
    from megu.runs.comparison import disentangle_all  # noqa: PLC0415

    disentangle_all(out, profile, workers, seeds, parse(set))


@app.command()
def truth(
    out: Annotated[Path, typer.Option(help="Folder for the tidy tables.")],
    seeds: Annotated[int, typer.Option(help="Seeds of data, training and unlearning.", min=1)] = 3,
):
    """Check the entanglement measures on images whose parts are known.  Repeat it after an interrupt: it goes on."""
    from megu.runs.recovery import measure  # noqa: PLC0415

    measure(out, range(seeds))


app.command(help=own_commands.EXAMPLES)(own_commands.unlearn)
app.command()(own_commands.report)
app.command()(cost_commands.rehearse)
app.command()(cost_commands.cost)
app.command(help=grid_command.HELP)(grid_command.grid)
app.command(help=pretrain_command.EXAMPLES)(pretrain_command.pretrain)
app.command()(checkpoint_command.export)


def main():
    r"""Run the command line; errors that are meant for people are one line and exit code 2."""
    try:
        app()
    except MeguError as error:
        typer.echo(f"megu: {error}", err=True)
        raise SystemExit(2) from None
