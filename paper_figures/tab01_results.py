r"""The results table in the form of Table 1 of arXiv 2602.17088, as Markdown."""

import pandas as pd
from drawing import folders
from tracked import default_request

from megu.methods import METHODS

COLUMNS = {  # metric -> heading; the mode stands in every heading
    "acc_retain_test": "retain test acc. (strict)",
    "acc_forget_train": "forget train acc. (strict)",
    "acc_forget_test": "forget test acc. (strict)",
    "mia_loss_auc": "loss attack AUC (strict)",
    "mia_ssd_member_rate": "SSD member rate (compat)",
}


def table(data):
    r"""Markdown: mean ± half-width of the 95 % t-interval, gap to retrain in brackets, relative time."""
    summary, timings, source = default_request(data)
    seconds = timings[timings["part"] == "total"].groupby(["method", "seed"])["seconds"].mean().unstack("method")
    lines = [
        "| method | " + " | ".join(COLUMNS.values()) + " | time, % of retrain |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name in dict.fromkeys(summary["method"]):
        part = summary[summary["method"] == name].set_index("metric")
        cells = [METHODS[name].title]
        for metric in COLUMNS:
            row, digits = part.loc[metric], 3 if part.loc[metric, "unit"] == "share" else 1
            gap = "" if name == "retrain" else f" [{row['gap']:+.{digits}f}]"
            spread = f" ± {row['half_width']:.{digits}f}" if pd.notna(row["half_width"]) else ""
            cells.append(f"{row['mean']:.{digits}f}{spread}{gap}" if pd.notna(row["mean"]) else "n/a")
        share = 100 * seconds[name] / seconds["retrain"]
        cells.append("-" if name == "original" else f"{share.mean():.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    forget = source["forget"]
    what = (
        "forgetting of {count} random images"
        if forget["scenario"] == "random"
        else "{scenario}-wise forgetting of {names}"
    )
    what = what.format(**forget, names=", ".join(forget["classes"]))
    repeats = f" of pre-training x {source['repeats']} of unlearning" if source.get("repeats", 1) > 1 else ""
    lines += [
        "",
        (
            f"`{source['command']}`, profile {source['profile']}, {what}, seeds"
            f" {', '.join(map(str, source['seeds']))}{repeats}, {source['retain_images']} retain images,"
            f" {source['device']}, torch {source['torch']}. Accuracy and member rate in percent;"
            f" {spread_of(source, 'mean')}; in brackets the gap to the retrain of the same seed, which is the goal."
        ),
    ]
    return "\n".join(lines) + "\n"


def spread_of(source, what, seeds="seeds"):
    r"""What the numbers of a table are; with one seed there is no interval."""
    return (
        f"{what} ± half-width of the 95 % t-interval over the {seeds}"
        if len(source["seeds"]) > 1
        else f"{what}, of one seed and so without interval"
    )


def publish(make, name, needs):
    r"""Write a table as Markdown; nothing where a run has no such data.

    Args:
        make: function of the folder of tidy data.  name: of the file.  needs: file without which there is no table.
    """
    data, out = folders()
    if (data / needs).exists():
        (out / f"{name}.md").write_text(make(data))
        print(out / f"{name}.md")


if __name__ == "__main__":
    publish(table, "tab01_results", "summary.csv")
