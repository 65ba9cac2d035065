r"""What the commands share."""

import ast
import os
from pathlib import Path
from typing import Annotated, get_origin

import typer

from megu.settings.errors import SettingsError
from megu.settings.files import atomic


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
Profile = option(str, "quick (embedded data, CPU), small (CIFAR-10) or paper (CIFAR-100).")
Seed = option(int, "First seed; the repetitions use seed, seed + 1, ...")
Seeds = option(int, "Seeds of pre-training.", min=1)
Repeats = option(int, "Seeds of unlearning for each of them.", min=1)
RunDir = option(Path, "Run directory; by default one under runs/ named after the settings.")
Workers = option(int, "Processes; by default one per GPU, or else per core (at most 8).", min=1)
DryRun = option(bool, "Check everything, say what is to be done, do nothing.", "--dry-run")
Onnx = option(bool, "Write model.onnx, too, checked by onnxruntime (needs the extra onnx).", "--onnx")
Set = option(list[str], "A setting, e.g. --set forget.classes='[\"sandal\"]' --set seeds=5")


def parse(pairs):
    r"""``["seeds=5", "arch=resnet18"]`` to ``{"seeds": 5, "arch": "resnet18"}``: literals or text."""
    out = {}
    for pair in pairs or ():
        name, equals, text = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set {pair!r} has no '=': write --set name=value")
        try:
            out[name] = text and ast.literal_eval(text)
        except (ValueError, SyntaxError):
            out[name] = text
    return out


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
