r"""MeGU's open points, changed one at a time, as Markdown."""

import json

import pandas as pd
from tab01_results import publish, spread_of

from megu.measure.summary import against_default

COLUMNS = {  # metric -> (heading with the mode, digits)
    "acc_retain_test": ("retain test acc. (strict)", 1),
    "acc_forget_test": ("forget test acc. (strict)", 1),
    "mia_ssd_member_rate": ("SSD member rate (compat)", 1),
    "tow": ("ToW (strict)", 3),
}


def table(data):
    r"""Markdown: change against the default of the same seed ± half-width of its 95 % t-interval; the default's own row
    has its values."""
    found, source = (
        against_default(pd.read_csv(data / "ablation.csv")),
        json.loads((data / "ablation_source.json").read_text()),
    )
    lines = [
        "| point | variant | " + " | ".join(title for title, _ in COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    half = " ± {:.{}f}" if len(source["seeds"]) > 1 else ""
    for point, variant in found[["point", "variant"]].drop_duplicates().itertuples(index=False):
        part = found[(found["point"] == point) & (found["variant"] == variant)].set_index("metric")
        own = point in ("default", "retrain")
        cells = [
            (
                f"{part['mean'][metric]:.{digits}f}"
                if own
                else f"{part['change'][metric]:+.{digits}f}" + half.format(part["change_half_width"][metric], digits)
            )
            for metric, (_, digits) in COLUMNS.items()
        ]
        lines.append(f"| {point} | {variant} | " + " | ".join(cells) + " |")
    lines += [
        "",
        (
            f"`make ablation`, profile {source['profile']}, class-wise forgetting of"
            f" {', '.join(source['forget']['classes'])}, seeds {', '.join(map(str, source['seeds']))},"
            f" {source['device']}, torch {source['torch']}. Rows default and retrain: means; others:"
            f" {spread_of(source, 'change against MeGU of the same seed')}."
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    publish(table, "tab03_ablation", "ablation.csv")
