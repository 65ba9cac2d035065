r"""Each method in one line, and what its search tried: from the registry and the tracked search."""

import sys

from shared.tracked import listed, table, title

from megu.figures import markdown
from megu.methods import METHODS

KEPT = {"trial", "val_retain", "val_forget", "score", "chosen", "recipe"}


def methods(data):
    r"""Markdown: method, first line of its file, ranges of its search, chosen values."""
    chosen, rows = table(data, "tuning").query("chosen").set_index("method"), []
    for name, entry in METHODS.items():
        if entry.reference or entry.variant_of:
            continue
        what = sys.modules[entry.unlearn.__module__].__doc__.splitlines()[0].rstrip(".")
        tried = listed(f"`{key}` {low:g} to {high:g}" for key, (low, high) in entry.search.items() if low < high)
        taken = "-"
        if name in chosen.index:
            found = chosen.loc[name, [key for key in chosen if key not in KEPT]].dropna()
            taken = listed(f"`{key}` {value:g}" for key, value in found.items())
        rows.append([f"`{name}`: {title(name)}", what.partition(": ")[2] or what, tried, taken])
    return markdown.table(["method", "what it does", "range of its search", "the tracked search chose"], rows)
