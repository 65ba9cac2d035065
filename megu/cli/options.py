r"""Options that several commands of the command line share."""

import ast
import os
from pathlib import Path
from typing import Annotated

import typer

from megu.settings.errors import SettingsError


def _folder(path):
    if path and (path.is_file() or path.suffix in (".csv", ".json", ".jsonl", ".parquet")):
        raise SettingsError(f"--out {path.name!r} is a file: name a folder, which is made if it is not there")
    return path


_OUT = typer.Option("--out", help="Folder for what is written, made if it is not there.", callback=_folder)
Out = Annotated[Path, _OUT]
OutOrNone = Annotated[Path | None, _OUT]
Profile = Annotated[str, typer.Option(help="quick (embedded data, CPU), small (CIFAR-10) or paper (CIFAR-100).")]
Seed = Annotated[int, typer.Option(help="First seed; the repetitions use seed, seed + 1, ...")]
Seeds = Annotated[int, typer.Option(help="Seeds of pre-training.", min=1)]
Repeats = Annotated[int, typer.Option(help="Seeds of unlearning for each of them.", min=1)]
RunDir = Annotated[
    Path | None, typer.Option(help="Run directory; by default one under runs/ that is named after the settings.")
]
Workers = Annotated[
    int | None, typer.Option(help="Processes; one per core (at most 8) if left out, 1 on a GPU.", min=1)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, say what is to be done, do nothing.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting, e.g. --set forget.classes='[\"sandal\"]' --set seeds=5; may be repeated."),
]


def parse(pairs):
    r"""``["seeds=5", "arch=resnet18"]`` to ``{"seeds": 5, "arch": "resnet18"}``: Python literals, else text."""
    out = {}
    for pair in pairs or ():
        name, equals, text = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set {pair!r} has no '=': write --set name=value")
        try:
            out[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            out[name] = text
    return out


def experiment(profile, seed, run_dir, pairs, usual=None):
    r"""A run; a wrong setting is refused before torch is imported, which takes seconds."""
    from megu.settings.profiles import resolve

    values = {**(usual or {}), **parse(pairs)}
    resolve(profile, seed, values)
    from megu.runs.experiment import Experiment

    return Experiment(profile, seed, run_dir, values)


def one_voice():
    r"""``typer.echo`` in the first of several processes that train together; the others say nothing."""
    if int(os.environ.get("RANK", 0)):
        os.environ["TQDM_DISABLE"] = "1"  # one bar is enough; read when tqdm is imported
        return lambda _: None
    return typer.echo
