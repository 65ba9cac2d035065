r"""The command line: ``megu run | unlearn | report | study | guide | cost | tune | pretrain | export``, or ``python -m
megu``."""

import typer
from typer.core import TyperGroup

from megu.cli import cost, guide, own, run, study
from megu.settings.errors import MeguError, SettingsError

RENAMED = {
    "compare": "study comparison",
    "ablate": "study ablation",
    "disentangle": "study disentanglement",
    "grid": "study paper",
    "truth": "study recovery",
    "answers": "guide answers",
    "rehearse": "cost rehearse",
}


class Commands(TyperGroup):
    """Commands; an old name says the new one."""

    def resolve_command(self, context, words):
        """The command of these words.

        Raises: SettingsError where they are those of an earlier version.
        """
        name, option = words[0], (words[1:] or [""])[0]
        new = RENAMED.get(name)
        if option.startswith("-") and option != "--help":
            if name == "guide":
                new = "guide ask"
            elif name == "cost":
                new = "cost measure" if "--out" in words else "cost predict"
        if new:
            raise SettingsError(f"`megu {name}` is now `megu {new}`: see `megu {new} --help`")
        return super().resolve_command(context, words)


app = typer.Typer(
    cls=Commands,
    help="Machine unlearning guided by a multimodal model (MeGU, arXiv 2602.17088).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(run.run)
app.command(help=own.EXAMPLES)(own.unlearn)
app.command()(own.report)
app.add_typer(study.app, name="study")
app.add_typer(guide.app, name="guide")
app.add_typer(cost.app, name="cost")
app.command()(run.tune)
app.command(help=run.SEVERAL)(run.pretrain)
app.command()(own.export)


def main():
    r"""Run the command line; errors that are meant for people are one line and exit code 2."""
    try:
        app()
    except MeguError as error:
        typer.echo(f"megu: {error}", err=True)
        raise SystemExit(2) from None
