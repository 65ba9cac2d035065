r"""What the tracked tables say about methods, in sentences: each number is read from a table, each list made by a rule that stands beside it."""

import numpy as np
from tracked import (
    ablated,
    apart,
    bullets,
    change,
    compared,
    disentangled,
    gap,
    listed,
    pm,
    source,
    table,
    time_share,
    title,
)

from megu.grid_tables import read_grid
from megu.methods import method_settings
from megu.profiles import resolve
from megu.tables import summary

AWAY = "95 % interval leaves 0 out"
CELLS = ("rocket", "mushroom")  # of CIFAR-100: more classes than any tuning saw


def forgotten():
    """Name of the class that the default request forgets."""
    return resolve().forget.classes[0]


def _rows(data, scenario, metric, *without):
    return compared(data).loc[(scenario, metric)].drop(["retrain", *without])


def _of(rows, digits):
    """Methods with their gaps, the largest first."""
    ordered = rows.reindex(rows["gap"].abs().sort_values(ascending=False).index)
    return listed(f"{title(name)} {gap(row, digits)}" for name, row in ordered.iterrows())


def _mean(data, scenario, metric, name, digits=1):
    row = compared(data).loc[(scenario, metric, name)]
    return pm(row["mean"], row["half_width"], digits)


def _span(values, digits=1):
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def forgetting(data):
    r"""Forgotten test images, retained accuracy and time."""
    left = {name: _mean(data, "class", "acc_forget_test", name) for name in ("megu", "original", "retrain")}
    kept, share = compared(data).loc[("class", "acc_retain_test")], time_share(data)
    return (
        f"**Forgetting and its price.** Of the test images of {forgotten()} MeGU still names {left['megu']} % right (original {left['original']}, "
        f"retrained {left['retrain']}), after {share['megu']:.0f} % of the time of retraining. Retained test accuracy, points from the retrained "
        f"model's: MeGU {gap(kept.loc['megu'])}; fine-tuning on retain images alone {gap(kept.loc['finetune'])} in {share['finetune']:.0f} %."
    )


def ranking(data):
    r"""All methods by tug-of-war."""
    tow = _rows(data, "class", "tow", "original").sort_values("mean", ascending=False)
    first = listed(f"{title(name)} {row['mean']:.3f}" for name, row in tow.head(4).iterrows())
    megu = tow.loc["megu"]
    return (
        f"**Nearest to retraining** (tug-of-war, ToW; 1 = as retrained): {first}. MeGU, {pm(megu['mean'], megu['half_width'], 3)}, is number "
        f"{list(tow.index).index('megu') + 1} of {len(tow)}; the intervals say which of these can be told apart."
    )


def parts(data):
    r"""What labels and noise do, from the comparison and the ablation."""
    kept = compared(data).loc[("class", "acc_retain_test")]
    tow = ablated(data).xs("tow", level="metric")
    variants = {("noise", "none"): "no noise", ("noise", "random"): "the same noise at shuffled places", ("A12", "labels: random"): "random labels",
                ("A12", "guide: shuffled"): "a guide with exchanged labels"}  # fmt: skip
    changes = listed(f"{words} {change(tow.loc[key])}" for key, words in variants.items())
    return (
        f"**Noise and labels.** Points of retained test accuracy from the retrained model's: guided labels without noise {gap(kept.loc['megu-no-noise'])}, "
        f"random labels without noise {gap(kept.loc['amnesiac'])}, random labels with noise {gap(kept.loc['megu-random-labels'])}, MeGU "
        f"{gap(kept.loc['megu'])}. Change of ToW against MeGU of the same seed: {changes}. An interval that includes 0 shows no difference: neither that the "
        "guide helps nor that the noise's meaning does."
    )


def labels(data):
    r"""Are perturbing labels near the forgotten class?  Index against share."""
    concept, chosen = forgotten(), table(data, "label_distribution")
    index = table(data, "entanglement").query("layer == 'head input' and class_a == @concept").set_index("class_b")["index"]
    wide = chosen.pivot(index="label", columns="choice", values="share").drop(index=concept)
    ranked = next(name for name in wide if name.startswith("ranked"))
    most = wide[ranked].sort_values(ascending=False).head(3)
    named = listed(f"{name} {share:.0f} % (index {index[name]:+.2f})" for name, share in most.items())
    mean = {choice: np.average(index[wide.index], weights=wide[choice]) for choice in (ranked, "nearest", "farthest")}
    tau = method_settings("megu", resolve()).labels.tau
    so = " So floor(K tau) need not name a class that shares anything." if mean[ranked] < 0.1 < mean["nearest"] else ""
    return (
        f"**Near enough to keep what is shared?** With tau = {tau} images of {concept} are pushed to {named}; the index says how entangled a class is with "
        f"{concept}, 1 = the same patterns. Its mean over the labels that are used is {mean[ranked]:+.2f}; over each image's nearest class it would be "
        f"{mean['nearest']:+.2f}, over its farthest {mean['farthest']:+.2f}.{so}"
    )


