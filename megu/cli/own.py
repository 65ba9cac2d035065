r"""The commands for a classifier of the user's own, and for one that a run made: ``megu unlearn | report | export``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from megu.cli.options import DryRun, Out, OutOrNone, Set, option, parse
from megu.settings.errors import SettingsError
from megu.settings.files import writing

EXAMPLES = """Make a copy of your own classifier forget, and write a report of what was done and what can still be seen.

\b
Your images lie in one folder per class, perhaps with unseen ones beside them: photos/train/rocket/1.jpg, ....
  megu unlearn --model model.safetensors --arch resnet18 --data photos/ --forget rocket --dry-run
  megu unlearn --model model.safetensors --arch resnet18 --data photos/ --forget rocket --out forgotten/
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
    model: option(Path, "Weights as .safetensors (nothing else is opened)."),
    arch: option(str, "A torchvision classifier, one of ours, or module:function of your own."),
    data: option(Path, "Folder of the training images by class, or with train/ and test/ in it."),
    forget: option(list[str] | None, "Class or class/sub-class to forget; may be repeated.") = None,
    forget_list: option(
        Path | None, "Text file of single images to forget instead: a file name or position a line."
    ) = None,
    out: OutOrNone = None,
    test: option(Path | None, "Folder of unseen images by class, where it is not data/test.") = None,
    reference: option(Path | None, "Weights of a model retrained without the forget images, if there are any.") = None,
    classes: option(Path | None, "Text file: class names in the order of the model's outputs, one a line.") = None,
    method: option(str, "See `megu.methods.METHODS`.") = "megu",
    guide: option(str | None, "A guide.source, `model` (its own features), or a .csv or .npy matrix.") = None,
    normalise: option(str, "What the model expects: imagenet, unit, half, cifar100 or data.") = "imagenet",
    size: option(int | None, "Pixels that images are resized to; their own, or 224, if left out.") = None,
    retain_images: option(int | None, "Retain images to fine-tune on, at most.", min=1) = None,
    trained_on: option(int | None, "Images that the model was trained on, where data is a sample.", min=1) = None,
    seed: option(int, "Of everything random.", min=0) = 0,
    set: Set = None,
    dry_run: DryRun = False,
):
    """Unlearn with a classifier and images of the user's own."""
    from megu.own.estimate import estimate
    from megu.own.request import CheckedRequest, Request
    from megu.own.unlearn import carry_out

    if bool(forget) == bool(forget_list) or (out is None and not dry_run):
        raise SettingsError("give --forget or --forget-list (one of them), and --out FOLDER (or --dry-run)")
    request = Request(
        model=model,
        data=data,
        forget=forget_list or forget,
        arch=arch,
        test=test,
        classes=classes,
        guide=guide,
        method=method,
        seed=seed,
        reference=reference,
        normalise=normalise,
        size=size,
        retain_images=retain_images,
        trained_on=trained_on,
        settings=parse(set),
    )
    checked = CheckedRequest(request)
    typer.echo(estimate(checked))
    if not dry_run:
        done = carry_out(checked, out)
        verdict = done.report["verdict"]
        typer.echo(f"verdict  {verdict['word']}: {verdict['findings'][0]}\nrule     {verdict['rule']}")
        typer.echo(f"written  model.safetensors, report.html, report.json in {os.path.relpath(out)}")


def report(folder: Annotated[Path, typer.Argument(help="Folder that `unlearn` wrote, or its report.json.")]):
    """Write the HTML of a deletion report again from its JSON."""
    from megu.own.report import read, write_html

    typer.echo(f"written  {os.path.relpath(write_html(read(folder), folder if folder.is_dir() else folder.parent))}")


def export(
    run_dir: Annotated[Path, typer.Argument(help="Run directory.")],
    method: Annotated[str, typer.Argument(help="Name of the method, original and retrain among them.")],
    seed: Annotated[int, typer.Argument(help="Seed of pre-training.", min=0)],
    out: Out,
    push: option(str | None, "Send it to the hub as owner/name, too (log in by `hf auth login` first).") = None,
    public: option(bool, "Let everyone see it on the hub.", "--public") = False,
):
    """Write a model of a run as a checkpoint that others can load: `megu.own.checkpoint.Checkpoint.from_pretrained`."""
    from megu.own.checkpoint import CONFIG, WEIGHTS
    from megu.own.export import export as export_model

    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise SettingsError(f"--out {out.name!r} is not empty: name a new folder")
    made = export_model(run_dir, method, seed)
    with writing(out):
        made.save_pretrained(out)
    typer.echo(f"written  {WEIGHTS}, {CONFIG}, README.md in {os.path.relpath(out)}")
    if push:
        try:
            url = made.push_to_hub(push, private=not public, commit_message=f"{method}, seed {seed}")
        except Exception as error:  # of the hub, of the login, or of whichever client reaches the network
            why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}"
            raise SettingsError(
                f"{push!r} was not sent ({why}): check name, login and network; the folder is written"
            ) from None
        typer.echo(f"sent     {url}")
