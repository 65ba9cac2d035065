r"""What a deletion report says: accuracies with intervals, attacks with their curves, every metric, predictions,
nearest concepts."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from megu.measure import attacks
from megu.measure.metrics import METRICS, References, compared, own_metrics
from megu.measure.views import centroid_similarity

PARTS = {  # part of the split -> what it is called
    "forget": "forgotten training images",
    "retain": "retained training images",
    "test_forget": "test images of what is forgotten",
    "test_retain": "test images of what is retained",
}
_FEATURES = ("probe_forget_acc", "cka_retrain_retain", "cka_retrain_forget", "cka_original_forget")
_MOST = 200  # images that are listed one by one


@dataclass(frozen=True)
class Models:
    r"""What was seen of the models, `megu.measure.metrics.Seen` each, on the same split.

    Attributes:
        seen: ``before``, ``after`` and, where there is one, ``reference`` (a model retrained without the forget
            images).
        blank: logits of an untrained network, part -> ``(n, K)``, or None.
        features: whether the features are the input of a linear head.
    """

    seen: dict
    blank: dict | None
    features: bool


def number(value):
    r"""A float for JSON: None where it is no number."""
    return None if value is None or not math.isfinite(value) else round(float(value), 6)


def accuracies(models, images, split):
    r"""List of dictionaries: model, part, images, percent, and low and high of the 95 % Wilson interval; parts without
    images are left out."""
    out = []
    for name, seen in models.seen.items():
        for part in PARTS:
            y = images.y[getattr(split, part)]
            if len(y):
                right = int((seen.logits[part].argmax(1) == y).sum())
                low, high = stats.binomtest(right, len(y)).proportion_ci(method="wilson")
                percent = {"percent": 100 * right / len(y), "low": 100 * low, "high": 100 * high}
                out.append(
                    {
                        "model": name,
                        "part": part,
                        "images": len(y),
                        **{key: number(value) for key, value in percent.items()},
                    }
                )
    return out


def change(models, images, split, part):
    r"""Change of accuracy from before to after in points, paired by image: (mean, half-width of its 95 % interval), or
    None for no images."""
    y = images.y[getattr(split, part)]
    if not len(y):
        return None
    before, after = ((models.seen[name].logits[part].argmax(1) == y).double() for name in ("before", "after"))
    difference = 100 * (after - before)
    return difference.mean().item(), 1.96 * difference.std(correction=0).item() / math.sqrt(len(y))


def curves(models, images, split):
    r"""Every class-matched attack on every model: list of dictionaries with attack, model, auc, low, high (95 %),
    tpr_at_1_percent, members, others, roc.

    Where there are no unseen images of the same classes, no attack is there.
    """
    unseen = "test_forget" if len(split.test_forget) else "test_retain"
    y, y_unseen = images.y[split.forget], images.y[getattr(split, unseen)]
    scores = {
        "loss": lambda logits, y: -attacks.per_sample_loss(logits, y),
        "entropy": lambda logits, y: -attacks.entropy(logits),
    }
    out = []
    for attack, score in scores.items():
        for name, seen in models.seen.items():
            found = attacks.class_matched_roc(
                score(seen.logits["forget"], y), y, score(seen.logits[unseen], y_unseen), y_unseen
            )
            if found:
                reach = 1.96 * found["error"]
                out.append(
                    {
                        "attack": attack,
                        "model": name,
                        "auc": number(found["auc"]),
                        "low": number(max(0, found["auc"] - reach)),
                        "high": number(min(1, found["auc"] + reach)),
                        "tpr_at_1_percent": number(found["true"][1]),
                        "members": found["members"],
                        "others": found["others"],
                        "roc": {axis: [round(float(value), 4) for value in found[axis]] for axis in ("false", "true")},
                    }
                )
    return out


def metrics(models, images, split):
    r"""Every metric of `megu.measure.metrics.METRICS` on every model.

    Returns: list of dictionaries with metric, mode, unit, goal, images, before, after, reference (None where not
        available), and why not.
    """
    found, reference = {}, models.seen.get("reference")
    for name, seen in models.seen.items():
        found[name] = own_metrics(seen, images, split)
        nobody = {part: logits * math.nan for part, logits in seen.logits.items()}
        against = References(models.seen["before"], reference or seen, models.blank or nobody, nobody)
        found[name] |= compared(found[name], seen, images, split, against)
    out = []
    for metric, about in METRICS.items():
        why = reason(metric, models, split)
        values = {name: None if why else number(found[name].get(metric, math.nan)) for name in found}
        if not why and all(value is None for value in values.values()):
            why = "cannot be computed from these images"
        row = {"before": None, "after": None, "reference": None, **values}
        out.append({"metric": metric, **vars(about), **row, "not_available": why})
    return out


def reason(metric, models, split):
    r"""Why a metric is not available, or None: it is never guessed."""
    needs_reference = "retrain" in metric or metric.startswith(("tow", "activation"))
    reasons = {
        "needs shadow models": metric.startswith("mia_lira"),
        "needs trainings of its own": metric == "relearn_steps",
        "needs a retrained reference model": needs_reference and "reference" not in models.seen,
        "needs an untrained network of this architecture": metric == "zrf" and models.blank is None,
        "needs an untrained network with batch statistics": metric == "zrf_reversed",
        "needs a model whose head is a linear layer": metric in _FEATURES and not models.features,
        "needs test images": (
            metric.startswith(
                ("mia", "probe", "acc_retain_test", "acc_forget_test", "batch", "tow", "cka_retrain_retain")
            )
            and not len(split.test_retain) + len(split.test_forget)
        ),
        "needs test images of the forgotten classes": (
            metric in ("acc_forget_test", "probe_forget_acc") and not len(split.test_forget)
        ),
    }
    return next((why for why, holds in reasons.items() if holds), None)


def predictions(models, images, split, ids):
    r"""What the forget images are taken for: shares in percent by model and label, and the first images one by one (no
    pixels)."""
    names, out = images.classes, {"shares": {}, "images": []}
    said = {name: seen.logits["forget"].softmax(1).max(1) for name, seen in models.seen.items()}
    for name, (_, label) in said.items():
        share = 100 * label.bincount(minlength=len(names)).double() / len(label)
        out["shares"][name] = {
            names[k]: number(share[k]) for k in share.argsort(descending=True).tolist() if share[k] > 0
        }
    for row, i in enumerate(split.forget.tolist()[:_MOST]):
        one = {name: {"label": names[label[row]], "probability": number(p[row])} for name, (p, label) in said.items()}
        out["images"].append({"image": ids[i], "class": names[images.y[i]], **one})
    return out


def nearest(models, images, split, transition, most=3):
    r"""The concepts nearest to each forgotten class by the guide, and by the features before and after: list of
    dictionaries of names."""
    names, ways, y = (
        images.classes,
        {},
        np.r_[images.y[split.retain].cpu().numpy(), images.y[split.forget].cpu().numpy()],
    )
    if transition is not None:
        ways["guide"] = np.asarray(transition).T  # row k = the shares of class k
    if models.features and len(np.unique(y)) == len(names):
        for name, seen in models.seen.items():
            table = np.concatenate([seen.features[part].double().cpu().numpy() for part in ("retain", "forget")])
            ways[name] = centroid_similarity(table, y, len(names))
    out = []
    for k in images.y[split.forget].unique().tolist():
        row = {
            way: [names[j] for j in np.argsort(-sim[k], kind="stable") if j != k][:most] for way, sim in ways.items()
        }
        out.append({"class": names[k], **{way: row.get(way) for way in ("guide", "before", "after", "reference")}})
    return out