def attacks(data):
    r"""Two attacks, two rankings."""
    loss, lira = (_rows(data, "class", metric, "original") for metric in ("mia_loss_auc", "mia_lira_online_auc"))
    return (
        f"**Two attacks.** Gap of the attack's AUC to the retrained model's, class-wise. Loss attack: above 0 (its {AWAY}) are "
        f"{_of(apart(loss, 1), 3)}; MeGU {gap(loss.loc['megu'], 3)}. Likelihood-ratio attack (LiRA, online): {len(apart(lira, 1))} of {len(lira)} methods are "
        f"above 0, among them fine-tuning {gap(lira.loc['finetune'], 3)} and MeGU {gap(lira.loc['megu'], 3)}. Neither alone says who leaves a trace."
    )


def over_forgetting(data):
    r"""The compat attack: below the retrained model's member rate."""
    rate = _rows(data, "class", "mia_ssd_member_rate", "original")
    return (
        "**Lower is not better.** The public code's attack calls "
        f"{_mean(data, 'class', 'mia_ssd_member_rate', 'retrain')} % of the forget images members for the retrained model. Below it ({AWAY}), in points: "
        f"{_of(apart(rate, -1), 1)}. A column in which lower is better would call these the winners."
    )


def memory(data):
    r"""What a forget accuracy of 0 hides."""
    steps, probe = (_rows(data, "class", metric, "original") for metric in ("relearn_steps", "probe_forget_acc"))
    return (
        f"**What a forget accuracy hides.** Relearning the class takes {_span(steps['mean'], 0)} steps after unlearning and "
        f"{_mean(data, 'class', 'relearn_steps', 'retrain', 0)} after retraining; a linear probe on frozen features names {_span(probe['mean'], 0)} % of the "
        f"forgotten test images, for the retrained models {_mean(data, 'class', 'probe_forget_acc', 'retrain', 0)} %."
    )


def patterns(data):
    r"""What is suppressed of the unique patterns."""
    aligned, place = (disentangled(data).loc[(view, "suppressed")]["mean"] for view in ("aligned", "in place"))
    kept = disentangled(data).loc[("in place", "kept")]["mean"]
    both = {name: disentangled(data).loc[("aligned", "suppressed", name)] for name in ("retrain", "megu")}
    rest = aligned.drop(["retrain", "original"]).sort_values(ascending=False)
    first = listed(f"{title(name)} {value:.2f}" for name, value in rest.head(3).items())
    noises = {"megu-no-noise": "without noise", "megu": "with the pair", "megu, random noise": "with shuffled noise"}
    said = listed(f"{words} {place[name]:.2f} and {kept[name]:.2f}" for name, words in noises.items())
    return (
        "**Unique patterns, read through a linear map** (aligned): retraining suppresses "
        f"{pm(both['retrain']['mean'], both['retrain']['half_width'], 2)} of them, MeGU {pm(both['megu']['mean'], both['megu']['half_width'], 2)}; next to "
        f"retraining: {first}. In place, suppressed and kept: MeGU {said}; fine-tuning {place['finetune']:.2f} and {kept['finetune']:.2f}."
    )


def subclass(data):
    r"""Sub-class forgetting: to do no harm."""
    left = _rows(data, "subclass", "acc_forget_train")
    return (
        "**Inside a superclass.** The retrained model still names "
        f"{_mean(data, 'subclass', 'acc_forget_train', 'retrain')} % of the forgotten training images by their superclass, the original "
        f"{_mean(data, 'subclass', 'acc_forget_train', 'original')} %; their difference is what there is to forget. Away from the retrained model ({AWAY}), in points: "
        f"{_of(apart(left), 1)}. MeGU: {gap(left.loc['megu'])}."
    )


