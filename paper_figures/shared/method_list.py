r"""What each method does, in the registry's own words."""

import inspect
import re
import sys

from shared.drawing import grids, read
from shared.grid import read_grid
from shared.tracked import title
from shared.which_method import KINDS

from megu.figures import markdown
from megu.methods import METHODS
from megu.methods.registry import ANY


def about(entry):
    r"""What a method does: the first line of its file, or what a variant changes; for which requests."""
    changes = ", ".join(f"`{key}={value}`" for key, value in entry.preset.items())
    if entry.variant_of:
        return (
            f"{title(entry.variant_of)} with {changes if len(entry.preset) < 4 else 'values as the paper prints them'}"
        )
    line = sys.modules[entry.unlearn.__module__].__doc__.split("\n")[0].rstrip(".")
    only = "" if entry.scenarios == ANY else f"; {' or '.join(KINDS[kind] for kind in entry.scenarios)} only"
    return (line.partition(": ")[2] or line) + only


def source(entry):
    r"""Where a method is from, by its docstring."""
    text = " ".join(inspect.getdoc(entry.unlearn).split()).split("Source: ")[1]
    return re.sub(
        r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text.split(" Departs:")[0].rstrip(".")
    )


def table(data):
    r"""A line for each method to unlearn by; whether a table with the metrics of ``data`` has it."""
    tables, lines = [read(data, "comparison"), *(read_grid(data, profile)[0] for profile in [*grids(data), "fast"])], []
    measured = {name for table in tables for name in table["method"]}
    for name, entry in METHODS.items():
        if not entry.reference:
            file = f"{entry.unlearn.__module__.split('.')[-1]}.py"
            shown = title(name) if name in measured else f"{title(name)}: **not measured**"
            lines.append([f"[`{name}`]({file})", shown, about(entry), source(entry)])
    return markdown.table(["`--method`", "in tables", "what it does", "source"], lines)
