r"""What every script here does: read tidy data from one folder, write one file into another."""

import sys
from pathlib import Path

import pandas as pd

from megu.methods import METHODS

HERE = Path(__file__).parent


def folders():
    r"""(data, out): the first two arguments of the command line, by default the tracked data/ and out/; out is made."""
    given = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("--")]
    data, out = [*given, *(HERE / "data", HERE / "out")[len(given) :]]
    out.mkdir(parents=True, exist_ok=True)
    return data, out


def asked(data):
    r"""Name of the class whose entanglement is shown: the first of maps.csv."""
    return pd.read_csv(data / "maps.csv")["row"].iloc[0].rpartition(" ")[0]


def registry(data):
    r"""(disentanglement scores, titles of their methods in order): of every method where they are there, else of a run's own."""
    table = pd.read_csv(next(path for path in (data / "disentanglement_all.csv", data / "disentanglement.csv") if path.exists()))
    titles = {name: entry.title for name, entry in METHODS.items()} | {
        "megu, pos noise": "MeGU, positive noise alone", "megu, neg noise": "MeGU, negative noise alone", "megu, random noise": "MeGU, noise shuffled",
    }  # fmt: skip
    return table, titles


def grids(data):
    r"""Profiles that have a grid in ``data``."""
    return sorted(path.stem.removeprefix("grid_").removesuffix("_seconds") for path in data.glob("grid_*_seconds.csv"))


def main(draw, name):
    r"""Draw a figure from the data and write it as PNG."""
    data, out = folders()
    draw(data).savefig(out / f"{name}.png", dpi=150, metadata={"Software": None})
    print(out / f"{name}.png")
