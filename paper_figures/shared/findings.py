r"""What the tracked tables say about methods: each number is read from a table, each list made by a stated rule."""

import numpy as np
from shared import cifar100, hidden, mechanism
from shared.drawing import read, source
from shared.rulers import standings
from shared.tracked import (
    ablated,
    apart,
    bullets,
    change,
    compared,
    concept,
    end,
    gap,
    listed,
    time_share,
    title,
)  # fmt: skip

from megu.core.splits import make_split
from megu.datasets.sources import load
from megu.figures.markdown import contenders, number, place
from megu.measure.attacks import auc_variance
from megu.methods import method_settings
from megu.methods.goal import LEFT
from megu.settings.errors import MeguError
from megu.settings.profiles import resolve

AWAY = "95 % interval leaves 0 out"
LOG = "paper_figures/README.md"
WORDS, RULERS, EQ11 = (f"{LOG}#{title}" for title in ("words", "the-place-changes-with-the-ruler", "does-eq-11-forget"))
VARIANTS = {
    ("noise", "none"): "no noise",
    ("noise", "random"): "shuffled noise",
    ("A12", "labels: random"): "random labels",
    ("A12", "guide: shuffled"): "a guide with exchanged labels",
}
CIFAR = (("A10", "eq. 11"), ("A16", "not checked"), ("noise", "none"), ("default", "as tuned"))
FAST = 50  # percent of the time of retraining, at most, to be called fast


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


def bold(words, holds):
    r"""What a finding says, in words, as long as its numbers bear them.  Raises: MeguError."""
    if not holds:
        raise MeguError(f"the tables no longer bear {words!r}: word this finding of shared/findings.py anew")
    return f"**{words}**"


def forgetting(data):
    r"""Forgotten test images, retained accuracy and time."""
    left = {name: mean_of(data, "class", "acc_forget_test", name) for name in ("megu", "original", "retrain")}
    kept, share = compared(data).loc[("class", "acc_retain_test")], time_share(data)
    whole, far = share["megu"] + share["guide"], of(data, "acc_forget_test", "megu")["gap"]
    holds = far <= LEFT and whole < FAST
    more = ", and loses some retained accuracy to it" if end(kept.loc["megu"], 1) < 0 else ""
    said = f"MeGU forgets {forgotten()} in a fraction of the time of retraining{more}."
    return (
        f"{bold(said, holds)} MeGU still names {left['megu']} % of the test images of {forgotten()} right (original"
        f" {left['original']}, retrained {left['retrain']}), after {share['megu']:.0f} % of the time of retraining,"
        f" {whole:.0f} % with the guide. Its retained test accuracy is {gap(kept.loc['megu'])} points from the"
        f" retrained model's (original {gap(kept.loc['original'])}; fine-tuning on retain images alone"
        f" {gap(kept.loc['finetune'])}, in {share['finetune']:.0f} % of the time). {hidden.said(data)}"
    )


def ranked(data):
    r"""ToW of every method of the class-wise comparison, the nearest to retraining first; a head that is retrained on
    the original's features (the public code's "retrain") is no method of unlearning."""
    tow = compared(data).loc[("class", "tow")]
    return tow.loc[contenders(tow.index)].sort_values("mean", ascending=False)


def ranking(data):
    r"""MeGU among all methods, by tug-of-war and by other rulers."""
    tow, own = ranked(data), standings(data)["ToW"]
    value = {name: number(row["mean"], row["half_width"], 3) for name, row in tow.iterrows()}
    others = [one for one in standings(data).values() if one.sees]
    places, seeds = [one.place for one in others], [seed for one in others for seed in one.by_seed]
    first = listed(f"{title(name)} {text}" for name, text in value.items() if name in own.nearer) or "none"
    said, elsewhere = f"On {forgotten()} plain fine-tuning comes nearer to the retrained model.", cifar100.turned(data)
    if "finetune" in own.alike:  # then nothing is the other way
        said, elsewhere = f"On {forgotten()} MeGU and plain fine-tuning are not told apart.", ""
    return (
        f"{bold(said, 'finetune' in own.nearer + own.alike)} By tug-of-war"
        f" ([ToW]({WORDS}), 1 = as retrained) MeGU, {value['megu']}, is {place(tow.index)} methods; nearer (the paired"
        f" {AWAY}) are {first}. By [other measures]({RULERS}) that tell the original from the retrained model it is"
        f" {span_of(places, 0, 'number ')}, in single seeds {span_of(seeds, 0)}.{elsewhere}"
    )


