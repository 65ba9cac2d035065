r"""The commands for a classifier and images of the user's own: ``python -m megu unlearn | report``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from megu.cli.options import Set, parse
from megu.settings.errors import SettingsError

EXAMPLES = """Make a copy of your own classifier forget, and write a report of what was done and what can still be seen.

\b
Your images lie in one folder per class, perhaps with unseen ones beside them (photos/train/rocket/*.jpg, photos/test/rocket/*.jpg).
  python -m megu unlearn --model model.safetensors --arch resnet18 --data photos/ --forget rocket --dry-run
  python -m megu unlearn --model model.safetensors --arch resnet18 --data photos/ --forget rocket --out forgotten/
Several classes; a sub-class (a folder below a class's folder); single images, one file name or position a line:
  ... --forget rocket --forget "lawn mower"
  ... --forget tops/shirt
  ... --forget-list images.txt
Another method, another guide, a setting, 8-bit images in [0, 1] without further normalisation:
  ... --method finetune    ... --guide model    ... --set recipe.lr=0.005    ... --normalise unit
A ResNet-18 of weiaicunzai/pytorch-cifar100, its state_dict as .safetensors:
  ... --arch resnet18 --normalise cifar100

Repeat the command after an interrupt: it goes on.  The model file is read, never written."""


def unlearn(
    model: Annotated[Path, typer.Option(help="Weights as .safetensors (nothing else is opened).")],
    arch: Annotated[str, typer.Option(help="A torchvision classifier, one of ours, or module:function of your own.")],
    data: Annotated[Path, typer.Option(help="Folder of the training images by class, or with train/ and test/ in it.")],
    forget: Annotated[
        list[str] | None, typer.Option(help="Class or class/sub-class to forget; may be repeated.")
    ] = None,
    forget_list: Annotated[
        Path | None, typer.Option(help="Text file of single images to forget instead: a file name or position a line.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the new model and the report.")] = None,
    test: Annotated[
        Path | None, typer.Option(help="Folder of unseen images by class, where it is not data/test.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Weights of a model retrained without the forget images, if there are any.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Text file: class names in the order of the model's outputs, one a line.")
    ] = None,
    method: Annotated[str, typer.Option(help="See `megu.methods.METHODS`.")] = "megu",
    guide: Annotated[
        str | None, typer.Option(help="A guide.source, `model` (its own features), or a .csv or .npy matrix.")
    ] = None,
    normalise: Annotated[
        str, typer.Option(help="What the model expects: imagenet, unit, half, cifar100 or data.")
    ] = "imagenet",
    size: Annotated[
        int | None, typer.Option(help="Pixels that images are resized to; their own, or 224, if left out.")
    ] = None,
    retain_images: Annotated[int | None, typer.Option(help="Retain images to fine-tune on, at most.", min=1)] = None,
    trained_on: Annotated[
        int | None, typer.Option(help="Images that the model was trained on, where data is a sample.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 0,
    set: Set = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything, print the plan and an estimate of the time, do nothing."),
    ] = False,
):
    """Unlearn with a classifier and images of the user's own."""
    from megu.core.loading import from_file  # noqa: PLC0415
    from megu.own.plan import prepare, read_names  # noqa: PLC0415
    from megu.own.unlearn import carry_out  # noqa: PLC0415

    if bool(forget) == bool(forget_list) or (out is None and not dry_run):
        raise SettingsError("give --forget or --forget-list (one of them), and --out FOLDER (or --dry-run)")
    ready = prepare(
        from_file(model, arch),
        data,
        forget_list or forget,
        test=test,
        classes=classes and read_names(classes),
        subclasses=None,
        guide=guide,
        method=method,
        seed=seed,
        reference=reference and from_file(reference, arch),
        normalise=normalise,
        size=size,
        retain_images=retain_images,
        trained_on=trained_on,
        settings=parse(set),
    )
    typer.echo("\n".join(ready.plan.lines))
    if not dry_run:
        done = carry_out(ready, out)
        verdict = done.report["verdict"]
        typer.echo(f"verdict  {verdict['word']}: {verdict['findings'][0]}\nrule     {verdict['rule']}")
        typer.echo(f"written  model.safetensors, report.html, report.json in {os.path.relpath(out)}")


def report(folder: Annotated[Path, typer.Argument(help="Folder that `unlearn` wrote, or its report.json.")]):
    """Write the HTML of a deletion report again from its JSON."""
    from megu.own.report import read, write_html  # noqa: PLC0415

    typer.echo(f"written  {os.path.relpath(write_html(read(folder), folder if folder.is_dir() else folder.parent))}")
