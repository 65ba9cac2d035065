r"""``megu compare``."""

import os
from dataclasses import fields

import typer

from megu.cli import options
from megu.cli.options import DryRun, Out, Set, Workers, option, parse
from megu.settings.errors import SettingsError

EXAMPLES = """Forget something by every method that fits, side by side, and say which of them to take.

\b
  megu compare --model model.safetensors --arch resnet18 --data photos/ --forget rocket --out compared/
Some methods; a model retrained without what goes; a search of each method's settings; four processes:
  ... --method megu --method finetune    ... --reference retrained.safetensors    ... --tune 10    ... --workers 4

Repeat the command after an interrupt: it goes on.  Each method's folder is what `megu unlearn` writes."""


def compare(
    model: options.Model,
    arch: options.Arch,
    data: options.Data,
    forget: options.Forget = None,
    forget_list: options.ForgetList = None,
    out: Out = None,
    method: option(list[str], "A method, by default all that fit the request") = None,
    tune: option(int, "Trials of a search of each method's settings on training images.", min=0) = 0,
    test: options.Test = None,
    reference: options.Reference = None,
    classes: options.Classes = None,
    duplicates: options.Duplicates = None,
    guide: options.Guide = None,
    normalise: options.Normalise = "imagenet",
    size: options.Size = None,
    retain_images: options.RetainImages = None,
    trained_on: options.TrainedOn = None,
    seed: options.RequestSeed = 0,
    workers: Workers = None,
    set: Set = None,
    dry_run: DryRun = False,
):
    """Compare the methods on a classifier and images of the user's own."""
    given = dict(locals())
    from megu.own.compare import check_methods, compare
    from megu.own.request import Request

    if not (forget or forget_list) or (forget and forget_list) or not (out or dry_run):
        raise SettingsError("give --forget or --forget-list (one of them), and --out FOLDER (or --dry-run)")
    given |= {"forget": forget_list or forget, "settings": parse(set)}
    asked = {field.name: given[field.name] for field in fields(Request) if field.name in given}
    asked.pop("method", None)
    if dry_run:
        _, names = check_methods(Request(**asked), method)
        return typer.echo(f"methods  {', '.join(names)}\nwork     {len(names)} x {1 + tune} times an unlearning")
    found = compare(**asked, out=out, methods=method, workers=workers)
    for name, why in found.failed.items():
        typer.echo(f"failed   {name}: {why}", err=True)
    typer.echo(f"take     {found.recommended}\n" + "\n".join(f"why      {reason}" for reason in found.reasons))
    typer.echo(f"written  comparison.html, comparison.csv and a folder of each method in {os.path.relpath(out)}")
