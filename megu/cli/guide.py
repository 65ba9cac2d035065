r"""``megu guide ask | answers``."""

from pathlib import Path

import typer

from megu.cli.options import DryRun, Out, Profile, Set, argument, option, parse
from megu.settings.errors import SettingsError

app = typer.Typer(no_args_is_help=True, help="Ask a guide ahead of a run; see and move its answers.")


def _put(file, kept, left_out, what):
    why = "".join(f"; {count} {what} left out: {reason}" for reason, count in left_out.items())
    typer.echo(f"{file.name}: {kept} answers put in{why}")


@app.command()
def ask(
    out: Out,
    source: option(
        str, "composed, tiny, features, names, llm-names, shuffled, clip, mllm, served, replay"
    ) = "composed",
    data: option(str, "A data set's name, a folder or an .npz; by default the profile's.") = None,
    classes: option(str, "These classes only, e.g. 'shirt,coat,bag'; one with a comma in double quotes.") = "",
    exemplars: option(int, "Exemplars of each class.", min=1) = None,
    dry_run: DryRun = False,
    price: option(float, "Of a million input tokens, for --dry-run.", min=0) = None,
    image_tokens: option(int, "Tokens of one image, for --dry-run.", min=1) = None,
    write_batch: option(Path, "Ask nothing: write the open questions as an OpenAI batch file.") = None,
    sampled: option(bool, "There ask for several replies: for servers without log-probabilities.", "--sampled") = False,
    read_batch: option(list[Path], "Put its replies into the answers", exists=True, dir_okay=False) = None,
    profile: Profile = "quick",
    set: Set = None,
):
    """Ask a guide about a data set's exemplars: answers.jsonl.  Repeat it after an interrupt: it goes on."""
    import csv

    from megu import guide as guides
    from megu.core.device import choose
    from megu.datasets.sources import load
    from megu.settings.profiles import resolve
    from megu.settings.values import closest

    if source not in guides.SOURCES:
        asked = [name for name, made in guides.SOURCES.items() if not made.needs_model]
        raise SettingsError(closest(source, asked, "--source"))
    values = {"forget.scenario": "random", "guide.source": source, **(guides.data_settings(data) if data else {})}
    values |= {"guide.exemplars": exemplars} if exemplars else {}
    settings = resolve(profile, 0, values | parse(set))
    names = [name.strip() for name in next(csv.reader([classes], skipinitialspace=True), ()) if name.strip()]
    device, store = choose(settings).device, out / "answers.jsonl"
    session = guides.GuideSession(settings, load(settings, device), device, answers=store, classes=names)
    for replies in read_batch or ():
        _put(replies, *guides.read_batch(*session.questions(), replies, session.store), "lines")
    for file in guides.write_batch(*session.open_questions(), write_batch, sampled) if write_batch else ():
        typer.echo(f"written: {file.name}")
    typer.echo(session.bill(price, image_tokens) if dry_run or write_batch or read_batch else session.ask())


@app.command()
def answers(
    file: argument(Path, "JSON lines file of answers."),
    export: option(Path, "Write them to a .parquet, .csv or .jsonl.") = None,
    import_: option(Path, "Put a .parquet, .csv or .jsonl into them; every row is checked.", "--import") = None,
):
    """Say whose answers a file holds; export and import them."""
    from collections import Counter

    from megu import guide as guides

    if not (import_ or file.is_file()):
        raise SettingsError(f"{file.name!r} does not exist: name an answers.jsonl of `megu guide ask`")
    store = guides.AnswerStore(file)
    if import_:
        _put(import_, *guides.import_answers(import_, store), "rows")
    if export:
        guides.export_answers(store, export)
    for (name, version), count in Counter((one.source, one.version) for one in store.answers.values()).items():
        typer.echo(f"{count} answers of {name} ({version})")
    if store.damaged:
        typer.echo(f"{store.damaged} damaged lines were left out")
