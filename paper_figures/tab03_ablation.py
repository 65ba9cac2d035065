r"""MeGU's open points, each changed alone: the measured column of the assumption log, as Markdown; `--readme` writes it into README.md."""

import sys

import pandas as pd
from drawing import HERE, folders
from tab01_results import with_table

from megu.tables import half_width

COLUMNS = {"acc_retain_test": 1, "acc_forget_train": 1, "mia_ssd_member_rate": 1, "tow": 3}
MARK = "<!-- ablation: python paper_figures/tab03_ablation.py --readme -->"


def table(data):
    r"""Markdown: mean over the seeds of variant minus default of the same seed ± half-width of its interval; retrain's and the default's own values first."""
    found = pd.read_csv(data / "ablation.csv")
    wide = found[found["metric"].isin(COLUMNS)].pivot_table(index=["point", "variant"], columns=["metric", "seed"], values="value", sort=False)
    usual = wide.loc["default", "as tuned"]
    lines = ["| point | variant | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for (point, variant), row in wide.iterrows():
        own, cells = point in ("default", "retrain"), []
        for metric, digits in COLUMNS.items():
            values = row[metric] if own else row[metric] - usual[metric]
            cells.append(f"{values.mean():{'' if own else '+'}.{digits}f} ± {half_width(values):.{digits}f}")
        lines.append("| " + " | ".join([point, variant, *cells]) + " |")
    seeds = ", ".join(map(str, sorted(found["seed"].unique())))
    lines += ["", f"`make ablation`, class-wise forgetting of shirt, seeds {seeds}. Mean ± half-width of the 95 % t-interval; values of retrain and of the "]
    lines[-1] += "default, then differences to the default of the same seed."
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    data, out = folders()
    if (data / "ablation.csv").exists():  # a run has none of its own
        (out / "tab03_ablation.md").write_text(table(data))
        print(out / "tab03_ablation.md")
        if "--readme" in sys.argv:
            readme = HERE.parent / "README.md"
            readme.write_text(with_table(readme.read_text(), table(data), MARK))
