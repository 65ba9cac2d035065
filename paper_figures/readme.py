r"""Writes every generated span of README.md, or of the documents that are named, from the tracked tables.

A document says ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` where the text of `SPANS` belongs.
"""

import sys
from functools import partial
from pathlib import Path

import ablation
import comparison
import disentanglement
import table1_results
import table1_to_8_paper
from shared.drawing import HERE

from megu.figures.markdown import fill

SPANS = {  # name -> function of the folder of tidy tables
    "results": table1_results.table,
    "comparison": comparison.tables,
    "ablation": ablation.table,
    "disentanglement": disentanglement.table,
    "grid": table1_to_8_paper.tow,
}


def filled(text: str, data: Path = HERE / "data") -> str:
    r"""A document with its spans as the tables say."""
    return fill(text, {name: partial(make, data) for name, make in SPANS.items()})


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:] or [HERE.parent / "README.md"]):
        path.write_text(filled(path.read_text()))
        print(path)
