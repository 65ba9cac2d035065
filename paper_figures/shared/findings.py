r"""What the tracked tables say about methods: each number is read from a table, each list made by a stated rule."""

import numpy as np
from shared.drawing import read, source
from shared.grid import read_grid
from shared.tracked import ablated, apart, bullets, change, compared, concept, gap, listed, table, time_share, title

from megu.figures import markdown
from megu.figures.markdown import contenders, number, place
from megu.measure.summary import summary
from megu.methods import method_settings
from megu.settings.profiles import resolve

AWAY = "95 % interval leaves 0 out"
CELLS = ("rocket", "mushroom")  # of CIFAR-100: more classes than any tuning saw


def forgotten():
    """Name of the class that the default request forgets."""
    return resolve().forget.classes[0]


def rows_of(data, scenario, metric, *more):
    r"""Rows of a metric in a scenario: of the methods of unlearning, and ``more``."""
    rows = compared(data).loc[(scenario, metric)]
    return rows.loc[[*contenders(rows.index), *more]]


def gaps_of(rows, digits):
    """Methods with their gaps, the largest first."""
    ordered = rows.reindex(rows["gap"].abs().sort_values(ascending=False).index)
    return listed(f"{title(name)} {gap(row, digits)}" for name, row in ordered.iterrows())


def mean_of(data, scenario, metric, name, digits=1):
    r"""Text of a method's mean with half of its interval."""
    row = compared(data).loc[(scenario, metric, name)]
    return number(row["mean"], row["half_width"], digits)


def of(data, metric, name="original"):
    r"""A model's row in the class-wise comparison."""
    return compared(data).loc[("class", metric, name)]


