r"""What the tracked tables say beside README.md: attacks, patterns, sub-classes, single images, the ablation."""

from shared.drawing import source
from shared.findings import AWAY, attacks, gaps_of, labels, mean_of, rows_of, span_of
from shared.grid import read_grid
from shared.tracked import ablated, apart, bullets, change, compared, disentangled, gap, listed, title

from megu.figures.markdown import number
from megu.measure.summary import summary


def over_forgetting(data):
    r"""The compat attack: below the retrained model's member rate."""
    rate = rows_of(data, "class", "mia_ssd_member_rate")
    return (
        "**Lower is not better.** The public code's attack calls"
        f" {mean_of(data, 'class', 'mia_ssd_member_rate', 'retrain')} % of the forget images members for the retrained"
        f" model, and {mean_of(data, 'class', 'mia_ssd_member_rate', 'original')} % for the original, which forgot"
        f" nothing: so it does not see the original. Below the retrained model ({AWAY}), in points:"
        f" {gaps_of(apart(rate, -1), 1)}. A column in which lower is better would call these the winners."
    )


def memory(data):
    r"""What a forget accuracy of 0 hides."""
    steps, probe = (rows_of(data, "class", metric) for metric in ("relearn_steps", "probe_forget_acc"))
    return (
        f"**What a forget accuracy hides.** Relearning the class takes {span_of(steps['mean'], 0)} steps after"
        f" unlearning and {mean_of(data, 'class', 'relearn_steps', 'retrain', 0)} after retraining; a linear probe on"
        f" frozen features names {span_of(probe['mean'], 0)} % of the forgotten test images, for the retrained models"
        f" {mean_of(data, 'class', 'probe_forget_acc', 'retrain', 0)} %."
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
        "**Unique patterns, read through a linear map** (aligned: see [words](#words)): retraining suppresses"
        f" {number(both['retrain']['mean'], both['retrain']['half_width'], 2)} of them, MeGU"
        f" {number(both['megu']['mean'], both['megu']['half_width'], 2)}; next to retraining: {first}. In place,"
        f" suppressed and kept: MeGU {said}; fine-tuning {place['finetune']:.2f} and {kept['finetune']:.2f}."
    )


def subclass(data):
    r"""Sub-class forgetting: to do no harm."""
    left = rows_of(data, "subclass", "acc_forget_train", "original")
    return (
        "**Inside a superclass.** The retrained model still names"
        f" {mean_of(data, 'subclass', 'acc_forget_train', 'retrain')} % of the forgotten training images by their"
        f" superclass, the original {mean_of(data, 'subclass', 'acc_forget_train', 'original')} %; their difference is"
        f" what there is to forget. Away from the retrained model ({AWAY}), in points: {gaps_of(apart(left), 1)}. MeGU:"
        f" {gap(left.loc['megu'])}."
    )


def random(data):
    r"""Random images: attacks whose interval leaves 0 out."""
    names = {
        "mia_loss_auc": "loss",
        "mia_entropy_auc": "entropy",
        "mia_lira_online_auc": "LiRA online",
        "mia_lira_offline_auc": "LiRA offline",
    }
    away = listed(
        f"{words}: {gaps_of(apart(rows_of(data, 'random', metric)), 3)}" for metric, words in names.items()
    ).replace(", LiRA", "; LiRA")
    forget = compared(data).loc[("random", "acc_forget_train")]
    originals = {
        words: rows_of(data, "random", metric, "original").loc[["original"]] for metric, words in names.items()
    }
    seen = listed(words for words, row in originals.items() if len(apart(row, 1)))
    return (
        "**Random images.** Accuracy on the forgotten images: retrained"
        f" {mean_of(data, 'random', 'acc_forget_train', 'retrain')} %, original from it {gap(forget.loc['original'])}"
        f" points; attacks that tell the original from it: {seen}. Attacks whose AUC is away from the retrained"
        f" model's ({AWAY}), {away.replace(', entropy', '; entropy')}."
    )


def ablation(data):
    r"""All changes of the ablation whose interval leaves 0 out."""
    tow = ablated(data).xs("tow", level="metric").drop(index=["default", "retrain"], level="point")
    away, twice = apart(tow, value="change").sort_values("change"), tow["change"].round(9).duplicated().sum()
    named = listed(f"{point}: {variant} {change(row)}" for (point, variant), row in away.iterrows())
    return (
        f"**One thing at a time.** Of {len(tow)} changes ({twice} has two names: tau 0.1 takes the nearest class),"
        f" {len(away)} move ToW against MeGU of the same seed ({AWAY}; not corrected for their number): {named}."
        " All other intervals include 0."
    )


def superclasses(data):
    r"""Sub-classes and random images in the grid."""
    rows = read_grid(data, "small")[0].query(
        "dataset == 'cifar20' and scenario == 'subclass' and arch == 'resnet-small'"
    )
    said = []
    for cell, part in rows.groupby("forget", sort=False):
        means = summary(part).set_index(["metric", "method"]).loc["acc_forget_test"]["mean"]
        said.append(
            f"{cell}"
            f" {listed(f'{title(name)} {means[name]:.0f} %' for name in ('original', 'retrain', 'finetune', 'megu'))}"
        )
    return f"**Sub-classes of CIFAR-20**, forgotten test images still named by their superclass: {'; '.join(said)}."


def variants(data):
    r"""Settings of the public code against ours, cell by cell."""
    rows, out = read_grid(data, "small")[0].query("metric == 'tow'"), []
    means = rows.groupby(["arch", "dataset", "scenario", "forget", "method"])["value"].mean().unstack()
    for ours, theirs in (("ssd", "ssd-code"), ("unsir", "unsir-ssd")):
        if theirs not in means:
            out.append(f"{title(theirs)}: not measured")
            continue
        more = (means[theirs] - means[ours]).dropna()
        out.append(
            f"{title(theirs)} against {title(ours)}: ToW higher in {(more > 0).sum()} of {len(more)} cells"
            f" ({more.min():+.2f} to {more.max():+.2f})"
        )
    return f"**Settings of the public code**: {'; '.join(out)}."


def more_findings(data):
    r"""The bullets of paper_figures/README.md that README.md has not."""
    every = (labels, attacks, over_forgetting, memory, patterns, subclass, random, ablation, superclasses, variants)
    return bullets(*(make(data) for make in every))


def _devices(named):
    return named if isinstance(named, str) else " and ".join(named)


def made(data):
    r"""How the tables were made."""
    names = {
        "comparison_source": "methods",
        "ablation_source": "ablation",
        "disentanglement_all_source": "patterns",
        "source": "notebooks",
        "grid_small_source": "parts of CIFAR",
        "grid_fast_source": "all of CIFAR-100",
    }
    made = listed(
        f"{words} ({_devices(source(data, name)['device'])}, torch {source(data, name)['torch']})"
        for name, words in names.items()
    )
    return f"Made on: {made}.\n"
