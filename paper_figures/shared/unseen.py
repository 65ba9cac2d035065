r"""Own models on images that no choice was made on: what holds, what does not, and whether the verdict says so."""

from scipy.stats import binomtest
from shared.drawing import read, source
from shared.tracked import bullets, listed, title

from megu.figures import markdown
from megu.own.verdict import NEAR, verdict

PARTS = {"forget_train": "forget", "forget_test": "test_forget", "retain_test": "test_retain"}
COLUMNS = ("forgotten, training", "forgotten, unseen", "retained, unseen")
NETWORKS = {"lite0": "EfficientNet-Lite0, pretrained", "vit": "small ViT, from scratch"}


def row_of(cell, facts, retraining):
    """A row of the table; the verdict is that of today's rules on the report's numbers.

    Args: cell: model, request, seed, method.  facts: a deletion report with a reference.  retraining: its seconds.
    """
    said = verdict(*(facts[part] for part in ("asked", "accuracy", "changes", "attacks")), facts.get("lost", ()))
    percent = {(one["model"], one["part"]): one["percent"] for one in facts["accuracy"]}
    gaps = {one["part"]: one for one in facts["changes"] if (one["model"], one["than"]) == ("after", "reference")}
    shown, images, spent = {}, facts["asked"]["images"], facts["done"]["seconds"]
    for name, part in PARTS.items():
        for which, of in (("before", "_before"), ("after", ""), ("reference", "_retrain")):
            shown[f"{name}{of}"] = percent.get((which, part))
        for key, of in (("points", ""), ("low", "_low"), ("high", "_high")) if part in gaps else ():
            shown[f"{name}_gap{of}"] = gaps[part][key]
    own = sum(value for part, value in spent.items() if part not in ("reading", "evaluation", "search", "guide"))
    found = {
        **{key: cell[key] for key in ("model", "request", "seed", "method")},
        "forget": ", ".join(facts["asked"]["names"]) or f"{images} images", "images": images, **shown,
        "word": said["word"], **said["parts"],
        "seconds": round(own, 1), "seconds_search": round(spent["search"], 1), "seconds_retrain": retraining,
    }  # fmt: skip
    return found | judged(found)


def judged(row):
    r"""How near a row is to the retrained model, and whether its verdict says so.

    *near*: forget accuracy (of training and of unseen images) within 3 points, retained test accuracy within 2.
    A miss is *shown* where the interval of the paired difference leaves the tolerated points out; better on retained
    images is none.  ``verdict``: *wrong* where it does not name a miss that is shown, or says *partly* or *not
    forgotten* of what is near; *silent* where it claims to be near and misses by what so few images do not show; *open*
    where it says of such a miss that it cannot tell; else *right*.
    """
    parts = [part for part in ("forget_train", "forget_test") if f"{part}_gap" in row]
    gaps = [abs(row[f"{part}_gap"]) for part in parts]
    at_least = [max(row[f"{part}_gap_low"], -row[f"{part}_gap_high"]) for part in parts]
    lost, least = -row["retain_test_gap"], -row["retain_test_gap_high"]
    near = {"forget": all(gap <= NEAR["forget"] for gap in gaps), "retain": abs(lost) <= NEAR["retain"]}
    shown = {"forget": any(gap > NEAR["forget"] for gap in at_least), "retain": least > NEAR["retain"]}
    blamed = row["forgetting"] not in (None, "forgotten") or row["trace"] == "trace"
    missed = {
        "forget": not near["forget"] and not blamed,
        "retain": lost > NEAR["retain"] and row["utility"] in ("kept", "cannot be told"),
    }
    admitted = {
        "forget": row["forgetting"] is None and row["trace"] == "cannot be told",
        "retain": row["utility"] == "cannot be told",
    }
    wrong = any(missed[part] and shown[part] for part in NEAR)
    wrong |= row["forgetting"] in ("partly", "not forgotten") and near["forget"]
    silent = any(missed[part] and not admitted[part] for part in NEAR)
    word = "wrong" if wrong else "silent" if silent else "open" if any(missed.values()) else "right"
    return {"near_forget": near["forget"], "near_retain": near["retain"], "verdict": word}


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
        shown = (_beside(part, name) for name in PARTS)
        lines.append([NETWORKS.get(model, model), request, title(method), *shown, _count(near), words])
    return markdown.table(["model", "request", "method", *COLUMNS, "near", "verdict: is it right?"], lines)


