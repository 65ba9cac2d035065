r"""What the tracked tables say about patterns: is the measure right, what is entangled, what does a noise activate?"""

from scipy import stats
from shared.drawing import source
from shared.findings import forgotten
from shared.tracked import bullets, listed, table

from megu.figures import markdown

SIGNS = ("positive", "negative")


def recovered(data):
    r"""The entanglement index where the true overlap is known."""
    last = table(data, "truth_recovery").groupby("seed").last()
    units = table(data, "truth_units").groupby("seed")[["reacting", "found", "both", "found_permuted"]].sum()
    precision, recall = units["both"] / units["found"], units["both"] / units["reacting"]
    return (
        f"**Is the measure right?** On images whose parts are known ({len(last)} seeds,"
        f" {source(data, 'truth_source')['threads']} thread): rank correlation of the index with the true overlap"
        f" {listed(f'{rho:.2f}' for rho in last['rho'])} (lower ends {last['low'].min():.2f} or more; permuted labels"
        f" {last['null_low'].min():.2f} to {last['null_high'].max():.2f}). Units that react to a part are found with"
        f" precision {precision.min():.2f} to {precision.max():.2f} and recall {recall.min():.2f} to"
        f" {recall.max():.2f}; with permuted labels {units['found_permuted'].sum()} are. The form of the index and of"
        " these images was chosen while looking at these seeds, so they are not fresh."
    )


def relatives(data):
    r"""Which classes are entangled with the forgotten one, and at which depth."""
    concept = forgotten()
    mine = table(data, "entanglement").query("class_a == @concept")
    last = mine[mine["layer"] == "head input"].sort_values("index", ascending=False)
    near, far = last.iloc[0], last.iloc[-1]
    named = listed(
        f"{row.class_b} {row.index_:.2f}" for row in last.rename(columns={"index": "index_"}).head(3).itertuples()
    )
    other = near["class_b"]
    depth = listed(
        f"{layer} {value:.2f}" for layer, value in mine[mine["class_b"] == other].set_index("layer")["index"].items()
    )
    return (
        f"**Relatives of {concept}**: {named}; farthest {far['class_b']} {far['index']:.2f}. {concept} and {other}: 95"
        f" % from {near['low']:.2f} to {near['high']:.2f}, permuted labels {near['null_low']:.2f} to"
        f" {near['null_high']:.2f}, {near['shared']} units of the last layer serve both, {near['only_a']} {concept}"
        f" alone of the two. By layer: {depth}."
    )


def noises(data):
    r"""What the noises are taken for, and which brings the perturbing class, beside the same pixels shuffled."""
    strength, meaning = table(data, "noise").set_index("noise"), _meaning(data)
    chance, of = 1 / table(data, "entanglement")["class_a"].nunique(), meaning.columns[-1]
    positive, negative = (next(name for name in meaning.index if name.startswith(kind)) for kind in SIGNS)
    return (
        "**What the noises mean.** The original takes the positive noise for the perturbing class with probability"
        f" {strength.loc['positive', 'perturbing class']:.2f} (shuffled"
        f" {strength.loc['positive, shuffled', 'perturbing class']:.2f}, chance {chance:.1f}) and the negative noise"
        f" for the forgotten class with {strength.loc['negative', 'forgotten class']:.2f} (shuffled"
        f" {strength.loc['negative, shuffled', 'forgotten class']:.2f}). Patterns {of}: the positive noise"
        f" {meaning.loc[positive, of]:+.1f}, the negative {meaning.loc[negative, of]:+.1f}; the pair brings forget"
        f" images from {meaning.loc['forget images', of]:+.1f} to {meaning.loc['with the pair', of]:+.1f}, its pixels"
        f" shuffled to {meaning.loc['with the pair, shuffled', of]:+.1f} (table below). One run, one seed: another"
        " training of the same seed can move the unique ones the other way."
    )


def _meaning(data):
    found = table(data, "noise_meaning")
    wide = found.pivot(index="input", columns="patterns", values="mean")
    return wide.loc[found["input"].unique(), found["patterns"].unique()]


def activated(data):
    r"""Markdown: mean response of patterns to the noises and to forget images."""
    rows = [[name, *(f"{value:+.1f}" for value in row)] for name, row in _meaning(data).iterrows()]
    said = "mean response in standard deviations of ordinary images"
    return markdown.table([f"input ({said})", *_meaning(data).columns], rows)


def score(data):
    r"""Does the disentanglement score rank methods as the reaction to known parts does?"""
    found = table(data, "truth_forgetting")

    def rank(measure, known, sign):
        return [stats.spearmanr(part[measure], sign * part[known]).statistic for _, part in found.groupby("seed")]

    gone, kept = rank("suppressed", "unique", -1), rank("kept", "shared", 1)
    means = found.groupby("method")[["unique", "shared", "acc_forget"]].mean()
    said = listed(
        f"{name} {means.loc[name, 'unique']:.2f} and {means.loc[name, 'shared']:.2f}"
        for name in ("retrain", "megu", "finetune", "amnesiac")
    )
    left = listed(f"{name} {means.loc[name, 'acc_forget']:.0f} %" for name in ("megu", "finetune", "retrain"))
    return (
        f"**Is the score right?** Over {found['method'].nunique()} methods on known parts, rank correlation of"
        f" *suppressed* (aligned) with what is gone of the reaction to the unique part: {min(gone):.2f} to"
        f" {max(gone):.2f} (by seed); of *kept* with what is left of the reaction to shared parts: {min(kept):.2f} to"
        f" {max(kept):.2f}. Left of both reactions: {said}. There, with values tuned for {forgotten()}, class A's test"
        f" images are still named by {left}."
    )


def predictions(data):
    r"""What the forget images are taken for."""
    share = table(data, "predictions").groupby(["method", "label"])["share"].mean()
    said = []
    for name in ("retrain", "megu", "megu-no-noise"):
        most = share[name].sort_values(ascending=False).head(3)
        said.append(f"{name}: {', '.join(f'{label} {value:.0f} %' for label, value in most.items())}")
    return f"**What forget images are taken for**, mean over the seeds: {'; '.join(said)}."


def pattern_findings(data):
    r"""The bullets on patterns of paper_figures/README.md."""
    made = (make(data) for make in (recovered, relatives, noises, predictions, score))
    return f"{bullets(*made)}\n{activated(data)}\n"
