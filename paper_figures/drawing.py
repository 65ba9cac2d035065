r"""What every script here does: read tidy data from one folder, write one file into another."""

import sys
from pathlib import Path

import pandas as pd

from megu.methods import METHODS

HERE = Path(__file__).parent


def folders():
    r"""(data, out): the first two arguments of the command line, by default the tracked data/ and out/; out is made.

    Raises: SystemExit where there is no such folder of data.
    """
    given = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("--")]
    data, out = [*given, *(HERE / "data", HERE / "out")[len(given) :]][:2]
    if not data.is_dir():
        raise SystemExit(
            f"{data.name!r} is no folder: give one with tidy tables, as `python paper_figures/collect.py RUN_DIR"
            " FOLDER` writes them"
        )
    out.mkdir(parents=True, exist_ok=True)
    return data, out


def asked(data):
    r"""Name of the class whose entanglement is shown: the first of maps.csv."""
    return pd.read_csv(data / "maps.csv")["row"].iloc[0].rpartition(" ")[0]


def layers(data):
    r"""Layers of entanglement.csv, from the image to what the head receives."""
    return list(dict.fromkeys(pd.read_csv(data / "entanglement.csv")["layer"]))


def registry(data):
    r"""(disentanglement scores, titles of their methods in order): of every method where they are there, else of a
    run's own."""
    table = pd.read_csv(
        next(path for path in (data / "disentanglement_all.csv", data / "disentanglement.csv") if path.exists())
    )
    titles = {name: entry.title for name, entry in METHODS.items()} | {
        "megu, pos noise": "MeGU, positive noise alone",
        "megu, neg noise": "MeGU, negative noise alone",
        "megu, random noise": "MeGU, noise shuffled",
    }
    return table, titles


def grids(data):
    r"""Profiles that have a grid in ``data``."""
    return sorted(path.stem.removeprefix("grid_").removesuffix("_seconds") for path in data.glob("grid_*_seconds.csv"))


def main(draw, name):
    r"""Draw a figure from the data and write it as PNG.  Raises: SystemExit naming the table that is missing."""
    data, out = folders()
    try:
        figure = draw(data)
    except FileNotFoundError as error:
        raise SystemExit(
            f"{Path(error.filename).name} is not in {data.name!r}: `python paper_figures/collect.py RUN_DIR FOLDER`"
            " writes it"
        ) from None
    figure.savefig(out / f"{name}.png", dpi=150, metadata={"Software": None})
    print(out / f"{name}.png")
