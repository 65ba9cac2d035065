r"""Where MeGU stands among the methods by each of several rulers: the place changes with the ruler."""

from itertools import combinations

import numpy as np
from shared.tracked import compared, disentangled, table

from megu.figures import markdown
from megu.figures.markdown import contenders, number, place

RULED = {  # metric of the class-wise comparison -> (words, decimals)
    "tow": ("ToW", 3),
    "acc_retain_test": ("retained test accuracy, %", 1),
    "acc_forget_test": ("forgotten test images named right, %", 1),
    "mia_loss_auc": ("loss attack, AUC", 3),
    "mia_entropy_auc": ("entropy attack, AUC", 3),
    "mia_lira_online_auc": ("LiRA online, AUC", 3),
    "mia_lira_offline_auc": ("LiRA offline, AUC", 3),
    "relearn_steps": ("steps of relearning", 0),
    "probe_forget_acc": ("linear probe, forgotten test images, %", 1),
    "mia_ssd_member_rate": ("SSD member rate (compat), %", 1),
}

BLIND = " (does not find the original)"


def rulers(data):
    r"""(Words, decimals, rows of original, retrain and MeGU, its place) of each measure: methods in the order of their
    distance to the retrained model, patterns by the score itself."""
    for metric, (words, digits) in RULED.items():
        rows = compared(data).loc[("class", metric)]
        order = rows.loc[contenders(rows.index)].sort_values("gap", key=abs, kind="stable").index
        blind = abs(rows.loc["original", "gap"]) <= rows.loc["original", "gap_half_width"]
        words += BLIND * bool(blind)
        yield words, digits, *(rows.loc[name] for name in ("original", "retrain", "megu")), place(order)
    for view in ("in place", "aligned"):
        rows = disentangled(data).loc[(view, "score")]
        order = rows.sort_values("mean", ascending=False, kind="stable").index
        shown = rows.reindex(["original", "retrain", "megu"])
        yield f"patterns {view}: suppressed x kept", 2, *(row for _, row in shown.iterrows()), place(order)


def places(data):
    r"""MeGU's place by each of the `rulers` that find the original."""
    return [int(place.split()[1]) for words, *_, place in rulers(data) if BLIND not in words]


def ruled(data):
    r"""Markdown: MeGU's place by each of the `rulers`, between the original and the retrained model."""
    rows = [
        [words, *(number(one["mean"], one["half_width"], digits) for one in models), place]
        for words, digits, *models, place in rulers(data)
    ]
    head = ["ruler", "Original", "Retrain", "MeGU", "MeGU's place"]
    return f"{markdown.table(head, rows)}\n\n{floor(data)}\n"


def floor(data):
    r"""ToW of a retrained model against that of another seed: what no method can be asked to beat."""
    rows = table(data, "comparison").query("scenario == 'class' and method == 'retrain'")
    parts = ["acc_forget_train", "acc_retain_train", "acc_retain_test"]
    wide = rows.pivot_table(index="seed", columns="metric", values="value")[parts].to_numpy() / 100
    tow = [np.prod(1 - np.abs(one - other)) for one, other in combinations(wide, 2)]
    return f"Two retrained models of different seeds have a ToW of {min(tow):.3f} to {max(tow):.3f} to each other."
