r"""The command line: ``python -m megu run | guide | tune | compare | ablate | unlearn | report``."""

import ast
import os
from pathlib import Path
from typing import Annotated

import typer

from megu.config import SettingsError

app = typer.Typer(help="Machine unlearning guided by a multimodal model (MeGU, arXiv 2602.17088).", no_args_is_help=True, pretty_exceptions_enable=False)

Profile = Annotated[str, typer.Option(help="quick (embedded data, CPU), small (CIFAR-10) or paper (CIFAR-100).")]
Seed = Annotated[int, typer.Option(help="First seed; the repetitions use seed, seed + 1, ...")]
RunDir = Annotated[Path | None, typer.Option(help="Run directory; by default one under runs/ that is named after the settings.")]
Workers = Annotated[int | None, typer.Option(help="Processes; one per core (at most 8) if left out, 1 on a GPU.", min=1)]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting, e.g. --set forget.classes='[\"sandal\"]' --set seeds=5; may be repeated.")]


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


def _experiment(profile, seed, run_dir, pairs, usual=None):
    from megu.experiment import Experiment  # noqa: PLC0415  (torch takes seconds; --help must not)

    return Experiment(profile, seed, run_dir, {**(usual or {}), **parse(pairs)})


@app.command()
def run(profile: Profile = "quick", seed: Seed = 0, run_dir: RunDir = None, set: Set = None):
    """Run notebooks 00-05 and print where the results are.  Repeat it after an interrupt: it goes on."""
    from megu.batch import build_figures, run_notebooks  # noqa: PLC0415

    lab = _experiment(profile, seed, run_dir, set)
    run_notebooks(lab, say=typer.echo)
    build_figures(lab.run, say=typer.echo)
    typer.echo(f"results: {os.path.relpath(lab.run.path)}/summary.csv; executed notebooks: {os.path.relpath(lab.run.path)}/notebooks")


