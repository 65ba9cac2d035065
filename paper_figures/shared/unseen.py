r"""Own models on images that no choice was made on: what holds, what does not, and whether the verdict says so."""

from shared.drawing import read, source
from shared.tracked import bullets, listed, title

from megu.figures import markdown

NEAR = {"forget": 3.0, "retain": 2.0}  # points from the retrained model
SHOWN = ("forget_train", "forget_test", "retain_test")
HEAD = (
    "model",
    "request",
    "method",
    "forgotten, training",
    "forgotten, unseen",
    "retained, unseen",
    "near",
    "verdicts",
)
NETWORKS = {"lite0": "EfficientNet-Lite0, pretrained", "vit": "small ViT, from scratch"}


def judged(row):
    r"""How near a row is to the retrained model, and whether its verdict says so.

    *near*: forget accuracy (of training and of unseen images) within 3 points, retained test accuracy within 2.
    ``verdict``: *right* where it is silent about no miss; a loss alone is one on retained images.  *Wrong* where it is
    silent though the interval of the paired difference leaves the tolerated points out, or says *partly* or *not
    forgotten* of what is near.  *Unsure* where it is silent about a miss that so few images do not show.
    """
    parts = [part for part in SHOWN[:2] if f"{part}_gap" in row]
    gaps = [abs(row[f"{part}_gap"]) for part in parts]
    at_least = [max(row[f"{part}_gap_low"], -row[f"{part}_gap_high"]) for part in parts]
    lost, least = -row["retain_test_gap"], -row["retain_test_gap_high"]
    blamed = row["forgetting"] not in (None, "forgotten")
    near = {"forget": all(gap <= NEAR["forget"] for gap in gaps), "retain": abs(lost) <= NEAR["retain"]}
    silent = {
        "forget": not near["forget"] and not blamed and row["trace"] != "trace",
        "retain": lost > NEAR["retain"] and row["utility"] == "kept",
    }
    sure = {"forget": any(gap > NEAR["forget"] for gap in at_least), "retain": least > NEAR["retain"]}
    wrong = any(silent[part] and sure[part] for part in NEAR)
    wrong |= row["forgetting"] in ("partly", "not forgotten") and near["forget"]
    verdict = "wrong" if wrong else "unsure" if any(silent.values()) else "right"
    return {"near_forget": near["forget"], "near_retain": near["retain"], "verdict": verdict}


def rows_of(data):
    r"""The table's rows of seeds that have every cell; all where none has."""
    table, seeds = read(data, "unseen"), source(data, "unseen_source")["seeds"]
    return table[table["seed"].isin(seeds)] if seeds else table


def _beside(part, name):
    after, goal = part[name].mean(), part[f"{name}_retrain"].mean()
    return "-" if after != after else f"{after:.1f} ({goal:.1f})"


def _count(rows):
    return f"{int(rows.sum())} of {len(rows)}"


def table(rows):
    r"""A line for each model, request and method: means over the seeds, in brackets the retrained model's."""
    lines = []
    for (model, request, method), part in rows.groupby(["model", "request", "method"], sort=False):
        near = part["near_forget"] & part["near_retain"]
        said = (part["word"] + "*: " + part["verdict"]).value_counts()
        words = listed(f"*{word}{f' (x {count})' * (count > 1)}" for word, count in said.items())
        shown = (_beside(part, name) for name in SHOWN)
        lines.append([NETWORKS.get(model, model), request, title(method), *shown, _count(near), words])
    return markdown.table(HEAD, lines)


def verdicts(rows):
    r"""How many verdicts are right, and which are not."""
    wrong, unsure = (rows[rows["verdict"] == word] for word in ("wrong", "unsure"))
    which = listed(
        f"{NETWORKS.get(one.model, one.model)}, {one.request}, {title(one.method)}, seed {one.seed} (*{one.word}*)"
        for one in wrong.itertuples()
    )
    return (
        f"**Does the verdict say so?** It names every miss in {_count(rows['verdict'] == 'right')} cells. In"
        f" {len(unsure)} it is silent about a miss that so few images do not show: the interval of the difference"
        f" includes a tolerated one. Wrong: {which}."
    )


def page(data):
    r"""The section."""
    about, rows = source(data, "unseen_source"), rows_of(data)
    both, megu = rows["near_forget"] & rows["near_retain"], rows["method"].eq("megu")
    limits = f"{NEAR['forget']:g} points (forgotten) and {NEAR['retain']:g} points (retained)"
    counted = listed(
        f"{name} {_count(both[own])} (forgotten alone {_count(rows['near_forget'][own])}, retained alone"
        f" {_count(rows['near_retain'][own])})"
        for name, own in (("MeGU", megu), ("the recommended method", ~megu))
    )
    asked = {request: title(name) for request, name in about["recommended"].items()}
    seeds = f"seed{'s' * (rows['seed'].nunique() > 1)} {listed(map(str, rows['seed'].unique()))}"
    seeds += "" if about["seeds"] else f" (not finished, cells: {about['cells']})"
    epochs = listed(f"{name} {recipe['epochs']}" for name, recipe in about["recipes"].items())
    made = (
        f"CIFAR-100 at {about['pixels']} px: {len(about['classes'])} superclasses as classes, two classes of each as"
        f" sub-classes; {about['train']} training and {about['test']} unseen images, {seeds}, `tune={about['tune']}`,"
        f" `{about['command']}`. Epochs of the models' own training: {epochs}; of the EfficientNet the last"
        " block, the last convolution and a new head were trained"
    )
    said = bullets(
        f"**Within {limits} of the retrained model**, both at once: {counted} cells. Elsewhere the table"
        " says how far off it is.",
        verdicts(rows),
        f"**What it is.** {made}. Recommended, by the first table above as it was before this measurement:"
        f" {listed(f'{request} {name}' for request, name in asked.items())}. No class that is forgotten here was"
        " forgotten there, but its cells of CIFAR count images of these classes among the retained.",
    )
    return (
        f"{table(rows)}\n\nPercent named right, mean over the seeds; in brackets by the retrained model. *Near*: in how"
        f" many seeds all three are within the limits.\n\n{said}"
    )
