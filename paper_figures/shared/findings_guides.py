r"""What the tracked tables say about guides: which classes they call alike, and whether forgetting depends on it."""

from shared.drawing import source
from shared.tracked import ablated, bullets, change, listed, table

from megu.figures import markdown
from megu.figures.markdown import number
from megu.measure.summary import over_seeds

UNSEEN = {"cifar100, 20 classes": "20 classes of CIFAR-100", "cifar10, 10 classes": "CIFAR-10"}
PAIRS = (("composed", "tiny"), ("composed", "features"), ("tiny", "features"))


def neighbours(data):
    r"""How many classes have a sensible nearest class."""
    found = table(data, "agreement")
    mean = found.groupby("guide", sort=False)[["hits", "shuffled", "p"]].mean()
    named = listed(
        f"{guide} {row['hits']:.1f}"
        for guide, row in mean.drop("shuffled").sort_values("hits", ascending=False).iterrows()
    )
    return (
        f"**Sensible neighbours** of {found['of'].max()} clothing classes, by a list written beforehand, mean over"
        f" {found['draw'].nunique()} draws of exemplars: {named}; exchanged labels {mean.loc['shuffled', 'hits']:.1f},"
        f" chance {mean['shuffled'].mean():.1f}. The tiny multimodal LLM was trained on images of these ten classes"
        " among others (not on the exemplars), and the classifier's own sources on all training images: their rank is"
        " not that of a guide that meets the classes for the first time."
    )


def agreement(data):
    r"""Rank correlation of two guides' orders of the other classes."""
    over = over_seeds(table(data, "concordance"), ["first", "second"], "order").set_index(["first", "second"])
    some = listed(
        f"{first} and {second} {number(*over.loc[(first, second), ['mean', 'half_width']], 2)}"
        for first, second in PAIRS
    )
    control = over.xs("shuffled", level="second")["mean"]
    return (
        f"**Do they agree?** Rank correlation of the other classes: {some}; exchanged labels and any other"
        f" {control.min():.2f} to {control.max():.2f}."
    )


def features(data):
    r"""Does T order the classes as the network's features do?"""
    found = (
        table(data, "view_agreement")
        .query("view == 'entanglement index'")
        .set_index("guide")
        .sort_values("order", ascending=False)
    )
    named = listed(
        f"{guide} {row['order']:.2f} ({row['low']:.2f} to {row['high']:.2f})" for guide, row in found.iterrows()
    )
    return (
        "**Do they see what the network sees?** Rank correlation of T with the entanglement index of notebook 01, 95 %"
        f" interval over the classes: {named}. Shuffled class names reach at most"
        f" {found['shuffled'].max():.2f} (over the guides)."
    )


def forgetting(data):
    r"""Does forgetting depend on the source?"""
    tow = ablated(data).xs("tow", level="metric").loc["A12"]
    named = listed(f"{variant.removeprefix('guide: ')} {change(row)}" for variant, row in tow.iterrows())
    seeds = len(source(data, "ablation_source")["seeds"])
    return (
        f"**Does forgetting depend on it?** Change of ToW against the composed guide of the same seed, {seeds} seeds:"
        f" {named}. Not measured: large multimodal LLMs, llm-names, and on CIFAR-100 any guide but the default."
    )


def tiny(data):
    r"""The tiny multimodal LLM on classes that it was not trained on."""
    found = table(data, "tiny_guide").set_index(["images", "guide", "what"])
    said = (f"{where}: {_beside(found.loc[images])}" for images, where in UNSEEN.items())
    return (
        "**The tiny multimodal LLM on images that it was not trained on**, AUC of the true against other labels, with"
        f" labels centred as MeGU uses them, and accuracy with these. {'; '.join(said)}."
    )


def _beside(found):
    guides = ("tiny", "composed")
    auc = listed(f"{guide} {found.loc[(guide, 'AUC, column-centred'), 'value'].item():.2f}" for guide in guides)
    rows = [found.loc[(guide, "accuracy, column-centred")].squeeze() for guide in guides]
    right = listed(
        f"{guide} {100 * row['value']:.1f} % ({100 * row['low']:.1f} to {100 * row['high']:.1f})"
        for guide, row in zip(guides, rows, strict=True)
    )
    return f"AUC {auc}; accuracy {right}, chance {100 * rows[0]['chance']:.0f}"


def guide_findings(data):
    r"""The bullets of megu/guide/README.md."""
    return bullets(*(make(data) for make in (neighbours, agreement, features, forgetting, tiny)))


def quality(data):
    r"""How good the tiny multimodal LLM is: a Markdown table beside the composed guide."""
    found = table(data, "tiny_guide")
    rows = []
    for (images, what), part in found.groupby(["images", "what"], sort=False):
        cells, draws = [], what == "sensible neighbours"
        for guide in ("tiny", "composed"):
            own = part[part["guide"] == guide]
            row, scale = own.iloc[0], 100 if what.startswith("accuracy") else 1
            digits, unit = (1, " %") if scale == 100 else (2, "")
            spread = f" ({scale * row['low']:.{digits}f} to {scale * row['high']:.{digits}f})"
            many = f"{listed(f'{value:.0f}' for value in own['value'])} of {row['of']}"
            cells.append(many if draws else f"{scale * row['value']:.{digits}f}{unit}{spread}")
        chance = part["chance"].mean() * (1 if draws or what.startswith("AUC") else 100)
        rows.append([images, what, *cells, f"{chance:.1f}"])
    return markdown.table(["images", "what", "tiny", "composed guide", "chance"], rows)