def parts(data):
    r"""What labels and noise do, from the comparison and the ablation."""
    kept, tow = compared(data).loc[("class", "acc_retain_test")], ablated(data).xs("tow", level="metric")
    rows = tow.loc[list(VARIANTS)]
    holds = list(apart(rows, value="change").index) == list(apart(rows, -1, "change").index) == [("noise", "none")]
    said = "Noise keeps retained accuracy; neither its pattern nor the guide is seen to matter."
    changes = listed(f"{words} {change(rows.loc[key])}" for key, words in VARIANTS.items())
    return (
        f"{bold(said, holds)} Retained test accuracy, points from the retrained model's: MeGU {gap(kept.loc['megu'])},"
        f" with random labels {gap(kept.loc['megu-random-labels'])}, without noise {gap(kept.loc['megu-no-noise'])}"
        f" (settings tuned with noise). Change of MeGU's ToW: {changes} (0 inside:"
        f" not told apart).{mechanism.labels_alone(data)}"
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


def _coin():
    # (forgotten, unseen images of the default request; standard deviation of the AUC of a coin on them)
    settings = resolve()
    split = make_split(load(settings, "cpu"), settings)
    n, m = len(split.forget), len(split.test_forget)
    return n, m, auc_variance(np.array([n]), np.array([m]))(0.5) ** 0.5


def _finds(row):
    # An attack must find the original: does it?
    if end(row, -1) > 0:
        return f"it finds the original, {gap(row, 3)}"
    return f"it does not find the original, {gap(row, 3)}, so it says nothing of what is left"


def attacks(data):
    r"""Two attacks, two rankings."""
    names = ("mia_loss_auc", "mia_lira_online_auc")
    loss, lira = (rows_of(data, "class", metric) for metric in names)
    goals = [mean_of(data, "class", metric, "retrain", 3) for metric in names]
    first, second = (_finds(of(data, metric)) for metric in names)
    above = f"{len(apart(lira, 1))} of {len(lira)} methods are above 0"
    members, others, spread = _coin()
    return (
        "**Two attacks.** An attack must find the original; the retrained model is the goal, and the unseen images are"
        " what forget images are told from. Gap of the AUC to the retrained model's, class-wise. Loss attack (retrained"
        f" {goals[0]}): {first}; above 0 ({AWAY}) are {gaps_of(apart(loss, 1), 3)}; MeGU {gap(loss.loc['megu'], 3)}."
        f" Likelihood-ratio attack (LiRA, online, {source(data, 'comparison_source')['shadows']} shadow models;"
        f" retrained {goals[1]}): {second}; {above}; fine-tuning {gap(lira.loc['finetune'], 3)}, MeGU"
        f" {gap(lira.loc['megu'], 3)}. The AUC of a coin has a standard deviation of {spread:.3f} by the choice of"
        f" these {members} forgotten and {others} unseen images alone."
    )


def printed(data):
    r"""Eq. 11, and what the check does where it does not forget."""
    shirt, left = ablated(data).loc[("A10", "eq. 11", "acc_forget_test"), "mean"], cifar100.left(data)
    paper, tuned, labels, default = (left[key] for key in CIFAR)
    holds = min(paper + tuned) > LEFT + max(labels) and np.mean(default) >= np.mean(labels)
    about, said = source(data, "ablation_cifar100_source"), cifar100.seed_by_seed
    words = "On CIFAR-100 the noise pair hides images instead of forgetting them."
    return (
        f"{bold(words, holds)} With eq. 11 as printed it leaves {shirt:.0f} % of the test images of {forgotten()}"
        f" named right, but {said(paper)} % of"
        f" {about['forget']['classes'][0]} (seeds {about['numbers']}), and {said(tuned)} % with the tuned weights;"
        f" labels alone leave {said(labels)} %. So MeGU's default looks, and trains once more where too much is left:"
        f" {said(default)} %, no better than labels alone.{cifar100.said(data)}{cifar100.others(data)} [Variants,"
        f" weights, more classes]({EQ11})."
    )


def main_findings(data):
    r"""The bullets of README.md."""
    return bullets(*(make(data) for make in (forgetting, ranking, parts, printed)), width=158)