def verdicts(rows):
    r"""How many verdicts are right, and which are not."""
    count = rows["verdict"].value_counts()
    which = {
        word: listed(
            f"{NETWORKS.get(one.model, one.model)}, {one.request}, {title(one.method)}, seed {one.seed} (*{one.word}*)"
            for one in rows[rows["verdict"] == word].itertuples()
        )
        for word in ("silent", "wrong")
    }
    return (
        f"**Does the verdict say so?** Right in {count.get('right', 0)} of {len(rows)} cells: it names every loss"
        " beyond the limits. A gain on retained images is none, *what is kept cannot be told* is right where no more"
        " than that is lost, and accuracies cannot say whether a trace that it names is there. Open in"
        f" {count.get('open', 0)}: it says of a loss that so few images cannot tell. Silent, it claims to be near and"
        f" is not, which so few images do not show: {which['silent']}. Wrong, it does not name what the interval"
        f" shows, or blames what is near: {which['wrong']}. These are the rules that were changed after a first"
        " reading, so this is no independent check of them."
    )


def holds(rows):
    r"""In how many cells of each kind of request both limits are kept, and how often each of them alone."""
    both = rows["near_forget"] & rows["near_retain"]
    kinds = listed(f"{kind} {_count(part)}" for kind, part in both.groupby(rows["request"], sort=False))
    alone = f"forgotten alone {_count(rows['near_forget'])}, retained alone {_count(rows['near_retain'])}"
    return f"{kinds} ({alone})"


def page(data):
    r"""The section."""
    about, rows = source(data, "unseen_source"), rows_of(data)
    limits = f"{NEAR['forget']:g} points (forgotten) and {NEAR['retain']:g} points (retained)"
    megu, asked = rows["method"].eq("megu"), {}
    for network, of in about["recommended"].items():
        for request, name in of.items():
            asked.setdefault(f"{request} {title(name)}", []).append(network)
    recommended = listed(f"{name} ({' and '.join(networks)})" for name, networks in asked.items())
    gone = listed(f"{kind} {part['images'].iloc[0]}" for kind, part in rows.groupby("request", sort=False))
    count = len(rows[megu].query("request == 'images'"))
    room = f"0 of {count} leaves room for {100 * binomtest(0, count).proportion_ci().high:.0f} %"
    each = [about[part] // len(about["classes"]) for part in ("train", "test")]
    seeds = f"seed{'s' * (rows['seed'].nunique() > 1)} {listed(map(str, rows['seed'].unique()))}"
    seeds += "" if about["seeds"] else f" (not finished, cells: {about['cells']})"
    epochs = listed(f"{name} {recipe['epochs']}" for name, recipe in about["recipes"].items())
    made = (
        f"CIFAR-100 at {about['pixels']} px: {len(about['classes'])} superclasses as classes, two classes of each as"
        f" sub-classes; {about['train']} training and {about['test']} unseen images in all, {each[0]} and {each[1]} of"
        f" each class; forgotten images: {gone}; {seeds}, `tune={about['tune']}`, `{about['command']}`. Epochs of the"
        f" models' own training: {epochs}; of the EfficientNet the last block, the last convolution and a new head were"
        " trained"
    )
    said = bullets(
        f"**Within {limits} of the retrained model** at once: MeGU {holds(rows[megu])}; the recommended method, where"
        f" it is another, {holds(rows[~megu])}. Of so few cells {room} (upper end of a 95 % interval). Elsewhere the"
        " table says how far off it is.",
        verdicts(rows),
        f"**What it is.** {made}. The recommended method of a request is the first in its row of the first table above"
        f" that takes the network, by that table as it stood before this measurement: {recommended}. No class that is"
        " forgotten here was forgotten there, but its cells of CIFAR count images of these classes among the retained.",
    )
    return (
        f"{table(rows)}\n\nPercent named right, mean over the seeds; in brackets by the retrained model. *Near*: in how"
        f" many seeds all three are within the limits.\n\n{said}"
    )
