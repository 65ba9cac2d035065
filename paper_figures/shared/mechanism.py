r"""When does the noise pair help, when does it hide the image, and does the guide matter?"""

from scipy import stats
from shared.drawing import read, request, source

from megu.figures import markdown
from megu.figures.markdown import number
from megu.measure.summary import half_width

ALONE, PRINTED = "no noise", "lambda 0.1"  # eq. 11 as printed, with the public code's lambda
HIDDEN, LEFT = "noised_named", "acc_forget_train"


def over_strengths(data):
    r"""A row for each original (``point``: its epochs), pair of eq. 11 (``pair``), labels (``guided``: the guide's, or
    random ones) and seed, a column for each metric; ``known``: percent of the forget images that the original names."""
    found, keys = read(data, "mechanism"), ["point", "seed"]
    known = found.query("method == 'original' and metric == @LEFT").set_index(keys)["value"].rename("known")
    ours = found[found["method"] == "megu"]
    wide = ours.pivot_table(index=[*keys, "variant"], columns="metric", values="value", sort=False).reset_index()
    said = wide["variant"].str.split(", ", expand=True)
    return wide.join(known, on=keys).assign(pair=said[0], guided=said[1] == "guided")


def _less(rows, by, usual, metric):
    # By original, pair, labels and seed: a metric, less that of the ``usual`` value of the column ``by``.
    wide = rows.set_index(["point", "pair", "guided", "seed"])[metric].unstack(by)
    return wide.sub(wide[usual], axis=0).drop(columns=usual).stack()


def _range(values):
    return f"{values.min():.0f} to {values.max():.0f}"


def _both(part, pair):
    # ToW with the guide's labels and with random ones
    tow = part[part["pair"] == pair].groupby("guided")["tow"].mean()
    return f"{tow[True]:.2f} / {tow[False]:.2f}"


def _counts(part):
    # In how many settings ToW is larger, and smaller, than by labels alone: guide's labels / random ones
    settings = _less(part, "pair", ALONE, "tow").groupby(["guided", "pair"])
    change, reach = settings.mean(), settings.apply(half_width).fillna(0)
    larger, smaller = ((one > reach).groupby("guided").sum() for one in (change, -change))
    return f"{larger[True]}, {smaller[True]} / {larger[False]}, {smaller[False]}"


def labels_alone(data):
    r"""A sentence, where on every original labels alone lose ToW by the guide's labels and not by random ones."""
    rows = over_strengths(data)
    rows = rows[rows["pair"] == ALONE]
    apart = _less(rows, "guided", True, "tow").groupby("point")
    if not (apart.mean() > apart.apply(half_width)).all():
        return ""
    guided, random = (rows[rows["guided"] == kind].groupby("point")["tow"].mean() for kind in (True, False))
    ends, others = (f"{one.min():.2f} to {one.max():.2f}" for one in (guided, random))
    return (
        " [What it makes up for](paper_figures/README.md#when-does-the-pair-help) is the cost of the guide's labels:"
        f" alone ToW {ends}, random ones {others}."
    )


def said(data):
    r"""Markdown: the answers of ``mechanism.csv``, a line for each original."""
    rows, about, lines = over_strengths(data), source(data, "mechanism_source"), []
    for epochs, part in rows.groupby("point"):
        means = part[part["pair"] != ALONE].groupby(["pair", "guided"])[[HIDDEN, LEFT]].mean()
        flat = means[LEFT].round(1).nunique() == 1
        rank = "-" if flat else f"{stats.spearmanr(means[HIDDEN], means[LEFT]).statistic:.2f}"
        other = _less(part, "guided", True, "tow").groupby("seed").mean()
        lines.append([
            f"{epochs}", f"{part['known'].mean():.0f}", _range(means[HIDDEN]), _range(means[LEFT]), rank,
            _both(part, ALONE), _both(part, PRINTED), _counts(part), number(other.mean(), half_width(other), 3, "+"),
        ])  # fmt: skip
    head = [
        "epochs of the original", "forget images known, %", "still named with the pair, %", "left by MeGU, %",
        "rank correlation of both", "ToW, labels alone", "ToW, eq. 11", "pair better, worse", "random labels, ToW",
    ]  # fmt: skip
    seeds = rows["seed"].nunique()
    how = "the 95 % interval over the seeds, paired" if seeds > 1 else "any difference of one seed"
    return (
        f"{markdown.table(head, lines)}\n\nPairs of numbers: with the guide's labels / with random ones. Still named,"
        f" left, and their correlation: over {len(means)} settings of pair and labels, means over the seeds. Pair"
        f" better, worse: in how many of {len(means) // 2} pairs ToW is larger, smaller than by labels alone, by {how}."
        " Random labels: what they change in place of the guide's, mean over all pairs and labels alone. `make"
        f" mechanism`: {request(about)}."
    )