@app.command()
def guide(
    out: Annotated[Path, typer.Option(help="JSON lines file that the answers are added to.")],
    source: Annotated[str, typer.Option(help="composed, features, names, clip, mllm or served.")] = "composed",
    exemplars: Annotated[int | None, typer.Option(help="Exemplars of each class.", min=1)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask nothing: print how many questions are open, and how long their text is.")] = False,
    write_batch: Annotated[Path | None, typer.Option(help="Ask nothing: write the questions as an OpenAI batch file.")] = None,
    read_batch: Annotated[Path | None, typer.Option(help="Put the replies of such a batch into the answers.")] = None,
    profile: Profile = "quick",
    set: Set = None,
):
    """Ask a guide about the exemplars of a data set and keep the answers.  Repeat it after an interrupt: it goes on."""
    from megu import guide as guides  # noqa: PLC0415

    values = {"guide.source": source, "guide.answers": str(out)} | ({"guide.exemplars": exemplars} if exemplars else {})
    lab = _experiment(profile, 0, None, set, values)
    if not (dry_run or write_batch or read_batch):
        return typer.echo(lab.ask_guide()[2])
    asked, questions = lab.questions()
    book = guides.Book(out)
    if read_batch:
        kept, lost = guides.read_batch(asked, questions, read_batch, book)
        typer.echo(f"{kept} answers put in, {lost} lines were none")
    still_open = [question for question in questions if question.key(asked) not in book.answers]
    if write_batch:
        guides.write_batch(asked, still_open, write_batch)
    images = sum(1 + len(question.shots) for question in still_open)
    typer.echo(
        f"{len(still_open)} of {len(questions)} questions are open: {images} images, {still_open and len(str(guides.conversation(still_open[0])[0]))} "
        "characters of text each"
    )


@app.command()
def tune(
    out: Annotated[Path, typer.Option(help="CSV file for the trials.")],
    method: Annotated[list[str] | None, typer.Option(help="A method to tune; may be repeated.  All that can be, if left out.")] = None,
    trials: Annotated[int, typer.Option(help="Trials of each method.", min=1)] = 20,
    profile: Profile = "quick",
    run_dir: RunDir = None,
    workers: Workers = None,
    set: Set = None,
):
    """Choose learning rates, noise weights and the like on validation images (class-wise forgetting)."""
    from megu.tune import tune as search  # noqa: PLC0415
    from megu.workers import share  # noqa: PLC0415

    workers, usual = share(workers)
    table = search(profile, trials=trials, methods=method, overrides={**usual, **parse(set)}, run_dir=run_dir, workers=workers)
    table.to_csv(out, index=False)
    typer.echo(table[table["chosen"]].to_string(index=False))


@app.command()
def compare(
    out: Annotated[Path, typer.Option(help="Folder for the tidy tables.")],
    scenario: Annotated[list[str] | None, typer.Option(help="class, subclass or random; may be repeated.  All, if left out.")] = None,
    seeds: Annotated[int, typer.Option(help="Seeds of pre-training.", min=1)] = 3,
    repeats: Annotated[int, typer.Option(help="Seeds of unlearning for each of them.", min=1)] = 3,
    shadows: Annotated[int, typer.Option(help="Shadow models of the likelihood-ratio attack; 0 for none.", min=0)] = 8,
    profile: Profile = "quick",
    workers: Workers = None,
    set: Set = None,
):
    """Every method against the true retrain.  Repeat it after an interrupt: it goes on."""
    from megu.comparison import ANY, compare_all  # noqa: PLC0415

    compare_all(out, profile, scenario or ANY, typer.echo, workers, seeds=seeds, repeats=repeats, shadows=shadows, overrides=parse(set))


@app.command()
def ablate(
    out: Annotated[Path, typer.Option(help="Folder for the tidy table.")],
    profile: Profile = "quick",
    seed: Seed = 0,
    run_dir: RunDir = None,
    workers: Workers = None,
    set: Set = None,
):
    """MeGU's open points changed one at a time.  Repeat it after an interrupt: it goes on."""
    from megu.ablation import ablate_all  # noqa: PLC0415
    from megu.workers import share  # noqa: PLC0415

    workers, usual = share(workers)
    ablate_all(_experiment(profile, seed, run_dir, set, usual), out, workers)


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

Repeat the command after an interrupt: it goes on.  The model file is read, never written."""


@app.command(help=EXAMPLES)
def unlearn(
    model: Annotated[Path, typer.Option(help="Weights as .safetensors (nothing else is opened).")],
    arch: Annotated[str, typer.Option(help="A torchvision classifier, one of ours, or module:function of your own.")],
    data: Annotated[Path, typer.Option(help="Folder of the training images by class, or with train/ and test/ in it.")],
    forget: Annotated[list[str] | None, typer.Option(help="Class or class/sub-class to forget; may be repeated.")] = None,
    forget_list: Annotated[Path | None, typer.Option(help="Text file of single images to forget instead: a file name or position a line.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the new model and the report.")] = None,
    test: Annotated[Path | None, typer.Option(help="Folder of unseen images by class, where it is not data/test.")] = None,
    reference: Annotated[Path | None, typer.Option(help="Weights of a model retrained without the forget images, if there are any.")] = None,
    classes: Annotated[Path | None, typer.Option(help="Text file: class names in the order of the model's outputs, one a line.")] = None,
    method: Annotated[str, typer.Option(help="See `megu.methods.METHODS`.")] = "megu",
    guide: Annotated[str | None, typer.Option(help="composed, features, names, clip, mllm, served, model, or a .csv/.npy matrix.")] = None,
    normalise: Annotated[str, typer.Option(help="What the model expects: imagenet, unit, half or data.")] = "imagenet",
    size: Annotated[int | None, typer.Option(help="Pixels that images are resized to; their own, or 224, if left out.")] = None,
    retain_images: Annotated[int | None, typer.Option(help="Retain images to fine-tune on, at most.", min=1)] = None,
    trained_on: Annotated[int | None, typer.Option(help="Images that the model was trained on, where data is a sample.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 0,
    set: Set = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, print the plan and an estimate of the time, do nothing.")] = False,
):
    """Unlearn with a classifier and images of the user's own."""
    from megu.ownmodel import from_file  # noqa: PLC0415
    from megu.plan import prepare, read_names  # noqa: PLC0415
    from megu.unlearning import carry_out  # noqa: PLC0415

    if bool(forget) == bool(forget_list) or (out is None and not dry_run):
        raise SettingsError("give --forget or --forget-list (one of them), and --out FOLDER (or --dry-run)")
    ready = prepare(
        from_file(model, arch), data, forget_list or forget, test=test, classes=classes and read_names(classes), subclasses=None, guide=guide, method=method,
        seed=seed, reference=reference and from_file(reference, arch), normalise=normalise, size=size, retain_images=retain_images, trained_on=trained_on,
        settings=parse(set),
    )  # fmt: skip
    typer.echo("\n".join(ready.plan.lines))
    if not dry_run:
        done = carry_out(ready, out)
        typer.echo(f"verdict  {done.report['verdict']['word']}: {done.report['verdict']['findings'][0]}")
        typer.echo(f"written  model.safetensors, report.html, report.json in {os.path.relpath(out)}")


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="Folder that `unlearn` wrote, or its report.json.")]):
    """Write the HTML of a deletion report again from its JSON."""
    from megu.report import read, write_html  # noqa: PLC0415

    typer.echo(f"written  {os.path.relpath(write_html(read(folder), folder if folder.is_dir() else folder.parent))}")


def main():
    r"""Run the command line; errors that are meant for people are one line and exit code 2."""
    from megu.batch import NotebookError  # noqa: PLC0415
    from megu.guide import AnswersMissingError, GuideUnavailableError  # noqa: PLC0415
    from megu.store import StageError  # noqa: PLC0415
    from megu.train import DivergedError  # noqa: PLC0415
    from megu.workers import WorkError  # noqa: PLC0415

    try:
        app()
    except (SettingsError, StageError, NotebookError, GuideUnavailableError, AnswersMissingError, DivergedError, WorkError) as error:
        typer.echo(f"megu: {error}", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
