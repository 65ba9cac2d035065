r"""Commands ``megu run | unlearn | compare | report | study | guide | cost | tune | pretrain | export | crate``."""

import os
import sys
from itertools import pairwise
from pathlib import Path

import typer
from typer.core import TyperGroup

from megu.cli import compare, cost, crate, guide, options, study
from megu.cli.options import DryRun, Out, Profile, RunDir, Seed, Set, Workers, argument, one_voice, option, parse, write
from megu.settings.errors import MeguError, SettingsError
from megu.settings.extras import ONNX, check_extra
from megu.settings.files import shipped, writing
from megu.settings.progress import watching

RENAMED = {
    "ablate": "study ablation", "disentangle": "study disentanglement",
    "grid": "study paper", "truth": "study recovery", "answers": "guide answers", "rehearse": "cost rehearse",
}  # fmt: skip
SEVERAL = """Make the originals and retrained models of a run, with one process or several; repeat it to go on.

\b
  megu pretrain --profile paper --set seeds=3
  accelerate launch --num_processes 4 -m megu pretrain --profile paper --set arch=vit-b16
  torchrun --nproc_per_node 4 -m megu pretrain --profile paper --set arch=vit-b16"""
EXAMPLES = """Make a copy of your own classifier forget, and report what was done and what can still be seen.

\b
One folder of images per class, perhaps with unseen ones beside them: photos/train/rocket/1.jpg, ....
  megu unlearn --model model.safetensors --arch resnet18 --data photos/ --forget rocket --dry-run
  ... --forget rocket --out forgotten/
Without unseen images no attack is measured; a reference, retrained without what goes, gives the verdict its measure:
  ... --test unseen/    ... --retrain --set training.epochs=20    ... --reference retrained.safetensors
Several classes; a sub-class (a folder in a class's folder); single images, one file name or position a line:
  ... --forget rocket --forget "lawn mower"    ... --forget tops/shirt    ... --forget-list images.txt
Another method, guide or setting; 8-bit images in [0, 1] without further normalisation:
  ... --method finetune    ... --guide model    ... --set recipe.lr=0.01    ... --normalise unit
A search of the settings on training images, 20 times as long; which method to take: megu compare --help
  ... --tune 20
A ResNet-18 of weiaicunzai/pytorch-cifar100, its state_dict as .safetensors:
  ... --arch resnet18 --normalise cifar100
All of it from a file, which --save-config writes: model = "model.safetensors", forget = ["rocket"], ...
  megu unlearn --config request.toml    ... --config request.toml --seed 1 --out again/

Repeat the command after an interrupt: it goes on.  The model file is read, never written."""


class Commands(TyperGroup):
    """Commands; an old name says the new one, and an option that takes one value is given once, and no empty one."""

    def resolve_command(self, context, words):
        """Raises: SettingsError for words of an earlier version, an empty value, and one that would replace another."""
        name, option = (*words, "")[:2]
        renamed = dict(RENAMED)
        if option.startswith("-") and option != "--help":  # these were commands and are groups now
            renamed |= {"guide": "guide ask", "cost": "cost measure" if "--out" in words else "cost predict"}
        if new := renamed.get(name):
            raise SettingsError(f"`megu {name}` is now `megu {new}`: see `megu {new} --help`")
        found, given = super().resolve_command(context, words), {}
        for word, after in pairwise([*words, ""]):
            flag, equals, value = word.partition("=")
            given.setdefault(flag, []).append(value if equals else after)
        for one in found[1].params:  # of a number the last counts, as usual
            values = given.get(one.opts[0], []) if one.opts[0].startswith("-") else []
            if "" in values and not one.is_flag:
                raise SettingsError(f"{one.opts[0]} is empty: give a value (is a variable unset?), or leave it out")
            if len(values) > 1 and not (one.multiple or one.is_flag or all(map(str.isdecimal, values))):
                what = f"{one.opts[0]} is given {len(values)} times ({', '.join(values)[:100]})"
                raise SettingsError(f"{what}, and takes one value: give it once")
        return found


