r"""What the tracked tables say about methods: each number is read from a table, each list made by a stated rule."""

import numpy as np
from shared import sure
from shared.drawing import read, source
from shared.grid import read_grid
from shared.rulers import places
from shared.tracked import (
    ablated,
    apart,
    bullets,
    change,
    compared,
    concept,
    gap,
    listed,
    table,
    time_share,
    title,
)  # fmt: skip

from megu.figures import markdown
from megu.figures.markdown import contenders, number, place
from megu.measure.summary import summary
from megu.methods import method_settings
from megu.settings.profiles import resolve

AWAY = "95 % interval leaves 0 out"
LOG = "paper_figures/README.md"
WORDS, RULERS, EQ11 = (f"{LOG}#{title}" for title in ("words", "the-place-changes-with-the-ruler", "does-eq-11-forget"))
BEFORE = "without the check (A16)"  # how the grids of CIFAR were measured
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


def span_of(values, digits=1, before=""):
    r"""Text of the smallest and the largest value."""
    return f"{before}{min(values):.{digits}f} to {max(values):.{digits}f}"


def forgetting(data):
    r"""Forgotten test images, retained accuracy and time."""
    left = {name: mean_of(data, "class", "acc_forget_test", name) for name in ("megu", "original", "retrain")}
    kept, share = compared(data).loc[("class", "acc_retain_test")], time_share(data)
    return (
        f"**Forgetting and its price.** Of the test images of {forgotten()} MeGU still names {left['megu']} % right"
        f" (original {left['original']}, retrained {left['retrain']}), after {share['megu']:.0f} % of the time of"
        f" retraining, and {share['megu'] + share['guide']:.0f} % with the guide. Retained"
        f" test accuracy, points from the retrained model's: MeGU"
        f" {gap(kept.loc['megu'])}, the original {gap(kept.loc['original'])}, fine-tuning on retain images alone"
        f" {gap(kept.loc['finetune'])} in {share['finetune']:.0f} %."
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
        f"**Nearest to retraining** by tug-of-war (ToW, 1 = as retrained: see the [words]({WORDS})): {first}. MeGU,"
        f" {number(megu['mean'], megu['half_width'], 3)}, is {place(tow.index)} methods, MeGU without noise and with"
        f" random labels among them. [By other rulers]({RULERS}) that find the original it is"
        f" {span_of(places(data), 0, 'number ')}."
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
        f" {gap(kept.loc['megu'])}. Change of ToW against MeGU of the same seed: {changes}. An interval with 0 does not"
        " tell the two apart. Amnesiac was tuned for itself; the variants have MeGU's settings, tuned with noise, so"
        " that a part of what the noise adds may come from this."
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
    so = " So what is near by the ranking need not share anything." if mean[None] < 0.1 < mean["nearest"] else ""
    return (
        f"**Near enough to keep what is shared?** With tau = {tau} images of {name} are pushed to {named}; the"
        f" [index](#words) says how entangled a class is with {name}. Its mean over the labels that are used"
        f" is {mean[None]:+.2f}; over each image's nearest class it would be {mean['nearest']:+.2f}, over its"
        f" farthest {mean['farthest']:+.2f}.{so}"
    )


def attacks(data):
    r"""Two attacks, two rankings."""
    names = ("mia_loss_auc", "mia_lira_online_auc")
    loss, lira = (rows_of(data, "class", metric) for metric in names)
    goals = [mean_of(data, "class", metric, "retrain", 3) for metric in names]
    first, second = (gap(of(data, metric), 3) for metric in names)
    above = f"{len(apart(lira, 1))} of {len(lira)} methods have a gap above 0"
    return (
        "**Two attacks.** An attack must find the original; the retrained model is the goal, and the unseen images are"
        " what forget images are told from. Gap of the AUC to the retrained model's, class-wise. Loss attack (retrained"
        f" {goals[0]}): it does not see the original, {first}, so it says nothing of what is left; above 0 ({AWAY}) are"
        f" {gaps_of(apart(loss, 1), 3)}; MeGU {gap(loss.loc['megu'], 3)}. Likelihood-ratio attack (LiRA, online;"
        f" retrained {goals[1]}): the original {second}; {above}, among them fine-tuning"
        f" {gap(lira.loc['finetune'], 3)} and MeGU {gap(lira.loc['megu'], 3)}. That the retrained model is below a coin"
        " is not explained here; images and shadow models are the same for every seed, so that the interval leaves"
        " their choice out."
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
        f" CIFAR-100, with the weights tuned on Fashion ({a:g} of the positive, {b:g} of the negative noise), {BEFORE}:"
    )


def rocket(data, metric="acc_forget_test", digits=0):
    r"""Function of (point, variant) of the ablation on CIFAR-100 to its values, seed by seed: two have no interval."""
    values = table(data, "ablation_cifar100").set_index(["metric", "point", "variant"])["value"].sort_index()
    return lambda *key: ", ".join(f"{value:.{digits}f}" for value in values.loc[(metric, *key)])


def printed(data):
    r"""Eq. 11, and what the check does where it does not forget."""
    shirt, left = ablated(data).loc[("A10", "eq. 11")], rocket(data)
    (name,) = source(data, "ablation_cifar100_source")["forget"]["classes"]
    return (
        f"**Does eq. 11 forget?** As printed, {shirt.loc['acc_forget_test', 'mean']:.0f} % of the test images of"
        f" {forgotten()} are named right, ToW {change(shirt.loc['tow'])} against the tuned weights; but"
        f" {left('A10', 'eq. 11')} % of {name} of CIFAR-100, one seed each, and {left('A16', 'not checked')} % with the"
        " tuned weights: the pair hides the images. Labels"
        f" alone leave {left('noise', 'none')} %. MeGU's default looks, and trains once more where too much is left:"
        f" {left('default', 'as tuned')} %, no better than labels alone ([variants, weights]({EQ11})).{sure.said(data)}"
    )


def variants(data):
    r"""Markdown: other weights and uses of the pair on CIFAR-100, value by value."""
    noise, lines = method_settings("megu", resolve()).noise, []
    left, tow = rocket(data), rocket(data, "tow", 2)
    (a, b), eq11, seeds = noise.weights, "0.7, 0.3", source(data, "ablation_cifar100_source")["numbers"]
    variants = {
        ("A16", "not checked"): ("as tuned on Fashion, not checked", f"{a:g}, {b:g}", noise.lam),
        ("A10", "eq. 11"): ("eq. 11 as printed", eq11, noise.lam),
        ("A15", "eq. 11, lambda 1"): ("eq. 11, stronger penalty", eq11, 1),
        ("A15", "eq. 11, lambda 10"): ("eq. 11, stronger penalty", eq11, 10),
        ("noise", "random"): ("the tuned pair, its pixels shuffled", f"{a:g}, {b:g}", noise.lam),
        ("noise", "pos"): ("positive noise alone", f"{a:g}, 0", noise.lam),
        ("noise", "none"): ("labels alone", "0, 0", "-"),
        ("default", "as tuned"): ("**the default**: as tuned, and checked", f"{a:g}, {b:g}", noise.lam),
    }
    for key, (words, weights, lam) in variants.items():
        lines.append([words, weights, f"{lam}", left(*key), tow(*key)])
    head = ["variant", "weights of N_pos, N_neg", "lambda", f"named right, %, seeds {seeds}", "ToW"]
    return markdown.table(head, lines)


def main_findings(data):
    r"""The bullets of README.md, and a table."""
    return f"{bullets(*(make(data) for make in (forgetting, ranking, parts, printed, of_grid)))}\n{grid(data)}"
