r"""Every method against the true retrain, one Markdown table for each scenario."""

import json

import pandas as pd
from tab01_results import publish, spread_of

from megu.measure.summary import summary
from megu.methods import METHODS

COLUMNS = {  # metric -> (heading with the mode, digits)
    "acc_retain_test": ("retain test acc. (strict)", 1),
    "acc_forget_train": ("forget train acc. (strict)", 1),
    "mia_loss_auc": ("loss attack AUC (strict)", 3),
    "mia_lira_online_auc": ("LiRA AUC (strict)", 3),
    "probe_forget_acc": ("probe, forget acc. (strict)", 1),
    "relearn_steps": ("relearn steps (strict)", 1),
    "mia_ssd_member_rate": ("SSD member rate (compat)", 1),
    "tow": ("ToW (strict)", 3),
}


def one(found, seconds):
    r"""Markdown of one scenario: rows by tug-of-war, gaps to retrain ± half-width of their 95 % t-interval; retrain's
    row has its values.

    Args:
        found: rows of `megu.measure.metrics.rows`.  seconds: of `Experiment.timings`.
    """
    table = summary(found)
    total = seconds[seconds["part"] == "total"].groupby(["method", "seed"])["seconds"].mean().unstack("seed")
    share = (100 * total / total.loc["retrain"]).mean(axis=1)
    order = table[table["metric"] == "tow"].sort_values("mean", ascending=False)["method"]
    lines = [
        "| method | " + " | ".join(title for title, _ in COLUMNS.values()) + " | time, % of retrain |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name in dict.fromkeys(["retrain", *order]):
        part, cells = (
            table[table["method"] == name].set_index("metric"),
            [METHODS[name].title if name in METHODS else name],
        )
        for metric, (_, digits) in COLUMNS.items():
            row = part.loc[metric] if metric in part.index else None
            own = name == "retrain" or metric == "tow"
            value, spread = (
                (None, None)
                if row is None
                else (row["mean"], row["half_width"])
                if own
                else (row["gap"], row["gap_half_width"])
            )
            sign = "" if own else "+"
            cells.append(
                "n/a"
                if row is None or pd.isna(value)
                else f"{value:{sign}.{digits}f}" + (f" ± {spread:.{digits}f}" if pd.notna(spread) else "")
            )
        lines.append("| " + " | ".join([*cells, "-" if name == "original" else f"{share[name]:.1f}"]) + " |")
    return "\n".join(lines)


def tables(data):
    r"""Markdown of every scenario of ``comparison.csv``."""
    found, seconds = pd.read_csv(data / "comparison.csv"), pd.read_csv(data / "comparison_seconds.csv")
    source, out = json.loads((data / "comparison_source.json").read_text()), []
    for scenario in source["scenarios"]:
        out += [
            f"**{scenario}**",
            "",
            one(found[found["scenario"] == scenario], seconds[seconds["scenario"] == scenario]),
            "",
        ]
    chosen = "".join(f" --scenario {scenario}" for scenario in source["scenarios"])
    chosen += f" --repeats {source['repeats']} --shadows {source['shadows']}"
    out.append(
        f"`python -m megu compare --out paper_figures/data{chosen}`, profile {source['profile']}, seeds"
        f" {', '.join(map(str, source['seeds']))} of pre-training x {source['repeats']} of unlearning,"
        f" {source['shadows']} shadow models, {source['retain_images']} retain images, {source['device']}, torch"
        f" {source['torch']}. First row: the goal and its noise floor. Below:"
        f" {spread_of(source, 'gap to the retrain of the same seed', 'seeds of pre-training')}; ToW itself, 1 = as"
        " retrain. Rows are in the order of ToW."
    )
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    publish(tables, "tab02_comparison", "comparison.csv")
