r"""What a deletion report measures: accuracies with intervals, attacks with their curves, every metric, predictions,
nearest concepts."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from megu.core.splits import Split
from megu.figures.deletion import MODELS, PARTS
from megu.measure import attacks
from megu.measure import metrics as measured
from megu.measure.metrics import METRICS, References
from megu.measure.outputs import Outputs
from megu.measure.views import centroid_similarity

MISSING = {  # what a metric may need (see `megu.measure.metrics.Metric`) -> why it is not there, the first that holds
    "shadows": "needs shadow models",
    "training": "needs trainings of its own",
    "retrain": "needs a retrained reference model",
    "untrained": "needs an untrained network of this architecture",
    "untrained_batch": "needs an untrained network with batch statistics",
    "head": "needs a model whose head is a linear layer",
    "test": "needs test images",
    "test_forget": "needs test images of the forgotten classes",
}
_MOST = 200  # images that are listed one by one


@dataclass(frozen=True)
class Models:
    r"""Outputs of the models on the same split.

    Attributes:
        outputs: ``before``, ``after`` and, where there is one, ``reference`` (a model retrained without the forget
            images): `megu.measure.outputs.Outputs` each.
        split: the parts that were measured.
        blank: logits of an untrained network, part -> ``(n, K)``, or None.
        features: whether the features are the input of a linear head.
    """

    outputs: dict[str, Outputs]
    split: Split
    blank: dict | None
    features: bool

    @property
    def available(self):
        """What there is of `MISSING`."""
        tested = {"test_forget": len(self.split.test_forget) > 0}
        there = {
            "retrain": "reference" in self.outputs,
            "untrained": self.blank is not None,
            "head": self.features,
            "test": tested["test_forget"] or len(self.split.test_retain) > 0,
            **tested,
        }
        return {need for need, holds in there.items() if holds}


def number(value, digits=6):
    r"""A float for JSON: None where it is no number."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def right(outputs, images, split, part):
    r"""Which images of a part are named right: bool ``(n,)``."""
    return outputs.logits[part].argmax(1) == images.y[getattr(split, part)]


def accuracies(models, images):
    r"""List of dictionaries: model, part, images, percent, and low and high of the 95 % Wilson interval; parts without
    images are left out."""
    out = []
    for name, outputs in models.outputs.items():
        for part in PARTS:
            count = len(getattr(models.split, part))
            if count:
                hits = int(right(outputs, images, models.split, part).sum())
                low, high = stats.binomtest(hits, count).proportion_ci(method="wilson")
                percent = {"percent": 100 * hits / count, "low": 100 * low, "high": 100 * high}
                percent = {key: number(value) for key, value in percent.items()}
                out.append({"model": name, "part": part, "images": count, **percent})
    return out


def change(models, images, part):
    r"""Change of accuracy from before to after in points, paired by image: (mean, half-width of its 95 % interval), or
    None for no images."""
    count = len(getattr(models.split, part))
    if not count:
        return None
    before, after = (right(models.outputs[name], images, models.split, part).double() for name in ("before", "after"))
    difference = 100 * (after - before)
    return difference.mean().item(), 1.96 * difference.std(correction=0).item() / math.sqrt(count)


def attack_curves(models, images):
    r"""Every class-matched attack on every model: list of dictionaries with attack, model, auc, low, high (95 %),
    tpr_at_1_percent, members, others, roc.

    Where there are no unseen images of the same classes, no attack is there.
    """
    split, out = models.split, []
    unseen = "test_forget" if len(split.test_forget) else "test_retain"
    y, y_unseen = images.y[split.forget], images.y[getattr(split, unseen)]
    for attack in ("loss", "entropy"):
        for name, outputs in models.outputs.items():
            scores = [_score(attack, outputs.logits[part], y) for part, y in (("forget", y), (unseen, y_unseen))]
            curve = attacks.class_matched_roc(scores[0], y, scores[1], y_unseen)
            if curve:
                auc, reach = curve["auc"], 1.96 * curve["error"]
                out.append({
                    "attack": attack,
                    "model": name,
                    "auc": number(auc),
                    "low": number(max(0, auc - reach)),
                    "high": number(min(1, auc + reach)),
                    "tpr_at_1_percent": number(curve["true"][1]),
                    "members": curve["members"],
                    "others": curve["others"],
                    "roc": {axis: [round(float(value), 4) for value in curve[axis]] for axis in ("false", "true")},
                })  # fmt: skip
    return out


def _score(attack, logits, y):
    """High where an attacker takes an image for one that was trained on."""
    return -attacks.per_sample_loss(logits, y) if attack == "loss" else -attacks.entropy(logits)


def metrics(models, images):
    r"""Every metric of `megu.measure.metrics.METRICS` on every model.

    Returns: list of dictionaries with metric, mode, unit, goal, images, before, after, reference (None where not
        available), and why not.
    """
    values, reference = {}, models.outputs.get("reference")
    for name, outputs in models.outputs.items():
        nobody = {part: logits * math.nan for part, logits in outputs.logits.items()}
        against = References(models.outputs["before"], reference or outputs, models.blank or nobody, nobody)
        values[name] = measured.metrics(outputs, images, models.split, against)
    out = []
    for metric, about in METRICS.items():
        lacks = set(about.needs.split()) - models.available
        why = next((why for need, why in MISSING.items() if need in lacks), None)
        row = {name: number(values[name][metric]) if name in values and not why else None for name in MODELS}
        if not why and all(value is None for value in row.values()):
            why = "cannot be computed from these images"
        out.append({"metric": metric, **about.description, **row, "not_available": why})
    return out


def predictions(models, images, ids):
    r"""What the forget images are taken for: shares in percent by model and label, and the first images one by one (no
    pixels)."""
    names, out, forget = images.classes, {"shares": {}, "images": []}, models.split.forget
    top = {name: outputs.logits["forget"].softmax(1).max(1) for name, outputs in models.outputs.items()}
    for name, (_, label) in top.items():
        share = 100 * label.bincount(minlength=len(names)).double() / len(label)
        largest = share.argsort(descending=True).tolist()
        out["shares"][name] = {names[k]: number(share[k]) for k in largest if share[k] > 0}
    for row, i in enumerate(forget.tolist()[:_MOST]):
        one = {name: {"label": names[label[row]], "probability": number(p[row])} for name, (p, label) in top.items()}
        out["images"].append({"image": ids[i], "class": names[images.y[i]], **one})
    return out


def nearest(models, images, transition, most=3):
    r"""The concepts nearest to each forgotten class by the guide, and by the features before and after: list of
    dictionaries of names."""
    names, ways, split = images.classes, dict.fromkeys(("guide", *MODELS)), models.split
    y = np.concatenate([images.y[getattr(split, part)].cpu().numpy() for part in ("retain", "forget")])
    if transition is not None:
        ways["guide"] = np.asarray(transition).T  # row k = the shares of class k
    if models.features and len(np.unique(y)) == len(names):
        for name, outputs in models.outputs.items():
            table = np.concatenate([outputs.features[part].double().cpu().numpy() for part in ("retain", "forget")])
            ways[name] = centroid_similarity(table, y, len(names))

    def order(similarity, k):
        return [names[j] for j in np.argsort(-similarity[k], kind="stable") if j != k][:most]

    forgotten = images.y[split.forget].unique().tolist()
    return [
        {"class": names[k], **{way: None if one is None else order(one, k) for way, one in ways.items()}}
        for k in forgotten
    ]
