r"""``megu compare``."""

import os

import typer

from megu.cli import options
from megu.cli.options import DryRun, option
from megu.settings.known import check_shared

EXAMPLES = """Forget something by every method that fits, side by side, and say which of them to take.

\b
  megu compare --model model.safetensors --arch resnet18 --data photos/ --forget rocket --out compared/
Some methods; a model retrained without what goes; a search of each method's settings; four processes:
  ... --method megu --method finetune    ... --reference retrained.safetensors    ... --tune 10    ... --workers 4
Such a model made here, once for all; the request in a file, which --save-config writes:
  ... --retrain --set training.epochs=20    megu compare --config request.toml
Settings are of guide, training and device; one of a method, as recipe.lr, is for `megu unlearn`.

Repeat the command after an interrupt: it goes on.  Each method's folder is what `megu unlearn` writes."""


def compare(
    model: options.Model = None,
    arch: options.Arch = None,
    data: options.Data = None,
    forget: options.Forget = None,
    forget_list: options.ForgetList = None,
    out: options.OwnOut = None,
    method: option(list[str], "A method, by default all that fit the request") = None,
    tune: options.Tune = None,
    test: options.Test = None,
    reference: options.Reference = None,
    retrain: options.Retrain = False,
    classes: options.Classes = None,
    duplicates: options.Duplicates = None,
    guide: options.Guide = None,
    normalise: options.Normalise = None,
    size: options.Size = None,
    retain_images: options.RetainImages = None,
    trained_on: options.TrainedOn = None,
    seed: options.RequestSeed = None,
    workers: options.OwnWorkers = 1,
    set: options.SharedSet = None,
    config: options.Config = None,
    save_config: options.SaveConfig = None,
    dry_run: DryRun = False,
):
    """Compare the methods on a classifier and images of the user's own."""
    arguments, out = options.arguments(dict(locals()), comparison=True)
    check_shared(arguments.get("settings"))
    from megu.own.compare import check_methods, compare

    methods = arguments.pop("method", None)
    if dry_run:
        checked, names = check_methods(arguments, methods)
        once = f", and once its retraining, {checked.settings.training.epochs} epochs" * checked.request.retrain
        work = f"{len(names)} x {1 + checked.request.tune} times an unlearning{once}"
        return typer.echo(f"methods  {', '.join(names)}\nwork     {work}")
    found = compare(**arguments, out=out, methods=methods, workers=workers)
    for name, why in found.failed.items():
        typer.echo(f"failed   {name}: {why}", err=True)
    typer.echo(f"take     {found.recommended}\n" + "\n".join(f"why      {reason}" for reason in found.reasons))
    typer.echo(f"written  comparison.html, comparison.csv and a folder of each method in {os.path.relpath(out)}")
