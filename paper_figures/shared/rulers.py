r"""Where MeGU stands among the methods by each of several rulers: the place changes with the ruler."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from operator import neg

import numpy as np
from shared.tracked import compared, disentangled, table

from megu.figures import markdown
from megu.figures.markdown import contenders, number
from megu.measure.summary import half_width

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


@dataclass(frozen=True)
class Standing:
    r"""Where MeGU stands by a measure: the rows of original, retrain and MeGU, decimals; its place among ``of`` methods
    by the means, and by each seed alone; the methods that the 95 % interval of the paired difference does not tell from
    it, and those that it shows to be nearer to the retrained model; whether the measure sees the original."""

    shown: list
    digits: int
    place: int
    of: int
    by_seed: list
    alike: list
    nearer: list
    sees: bool = True


def _standing(shown, digits, values, far, sees=True):
    r"""``values``: of every model, by seed; ``far``: function of these to how far off they are."""
    values = values.loc[contenders(values.index)]
    each, mean = far(values), far(values.mean(axis=1))
    places = 1 + (each < each.loc["megu"]).sum()
    more = (each - each.loc["megu"]).drop("megu")
    reach = more.apply(half_width, axis=1)
    alike, nearer = (list(more.index[rule]) for rule in (more.mean(axis=1).abs() <= reach, more.mean(axis=1) < -reach))
    place = 1 + int((mean < mean["megu"]).sum())
    return Standing(shown, digits, place, len(values), [int(one) for one in places], alike, nearer, sees)


@lru_cache
def standings(data):
    r"""`Standing` by each measure's words: methods by their distance to the retrained model, patterns by the score."""
    out, models = {}, ["original", "retrain", "megu"]
    for metric, (words, digits) in RULED.items():
        rows = table(data, "comparison").query("scenario == 'class' and metric == @metric")
        values, means = by_seed(rows), compared(data).loc[("class", metric)]
        gap, reach = means.loc["original", ["gap", "gap_half_width"]]
        sees = gap > reach if metric.startswith("mia_") else abs(gap) > reach  # an attack: more of a member
        out[words] = _standing(means.loc[models], digits, values - values.loc["retrain"], abs, sees)
    for view in ("in place", "aligned"):
        rows = table(data, "disentanglement_all").query("view == @view and measure == 'score'")
        shown = disentangled(data).loc[(view, "score")].reindex(models)
        out[f"patterns {view}: suppressed x kept"] = _standing(shown, 2, by_seed(rows), neg)
    return out


def by_seed(rows):
    r"""Values by method and seed, each the mean of its repeats."""
    return rows.pivot_table(index="method", columns="seed", values="value", sort=False)


def ruled(data):
    r"""Markdown: MeGU's place by each of the `standings`, between the original and the retrained model."""
    lines = []
    for words, one in standings(data).items():
        means = (number(row["mean"], row["half_width"], one.digits) for _, row in one.shown.iterrows())
        place, seeds = f"number {one.place} of {one.of}", f"{min(one.by_seed)} to {max(one.by_seed)}"
        lines.append([words + BLIND * (not one.sees), *means, place, seeds, f"{len(one.alike)}"])
    head = ["ruler", "Original", "Retrain", "MeGU", "MeGU's place", "in single seeds", "not told apart"]
    return f"{markdown.table(head, lines)}\n\n{floor(data)}\n"


def floor(data):
    r"""ToW of a retrained model against that of another seed: what no method can be asked to beat."""
    rows = table(data, "comparison").query("scenario == 'class' and method == 'retrain'")
    parts = ["acc_forget_train", "acc_retain_train", "acc_retain_test"]
    wide = rows.pivot_table(index="seed", columns="metric", values="value")[parts].to_numpy() / 100
    tow = [np.prod(1 - np.abs(one - other)) for one, other in combinations(wide, 2)]
    return f"Two retrained models of different seeds have a ToW of {min(tow):.3f} to {max(tow):.3f} to each other."