ABOUT = "Machine unlearning guided by a multimodal model (MeGU, arXiv 2602.17088)."
app = typer.Typer(cls=Commands, help=ABOUT, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(study.app, name="study")
app.add_typer(guide.app, name="guide")
app.add_typer(cost.app, name="cost")
app.command(help=compare.EXAMPLES)(compare.compare)
app.command()(crate.crate)


@app.command()
def run(profile: Profile = "quick", seed: Seed = 0, run_dir: RunDir = None, set: Set = None):
    """Run notebooks 00-05 and print where the results are.  Repeat it after an interrupt: it goes on."""
    from megu.runs import notebooks
    from megu.settings.profiles import check_used, resolve

    # What is missing or wrong is said before a run directory is made and torch imported.
    shipped("notebooks")
    check_used(resolve(profile, seed, values := parse(set)), values)
    from megu.runs.experiment import Experiment

    made = Experiment(profile, seed, run_dir, values)
    notebooks.run_notebooks(made, say=typer.echo)
    notebooks.build_figures(made.run, say=typer.echo)
    path = os.path.relpath(made.run.path)
    typer.echo(f"results: {path}/summary.csv; executed notebooks: {path}/notebooks")


@app.command(help=EXAMPLES)
def unlearn(
    model: options.Model = None,
    arch: options.Arch = None,
    data: options.Data = None,
    forget: options.Forget = None,
    forget_list: options.ForgetList = None,
    out: options.OwnOut = None,
    test: options.Test = None,
    reference: options.Reference = None,
    retrain: options.Retrain = False,
    classes: options.Classes = None,
    duplicates: options.Duplicates = None,
    method: options.Method = None,
    guide: options.Guide = None,
    normalise: options.Normalise = None,
    size: options.Size = None,
    retain_images: options.RetainImages = None,
    trained_on: options.TrainedOn = None,
    tune: options.Tune = None,
    seed: options.RequestSeed = None,
    set: options.OwnSet = None,
    config: options.Config = None,
    save_config: options.SaveConfig = None,
    log: option(str, "csv (default: log.csv in --out), tensorboard, wandb or mlflow.") = None,
    onnx: options.Onnx = False,
    check: options.Check = None,
    dry_run: DryRun = False,
):
    """Unlearn with a classifier and images of the user's own."""
    if onnx and not check:
        check_extra("onnx", *ONNX)
    arguments, out = options.arguments(dict(locals()))
    from megu.runs.loggers import loggers

    watchers = [] if dry_run else loggers(log, out)  # a wrong one is said before torch is imported
    from megu.own.request import CheckedRequest, Request

    checked = CheckedRequest(Request.of(arguments))
    if check:
        from megu.own.report import recheck

        verdict = recheck(checked, check, None if dry_run else out)["verdict"]
        return typer.echo(f"verdict  {verdict['word']}\n" + "\n".join(f"why      {one}" for one in verdict["findings"]))
    from megu.own.estimate import plan

    typer.echo(plan(checked, out))
    if tune:
        typer.echo(f"search   {tune} trials before it, each about as long as its training: {tune} times more")
    if not dry_run:
        from megu.own.unlearn import carry_out

        with watching(watchers):
            result = carry_out(checked, out)
        verdict = result.report["verdict"]
        rule = verdict["rule"].replace("\n", "\n         ")
        typer.echo(f"verdict  {verdict['word']}: {verdict['findings'][0]}\nrule     {rule}")
        typer.echo(f"written  model.safetensors, report.html, report.json, SHA256SUMS in {os.path.relpath(out)}")
        typer.echo("keep     work/ in it is for going on: it holds what the models say of the forgotten images")
        if onnx:
            off = result.write_onnx(out / "model.onnx")
            typer.echo(f"written  model.onnx, within {off:.1g} of it by onnxruntime; it takes what the model takes")


@app.command()
def report(folder: argument(Path, "Folder that megu unlearn wrote, or its report.json.")):
    """Write the HTML of a deletion report again from its JSON."""
    from megu.own.report import write_again

    typer.echo(f"written  {os.path.relpath(write_again(folder))}")


@app.command()
def tune(
    out: Out,
    method: option(list[str], "A method to tune, by default all that can be") = None,
    trials: option(int, "Trials of each method.", min=1) = 20,
    profile: Profile = "quick",
    run_dir: RunDir = None,
    workers: Workers = None,
    set: Set = None,
):
    """Choose learning rates, lambda and the like on validation images (class-wise forgetting): tuning.csv.

    Of the models of `megu run`; for one of your own: `megu unlearn --tune`."""
    from megu.runs.tune import tune

    table = tune(profile, trials=trials, methods=method, overrides=parse(set), run_dir=run_dir, workers=workers)
    write(table, out, "tuning.csv", float_format=None)
    typer.echo(table[table["chosen"]].to_string(index=False))


@app.command(help=SEVERAL)
def pretrain(profile: Profile = "quick", seed: Seed = 0, run_dir: RunDir = None, set: Set = None):
    """Make the originals and retrained models of a run."""
    say = one_voice()
    from megu.runs.pretrain import pretrain

    if made := pretrain(profile, seed, run_dir, parse(set), say):
        say(f"models: {os.path.relpath(made.run.path)}/models")


@app.command()
def export(
    run_dir: argument(Path, "Run directory."),
    method: argument(str, "Name of the method, original and retrain among them."),
    seed: argument(int, "Seed of pre-training.", min=0),
    out: Out,
    push: option(str, "Send it to the hub as owner/name, too, after hf auth login.") = None,
    public: option(bool, "Let everyone see it on the hub.", "--public") = False,
    onnx: options.Onnx = False,
):
    """Write a model of a run for others: `megu.own.checkpoint.Checkpoint.from_pretrained`."""
    if onnx:
        check_extra("onnx", *ONNX)
    from megu.cli.export import export
    from megu.core.onnx import write_onnx
    from megu.own.checkpoint import CONFIG, WEIGHTS

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(f"--out {out.name!r} is not empty: name a new folder")
    made = export(run_dir, method, seed)
    with writing(out):
        made.save_pretrained(out)
    typer.echo(f"written  {WEIGHTS}, {CONFIG}, README.md in {os.path.relpath(out)}")
    if onnx:
        off = write_onnx(made, made.about.shape, out / "model.onnx")
        typer.echo(f"written  model.onnx, within {off:.1g} of it by onnxruntime; it takes images in [0, 1]")
    if push:
        try:
            url = made.push_to_hub(push, private=not public, commit_message=f"{method}, seed {seed}")
        except Exception as error:  # of the hub, the login, or whichever client reaches the network
            why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}"
            raise SettingsError(f"{push!r} was not sent ({why}): check name, login and network") from None
        typer.echo(f"sent     {url}")


def main():
    r"""Run the command line; errors for people are one line and exit code 2."""
    getattr(sys.stdout, "reconfigure", dict)(errors="backslashreplace")  # class names may have letters it lacks
    try:
        app()
    except MeguError as error:
        typer.echo(f"megu: {error}", err=True)
        raise SystemExit(2) from None
    except OSError as error:  # a full disk behind stdout, a path that is too long
        typer.echo(f"megu: {error.strerror or error}: check the paths, the disk and where the output goes", err=True)
        raise SystemExit(2) from None
