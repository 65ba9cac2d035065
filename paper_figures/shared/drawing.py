r"""What every script here does: read tidy tables from one folder, write figures and tables into another."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from megu.methods import METHODS

HERE = Path(__file__).parents[1]
TITLES = {name: entry.title for name, entry in METHODS.items()}
OF_STUDIES = {"comparison.csv", "ablation.csv", "disentanglement_all.csv", "truth_recovery.csv", "cost.csv"}
OF_STUDIES |= {"ablation_cifar100.csv", "mechanism.csv", "overview.csv", "overview_image.csv"}  # nor of every run


def folders() -> tuple[Path, Path]:
    r"""(data, out): the first two arguments of the command line, by default the tracked data/ and out/; out is made.

    Raises: SystemExit where there is no such folder of data.
    """
    given = [Path(argument) for argument in sys.argv[1:]]
    data, out = [*given, *(HERE / "data", HERE / "out")[len(given) :]][:2]
    if not data.is_dir():
        raise SystemExit(
            f"{data.name!r} is no folder: give one with tidy tables, as `python paper_figures/collect.py RUN_DIR"
            " FOLDER` writes them"
        )
    out.mkdir(parents=True, exist_ok=True)
    return data, out


def read(data: Path, name: str) -> pd.DataFrame:
    r"""The tidy table of this name."""
    return pd.read_csv(data / f"{name}.csv")


def source(data: Path, name: str = "source") -> dict:
    r"""What is known of where tables are from; ``seeds`` also in words."""
    about = json.loads((data / f"{name}.json").read_text())
    return about | {"numbers": ", ".join(map(str, about["seeds"]))}


def request(about: dict, *more: str) -> str:
    r"""What was made with which seeds, ``more``, and where, from a `source` that says what is forgotten."""
    forget, scenario = about["forget"], about["forget"]["scenario"]
    classes = f"{scenario}-wise forgetting of {', '.join(forget['classes'])}"
    what = f"forgetting of {forget['count']} random images" if scenario == "random" else classes
    repeats = f" of pre-training x {about['repeats']} of unlearning" if about.get("repeats", 1) > 1 else ""
    parts = [f"profile {about['profile']}", what, f"seeds {about['numbers']}{repeats}", *more]
    return ", ".join([*parts, about["device"], f"torch {about['torch']}"])


def grids(data: Path) -> list[str]:
    r"""Profiles that have a grid in ``data``, but for *fast*: of one cell, see `shared.cifar100`."""
    found = (path.stem.removeprefix("grid_").removesuffix("_seconds") for path in data.glob("grid_*_seconds.csv"))
    return sorted(set(found) - {"fast"})


def write(out: Path, name: str, made):
    r"""A figure as PNG, text as Markdown, a DataFrame as CSV, the parts of a tuple, those of a dictionary under its
    keys."""
    if isinstance(made, dict):
        for key, part in made.items():
            write(out, f"{name}_{key}", part)
    elif isinstance(made, tuple):
        for part in made:
            write(out, name, part)
    else:
        path = out / f"{name}{'.md' if isinstance(made, str) else '.csv' if isinstance(made, pd.DataFrame) else '.png'}"
        if path.suffix == ".md":
            path.write_text(made)
        elif path.suffix == ".csv":
            made.to_csv(path, index=False, float_format="%.6g")
        else:
            made.savefig(path, dpi=150, metadata={"Software": None})
        print(path)


def main(**outputs: Callable[[Path], object]):
    r"""Make each output from the folder of tidy tables and write it under its name; what needs a study's table is left
    out where there is none.

    Raises: SystemExit naming a table of a run that is missing.
    """
    data, out = folders()
    for name, make in outputs.items():
        try:
            write(out, name, make(data))
        except FileNotFoundError as error:
            if (table := Path(error.filename).name) not in OF_STUDIES:
                raise SystemExit(
                    f"{table} is not in {data.name!r}: `python paper_figures/collect.py RUN_DIR FOLDER` writes it"
                ) from None
