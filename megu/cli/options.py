r"""What the commands share."""

import ast
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, get_origin

import typer

from megu.datasets.listing import class_names, in_order, read_names
from megu.datasets.table import read_csv
from megu.settings.errors import SettingsError
from megu.settings.files import atomic
from megu.settings.known import check_method, method_names
from megu.settings.machine import check_alone
from megu.settings.place import place
from megu.settings.request_file import RequestFile, request_of
from megu.settings.request_file import write as write_request


def option(kind, help, *names, **more):
    r"""The type of a command's option."""
    help += "; may be repeated." if get_origin(kind) is list else ""
    return Annotated[kind | None, typer.Option(*names, help=help, **more)]


def argument(kind, help, **more):
    r"""The type of a command's argument."""
    return Annotated[kind, typer.Argument(help=help, **more)]


def _folder(path):
    if path and (path.is_file() or path.suffix in (".csv", ".json", ".jsonl", ".parquet")):
        raise SettingsError(f"--out {path.name!r} is a file: name a folder, new or not")
    return path


Out = option(Path, "Folder for what is written.", callback=_folder)
Profile = option(str, "quick (embedded data, CPU), small (CIFAR-10), fast or paper (CIFAR-100).")
Seed = option(int, "First seed; the repetitions use seed, seed + 1, ...")
Seeds = option(int, "Seeds of pre-training.", min=1)
Repeats = option(int, "Seeds of unlearning for each of them.", min=1)
RunDir = option(Path, "Run directory; by default one under runs/ named after the settings.")
Workers = option(int, "Processes; by default one per GPU, or else per core (at most 8).", min=1)
DryRun = option(bool, "Check everything, say what is to be done, do nothing.", "--dry-run")
Onnx = option(bool, "Write model.onnx, too, checked by onnxruntime (needs the extra onnx).", "--onnx")
Set = option(list[str], "A setting, e.g. --set forget.classes='[\"sandal\"]' --set seeds=5")

# Of a request for the user's own model.
OwnOut = option(
    Path,
    "Folder for what is written, new or one to go on in, not among the images; needed, but not with --dry-run.",
    callback=_folder,
)
OwnSet = option(
    list[str],
    "A setting by its own name, without methods.megu. before it: --set recipe.lr=0.01 --set training.epochs=20",
)
SharedSet = option(
    list[str],
    "A setting of guide, training or device: --set training.epochs=20 (one of a method, as recipe.lr, is for unlearn)",
)
OwnWorkers = option(int, "Processes; each of several holds model and images of its own.", min=1)
Tune = option(
    int,
    "Trials of a search of a method's settings, each as long as one unlearning (needs the extra tune; megu tune is"
    " another thing, for the models of megu run).",
    min=0,
)
_METHODS = ", ".join(name for name, reference in method_names().items() if not reference)
Method = option(str, f"One of {_METHODS}; by default megu.")
Check = option(Path, "A new model (.safetensors, the same --arch): train nothing, write the report on it instead.")
Model = option(Path, "Weights as .safetensors (nothing else is opened; of a .pth see megu/own/README.md).")
Arch = option(
    str,
    "Of torchvision (resnet18, efficientnet_b0, ...) or ours, timm:NAME, hf:FOLDER, or file.py:function(num_classes,"
    " in_channels).",
)
Data = option(str, "Folder of training images by class, or of train/ and test/; or a .csv of path, label, split.")
Forget = option(list[str], "Class or class/sub-class to forget, or the file of an image")
ForgetList = option(Path, "File of single images instead: a name or position a line, or .json, .npy.")
Test = option(
    str, "Folder of unseen images by class, or a .csv; else data/test or data/val. Without any, no attack is measured."
)
Reference = option(Path, "Weights of a model retrained without what goes.")
Classes = option(Path, "Class names in the order of the outputs: a text file, one a line, or .json (class_to_idx).")
Duplicates = option(
    str, "Retained images with the pixels of forgotten single ones: forget or keep them; by default they are refused."
)
Guide = option(str, "A guide.source, model (its own features), or a .csv or .npy matrix.")
Normalise = option(str, "imagenet (default), cifar10, cifar100, unit, half, data or 'mean; std'.")
Size = option(int, "Pixels that images are resized to; else their own, or 224.")
RetainImages = option(int, "Retain images to fine-tune on, at most; by default a fifth, at least 1,600.", min=1)
TrainedOn = option(int, "Images that it was trained on, where data is a sample.", min=1)
Retrain = option(bool, "Train that reference here, anew (--set training.epochs=20).", "--retrain")
Config = option(Path, "TOML or YAML file of these options (forget_list for --forget-list); options win.")
SaveConfig = option(Path, "Write the request to a TOML or YAML file, for --config.")
RequestSeed = option(int, "Of everything random, 0 by default.", min=0)


def parse(pairs):
    r"""``["seeds=5", "arch=resnet18"]`` to ``{"seeds": 5, "arch": "resnet18"}``: literals or text."""
    out = {}
    for pair in pairs or ():
        name, equals, text = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set {pair!r} has no '=': write --set name=value")
        value = text
        with suppress(ValueError, SyntaxError):
            value = text and ast.literal_eval(text)
        if out.setdefault(name, value) != value:
            raise SettingsError(f"--set {name} is given twice ({out[name]!r} and {value!r}): give it once")
    return out


def arguments(given, comparison=False):
    r"""(Arguments of a request by a command's options and its ``config``, folder for what is written).

    Raises: SettingsError for what is lacking or wrong, before torch, which takes seconds, is imported.
    """
    check_alone()
    given = {**given, "settings": parse(given["set"])}
    given |= {name: given[name] or None for name in ("settings", "forget", "method", "retrain")}
    request = request_of({name: given[name] for name in RequestFile.model_fields}, given["config"])
    if given.get("check") and (idle := [name for name in ("onnx", "tune", "log", "method") if given.get(name)]):
        raise SettingsError(f"--check trains nothing and writes a report alone: leave --{' and --'.join(idle)} out")
    found, dry = request.arguments(), given["dry_run"]
    names = found.get("method", [])
    for name in [names] if isinstance(names, str) else names:
        check_method(name, method_names())
    needed = ("model", "arch", "data", "forget", *([] if dry else ["out"]))
    if lacking := [name for name in needed if name not in found]:
        hint = "" if dry else ", or --dry-run"
        raise SettingsError(f"no {' and no '.join(lacking)} given: add --{' --'.join(lacking)} (or --config{hint})")
    if isinstance(classes := found.get("classes"), Path):
        class_names(in_order(read_names(classes), "classes"), "classes")
    for images in (found.get("data", ""), found.get("test", "")):
        if images.lower().endswith(".csv") and Path(images).expanduser().is_file():
            read_csv(Path(images).expanduser())
    out = place(found.pop("out", None), found, comparison)
    if given["save_config"]:
        write_request(request, given["save_config"])
    return found, out


def write(table, out, name, float_format="%.6g"):
    r"""Write a DataFrame into the folder ``out``, if any."""
    if out is not None:
        with atomic(out / name) as part:
            table.to_csv(part, index=False, float_format=float_format)


def one_voice():
    r"""``typer.echo`` in the first of several processes; the others say nothing."""
    if int(os.environ.get("RANK", 0)):
        os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported
        return lambda _: None
    return typer.echo
