r"""``megu compare``."""

import os
from dataclasses import fields
from pathlib import Path

import typer

from megu.cli.options import DryRun, Out, Set, Workers, option, parse
from megu.settings.errors import SettingsError

EXAMPLES = """Forget something by every method that fits, side by side, and say which of them to take.

\b
  megu compare --model model.safetensors --arch resnet18 --data photos/ --forget rocket --out compared/
Some methods; a model retrained without what goes; a search of each method's settings; four processes:
  ... --method megu --method finetune    ... --reference retrained.safetensors    ... --tune 10    ... --workers 4

Repeat the command after an interrupt: it goes on.  Each method's folder is what `megu unlearn` writes."""


def compare(
    model: option(Path, "Weights as .safetensors (nothing else is opened)."),
    arch: option(str, "As for `megu unlearn`."),
    data: option(Path, "Folder of training images by class, or of train/ and test/."),
    forget: option(list[str], "Class or class/sub-class to forget") = None,
    forget_list: option(Path, "Text file of single images instead: a file name or position a line.") = None,
    out: Out = None,
    method: option(list[str], "A method, by default all that fit the request") = None,
    tune: option(int, "Trials of a search of each method's settings on training images.", min=0) = 0,
    test: option(Path, "Folder of unseen images by class, if not data/test.") = None,
    reference: option(Path, "Weights of a model retrained without what goes.") = None,
    classes: option(Path, "Text file of class names in the order of the outputs, one a line.") = None,
    duplicates: option(str, "Retained images with the pixels of forgotten ones: forget or keep them.") = None,
    guide: option(str, "A guide.source, `model` (its own features), or a .csv or .npy matrix.") = None,
    normalise: option(str, "What the model expects: imagenet, unit, half, cifar100 or data.") = "imagenet",
    size: option(int, "Pixels that images are resized to; else their own, or 224.") = None,
    retain_images: option(int, "Retain images to fine-tune on, at most.", min=1) = None,
    trained_on: option(int, "Images that it was trained on, where data is a sample.", min=1) = None,
    seed: option(int, "Of everything random.", min=0) = 0,
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
    options = {field.name: given[field.name] for field in fields(Request) if field.name in given}
    options.pop("method", None)
    if dry_run:
        _, names = check_methods(Request(**options), method)
        return typer.echo(f"methods  {', '.join(names)}\nwork     {len(names)} x {1 + tune} times an unlearning")
    found = compare(**options, out=out, methods=method, workers=workers)
    for name, why in found.failed.items():
        typer.echo(f"failed   {name}: {why}", err=True)
    typer.echo(f"take     {found.recommended}\n" + "\n".join(f"why      {reason}" for reason in found.reasons))
    typer.echo(f"written  comparison.html, comparison.csv and a folder of each method in {os.path.relpath(out)}")
