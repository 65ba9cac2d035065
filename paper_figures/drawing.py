r"""What every script here does: read tidy data from one folder, write one file into another."""

import sys
from pathlib import Path

HERE = Path(__file__).parent


def folders():
    r"""(data, out): the first two arguments of the command line, by default the tracked data/ and out/; out is made."""
    given = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("--")]
    data, out = [*given, *(HERE / "data", HERE / "out")[len(given) :]]
    out.mkdir(parents=True, exist_ok=True)
    return data, out


def main(draw, name):
    r"""Draw a figure from the data and write it as PNG."""
    data, out = folders()
    draw(data).savefig(out / f"{name}.png", dpi=150, metadata={"Software": None})
    print(out / f"{name}.png")
