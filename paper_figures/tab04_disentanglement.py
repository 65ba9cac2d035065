r"""What every method suppresses and keeps of the forgotten concept's patterns, as Markdown."""

import json

from drawing import registry
from tab01_results import publish, spread_of

from megu.measure.summary import over_seeds

COLUMNS = [(view, measure) for view in ("in place", "aligned") for measure in ("suppressed", "kept", "score")]


def table(data):
    r"""Markdown: mean ± half-width of the 95 % t-interval over the seeds, rows in the order of the aligned score."""
    found, titles = registry(data)
    source = json.loads((data / "disentanglement_all_source.json").read_text())
    over = over_seeds(found, ["method", "view", "measure"]).set_index(["view", "measure", "method"]).sort_index()
    lines = [
        "| method | " + " | ".join(f"{view}: {measure}" for view, measure in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name in over.loc[("aligned", "score")].sort_values("mean", ascending=False).index:
        cells = [titles[name]]
        for column in COLUMNS:
            row = over.loc[(*column, name)] if (*column, name) in over.index else None
            cells.append(
                "-"
                if row is None
                else (
                    f"{row['mean']:.2f} ± {row['half_width']:.2f}" if len(source["seeds"]) > 1 else f"{row['mean']:.2f}"
                )
            )
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        (
            f"`python -m megu disentangle --out paper_figures/data`, profile {source['profile']}, class-wise forgetting"
            f" of {', '.join(source['forget']['classes'])}, seeds {', '.join(map(str, source['seeds']))},"
            f" {source['device']}, torch {source['torch']}. {spread_of(source, 'Mean')}."
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    publish(table, "tab04_disentanglement", "disentanglement_all.csv")
