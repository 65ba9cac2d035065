r"""The results table in the form of Table 1 of arXiv 2602.17088, as Markdown; `--readme` writes it into README.md."""

import json
import re
import sys

import pandas as pd
from drawing import HERE, folders

from megu.methods import METHODS

COLUMNS = {  # metric -> heading; the mode stands in every heading
    "acc_retain_test": "retain test acc. (strict)",
    "acc_forget_train": "forget train acc. (strict)",
    "acc_forget_test": "forget test acc. (strict)",
    "mia_loss_auc": "loss attack AUC (strict)",
    "mia_ssd_member_rate": "SSD member rate (compat)",
}
MARK = "<!-- results: python paper_figures/tab01_results.py --readme -->"


def table(data):
    r"""Markdown: mean ± half-width of the 95 % t-interval, [gap to retrain of the same seed] in brackets, relative
    time."""
    summary, timings = pd.read_csv(data / "summary.csv"), pd.read_csv(data / "timings.csv")
    source = json.loads((data / "source.json").read_text())
    seconds = timings[timings["part"] == "total"].pivot(index="seed", columns="method", values="seconds")
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
    lines += [
        "",
        (
            f"`{source['command']}`, profile {source['profile']}, {what}, seeds {', '.join(map(str, source['seeds']))},"
            f" {source['retain_images']} retain images, {source['device']}, torch {source['torch']}. Accuracy and"
            f" member rate in percent; {spread_of(source, 'mean')}; in brackets the gap to the retrain of the same"
            " seed, which is the goal."
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


def with_table(text, markdown, mark=MARK):
    r"""README text with the table between its two marks replaced."""
    return re.sub(re.escape(mark) + r".*?" + re.escape(mark), lambda _: f"{mark}\n{markdown}{mark}", text, flags=re.S)


def publish(make, name, needs, mark=MARK):
    r"""Write a table as Markdown, and with ``--readme`` between its marks in README.md; nothing where a run has no such
    data.

    Args:
        make: function of the folder of tidy data.  name: of the file.  needs: file without which there is no table.
            mark: in README.
    """
    data, out = folders()
    if not (data / needs).exists():
        return
    markdown = make(data)
    (out / f"{name}.md").write_text(markdown)
    print(out / f"{name}.md")
    if "--readme" in sys.argv:
        readme = HERE.parent / "README.md"
        readme.write_text(with_table(readme.read_text(), markdown, mark))


if __name__ == "__main__":
    publish(table, "tab01_results", "summary.csv")
