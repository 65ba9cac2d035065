r"""Options that several commands of the command line share."""

import ast
from pathlib import Path
from typing import Annotated

import typer

from megu.settings.errors import SettingsError

Profile = Annotated[str, typer.Option(help="quick (embedded data, CPU), small (CIFAR-10) or paper (CIFAR-100).")]
Seed = Annotated[int, typer.Option(help="First seed; the repetitions use seed, seed + 1, ...")]
RunDir = Annotated[
    Path | None, typer.Option(help="Run directory; by default one under runs/ that is named after the settings.")
]
Workers = Annotated[
    int | None, typer.Option(help="Processes; one per core (at most 8) if left out, 1 on a GPU.", min=1)
]
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