def random(data):
    r"""Random images: attacks whose interval leaves 0 out."""
    names = {"mia_loss_auc": "loss", "mia_entropy_auc": "entropy", "mia_lira_online_auc": "LiRA online", "mia_lira_offline_auc": "LiRA offline"}
    away = listed(f"{words}: {_of(apart(_rows(data, 'random', metric, 'original')), 3)}" for metric, words in names.items()).replace(", LiRA", "; LiRA")
    forget = compared(data).loc[("random", "acc_forget_train")]
    return (
        f"**Random images.** Accuracy on the forgotten images: retrained {_mean(data, 'random', 'acc_forget_train', 'retrain')} %, original from it "
        f"{gap(forget.loc['original'])} points. Attacks whose AUC is away from the retrained model's ({AWAY}), {away.replace(', entropy', '; entropy')}."
    )


def ablation(data):
    r"""All changes of the ablation whose interval leaves 0 out."""
    tow = ablated(data).xs("tow", level="metric").drop(index=["default", "retrain"], level="point")
    away = apart(tow, value="change").sort_values("change")
    named = listed(f"{point}: {variant} {change(row)}" for (point, variant), row in away.iterrows())
    return (
        f"**One thing at a time.** Of {len(tow)} changes, {len(away)} move ToW against MeGU of the same seed ({AWAY}; not corrected for their number): {named}. "
        "All other intervals include 0, those of every source of labels among them where it is not named here."
    )


def grid(data):
    r"""More classes: the cells of CIFAR-100 in the small grid."""
    rows = read_grid(data, "small")[0]
    names = ("original", "retrain", "megu", "megu-random-labels", "megu-no-noise")
    said = []
    for cell in CELLS:
        means = summary(rows.query("dataset == 'cifar100' and forget == @cell")).set_index(["metric", "method"])
        left = listed(f"{title(name)} {means.loc[('acc_forget_test', name), 'mean']:.0f} %" for name in names)
        tow = listed(f"{title(name)} {pm(*means.loc[('tow', name), ['mean', 'half_width']], 2)}" for name in names[2:])
        said.append(f"{cell}: of the forgotten test images are named right {left}; ToW {tow}")
    noise = method_settings("megu", resolve()).noise
    return (
        f"**More classes.** CIFAR-100 with a small ResNet and the noise weights ({noise.weight_pos}, {noise.weight_neg}) that were chosen on "
        f"Fashion, not the paper's eq. 11: {'. '.join(said)}."
    )


def superclasses(data):
    r"""Sub-classes and random images in the grid."""
    rows = read_grid(data, "small")[0].query("dataset == 'cifar20' and scenario == 'subclass' and arch == 'resnet-small'")
    said = []
    for cell, part in rows.groupby("forget", sort=False):
        means = summary(part).set_index(["metric", "method"]).loc["acc_forget_test"]["mean"]
        said.append(f"{cell} {listed(f'{title(name)} {means[name]:.0f} %' for name in ('original', 'retrain', 'finetune', 'megu'))}")
    return f"**Sub-classes of CIFAR-20**, forgotten test images still named by their superclass: {'; '.join(said)}."


def variants(data):
    r"""Settings of the public code against ours, cell by cell."""
    rows, out = read_grid(data, "small")[0].query("metric == 'tow'"), []
    means = rows.groupby(["arch", "dataset", "scenario", "forget", "method"])["value"].mean().unstack()
    for ours, theirs in (("ssd", "ssd-code"), ("unsir", "unsir-ssd")):
        more = (means[theirs] - means[ours]).dropna()
        out.append(f"{title(theirs)} against {title(ours)}: ToW higher in {(more > 0).sum()} of {len(more)} cells ({more.min():+.2f} to {more.max():+.2f})")
    return f"**Settings of the public code**: {'; '.join(out)}."


def main_findings(data):
    r"""The bullets of README.md."""
    return bullets(*(make(data) for make in (forgetting, ranking, parts, labels, attacks, grid)))


def all_findings(data):
    r"""The bullets of paper_figures/README.md that README.md has not."""
    return bullets(*(make(data) for make in (over_forgetting, memory, patterns, subclass, random, ablation, superclasses, variants)))


def walk_notes(data):
    r"""How the tables were made."""
    names = {"comparison_source": "methods", "ablation_source": "ablation", "disentanglement_all_source": "patterns", "source": "notebooks"}
    made = listed(f"{words} ({source(data, name)['device']}, torch {source(data, name)['torch']})" for name, words in names.items())
    return f"Made on: {made}.\n"
