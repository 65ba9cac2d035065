r"""What each method's search tried and chose: from the registry and the tracked search."""

from shared.tracked import listed, table, title

from megu.figures import markdown
from megu.methods import METHODS

KEPT = {"trial", "val_retain", "val_forget", "score", "chosen", "recipe"}


def methods(data):
    r"""Markdown: method, ranges of its search, chosen values."""
    chosen, rows = table(data, "tuning").query("chosen").set_index("method"), []
    for name, entry in METHODS.items():
        if entry.reference or entry.variant_of:
            continue
        tried = listed(f"`{key}` {low:g} to {high:g}" for key, (low, high) in entry.search.items() if low < high)
        taken = "-"
        if name in chosen.index:
            found = chosen.loc[name, [key for key in chosen if key not in KEPT]].dropna()
            taken = listed(f"`{key}` {value:g}" for key, value in found.items())
        rows.append([f"`{name}`: {title(name)}", tried, taken])
    return markdown.table(["method", "range of its search", "the tracked search chose"], rows)