def span_of(values, digits=1):
    r"""Text of the smallest and the largest value."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def forgetting(data):
    r"""Forgotten test images, retained accuracy and time."""
    left = {name: mean_of(data, "class", "acc_forget_test", name) for name in ("megu", "original", "retrain")}
    kept, share = compared(data).loc[("class", "acc_retain_test")], time_share(data)
    return (
        f"**Forgetting and its price.** Of the test images of {forgotten()} MeGU still names {left['megu']} % right"
        f" (original {left['original']}, retrained {left['retrain']}), after {share['megu']:.0f} % of the time of"
        f" retraining, and {share['megu'] + share['guide']:.0f} % with the guide. Retained"
        f" test accuracy, points from the retrained model's: MeGU {gap(kept.loc['megu'])};"
        f" fine-tuning on retain images alone {gap(kept.loc['finetune'])} in {share['finetune']:.0f} %."
    )


def ranked(data):
    r"""ToW of every method of the class-wise comparison, the nearest to retraining first; a head that is retrained on
    the original's features (the public code's "retrain") is no method of unlearning."""
    tow = compared(data).loc[("class", "tow")]
    return tow.loc[contenders(tow.index)].sort_values("mean", ascending=False)


def ranking(data):
    r"""All methods by tug-of-war."""
    tow = ranked(data)
    first = listed(f"{title(name)} {number(row['mean'], row['half_width'], 3)}" for name, row in tow.head(4).iterrows())
    megu = tow.loc["megu"]
    return (
        f"**Nearest to retraining** (tug-of-war, ToW; 1 = as retrained): {first}. MeGU,"
        f" {number(megu['mean'], megu['half_width'], 3)}, is {place(tow.index)}."
    )


def parts(data):
    r"""What labels and noise do, from the comparison and the ablation."""
    kept = compared(data).loc[("class", "acc_retain_test")]
    tow = ablated(data).xs("tow", level="metric")
    variants = {
        ("noise", "none"): "no noise",
        ("noise", "random"): "shuffled noise",
        ("A12", "labels: random"): "random labels",
        ("A12", "guide: shuffled"): "a guide with exchanged labels",
    }
    changes = listed(f"{words} {change(tow.loc[key])}" for key, words in variants.items() if key in tow.index)
    return (
        "**Noise and labels.** Points of retained test accuracy from the retrained model's: guided labels without"
        f" noise {gap(kept.loc['megu-no-noise'])}, random labels without noise (Amnesiac)"
        f" {gap(kept.loc['amnesiac'])}, random labels with noise {gap(kept.loc['megu-random-labels'])}, MeGU"
        f" {gap(kept.loc['megu'])}. Change of ToW against MeGU of the same seed: {changes}. Intervals with 0 show no"
        " difference."
    )


def beside(data, choice=None):
    r"""(name of the forgotten class, DataFrame by label: index, low, high, share of a choice, the paper's if None)."""
    name, chosen = concept(data), read(data, "label_distribution")
    index = read(data, "entanglement").query("layer == 'head input' and class_a == @name").set_index("class_b")
    share = chosen[chosen["choice"] == (choice or chosen["choice"].iloc[0])].set_index("label")["share"]
    return name, index[["index", "low", "high"]].join(share)


def labels(data):
    r"""Are perturbing labels near the forgotten class?  Index against share."""
    name, used = beside(data)
    most = used.sort_values("share", ascending=False).head(3)
    named = listed(f"{label} {row['share']:.0f} % (index {row['index']:+.2f})" for label, row in most.iterrows())
    tables = {choice: beside(data, choice)[1] for choice in (None, "nearest", "farthest")}
    mean = {choice: np.average(found["index"], weights=found["share"]) for choice, found in tables.items()}
    tau = method_settings("megu", resolve()).labels.tau
    so = " So floor(K tau) need not name a class that shares anything." if mean[None] < 0.1 < mean["nearest"] else ""
    return (
        f"**Near enough to keep what is shared?** With tau = {tau} images of {name} are pushed to {named}; the index"
        f" says how entangled a class is with {name}, 1 = the same patterns. Its mean over the labels that are used"
        f" is {mean[None]:+.2f}; over each image's nearest class it would be {mean['nearest']:+.2f}, over its"
        f" farthest {mean['farthest']:+.2f}.{so}"
    )


def attacks(data):
    r"""Two attacks, two rankings."""
    loss, lira = (rows_of(data, "class", metric) for metric in ("mia_loss_auc", "mia_lira_online_auc"))
    return (
        "**Two attacks.** Gap of the attack's AUC to the retrained model's, class-wise. Loss attack: above 0 (its"
        f" {AWAY}) are {gaps_of(apart(loss, 1), 3)}; MeGU {gap(loss.loc['megu'], 3)}; but the original, which forgot"
        f" nothing, {gap(of(data, 'mia_loss_auc'), 3)}. Likelihood-ratio attack (LiRA, online): the original"
        f" {gap(of(data, 'mia_lira_online_auc'), 3)}; {len(apart(lira, 1))} of {len(lira)} methods are above 0, among"
        f" them fine-tuning {gap(lira.loc['finetune'], 3)} and MeGU {gap(lira.loc['megu'], 3)}. An attack that does not"
        " see the original's memory says nothing of what is left of it."
    )


def grid(data):
    r"""More classes: the cells of CIFAR-100 in the small grid, as a Markdown table."""
    rows = read_grid(data, "small")[0]
    names = ("original", "retrain", "finetune", "megu", "megu-random-labels", "megu-no-noise")
    lines = []
    for cell in CELLS:
        means = summary(rows.query("dataset == 'cifar100' and forget == @cell")).set_index(["metric", "method"])
        for metric, text, digits in (("acc_forget_test", "named right, %", 0), ("tow", "ToW", 2)):
            found = (means.loc[(metric, name), ["mean", "half_width"]] for name in names)
            lines.append([f"{cell}: {text}", *(number(*one, digits) for one in found)])
    return markdown.table(["CIFAR-100", *(title(name) for name in names)], lines)


def of_grid(data):
    r"""What the table of `grid` is."""
    a, b = method_settings("megu", resolve()).noise.weights
    return (
        "**More classes.** Forgotten test images that are named right, and ToW, of a small ResNet on a part of"
        f" CIFAR-100, with the default's weights ({a:g} of the positive, {b:g} of the negative noise), from Fashion:"
    )


def printed(data):
    r"""Eq. 11 on CIFAR-100: value by value, since two seeds have no interval to speak of."""
    rows = table(data, "ablation_cifar100").set_index(["metric", "point", "variant"])["value"]
    variants = {
        ("default", "as tuned"): "default",
        ("A10", "eq. 11"): "eq. 11 as printed",
        ("A15", "eq. 11, lambda 1"): "lambda 1",
        ("A15", "eq. 11, lambda 10"): "lambda 10",
        ("noise", "pos"): "positive noise alone",
        ("A16", "clean images too"): "default and clean images",
        ("noise", "none"): "labels alone",
    }

    def said(metric, key, digits):
        return ", ".join(f"{value:.{digits}f}" for value in rows.loc[(metric, *key)])

    each = "; ".join(
        f"{words}: {said('acc_forget_test', key, 0)} % ({said('tow', key, 2)})" for key, words in variants.items()
    )
    shirt = ablated(data).loc[("A10", "eq. 11")]
    return (
        f"**Does eq. 11 forget?** As printed, {shirt.loc['acc_forget_test', 'mean']:.0f} % of the test images of"
        f" {forgotten()} are named right, ToW {change(shirt.loc['tow'])} against the default. Rocket of CIFAR-100, as"
        f" below, named right (ToW) for seeds {source(data, 'ablation_cifar100_source')['numbers']} - {each}."
    )


def main_findings(data):
    r"""The bullets of README.md, and a table."""
    return f"{bullets(*(make(data) for make in (forgetting, ranking, parts, printed, of_grid)))}\n{grid(data)}"
