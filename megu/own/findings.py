"""What a deletion report measures on the models before, after and retrained."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import torch

from megu.core import models
from megu.core.device import Stopwatch, generator
from megu.core.loading import weights_digest
from megu.core.train import predict
from megu.datasets.images import distinct, unseen_apart
from megu.figures.deletion import ATTACKS, MODELS, PARTS
from megu.measure import attacks, metrics
from megu.measure.disentanglement import disentanglement, forgotten_concepts
from megu.measure.distances import left_classes, lost_classes, paired_difference, rf_jsd
from megu.measure.outputs import collect_outputs, load_outputs, save_outputs
from megu.measure.views import centroid_similarity
from megu.own.verdict import FEW, LEVEL
from megu.settings.errors import SettingsError
from megu.settings.files import write_json

_NEEDED = {  # what a metric may need, see `megu.measure.metrics.Metric`; the first that lacks is named
    "shadows": "shadow models",
    "training": "trainings of its own",
    "retrain": "a retrained reference model",
    "untrained": "an untrained network of this architecture",
    "untrained_batch": "an untrained network with batch statistics",
    "head": "a model whose head is a linear layer",
    "test": "test images",
    "test_forget": "test images of the forgotten classes",
}


class _Models:
    """What the models make of the same images, an untrained one (``blank``, or None) of those that go."""

    def __init__(self, checked, store, new):
        self.images, self.outputs, seed, seconds = checked.images, {}, checked.settings.seed, 0.0
        self.features, split = models.has_features(checked.original, self.images), checked.split
        split = replace(split, retain=_sample(split.retain, 5000, seed, "measured"))
        parts = {part: distinct(self.images, getattr(split, part), what) for part, what in PARTS.items()}
        self.split = unseen_apart(self.images, replace(split, **parts))
        self.labels = {part: self.images.y[index] for part, index in vars(self.split).items()}
        self.unseen = "test_retain" if checked.settings.forget.scenario == "random" else "test_forget"  # of the kind
        load = partial(load_outputs, device=checked.compute.device)
        given = zip(MODELS, (checked.original, new, checked.reference), strict=True)
        self.models = {name: model for name, model in given if model is not None}
        for name, model in self.models.items():
            file = f"outputs-{name}-{weights_digest(model)[:12]}.safetensors"
            self.outputs[name] = store.once(file, partial(self._made, model), save_outputs, load)
            seconds += store.facts(file)["seconds"]
        checked.clock.seconds["evaluation"] = seconds
        with checked.clock("evaluation"):
            self.left = left_classes(self, LEVEL, FEW) if checked.settings.forget.scenario == "class" else []
        try:
            self.blank = predict(models.reset(checked.original, seed, "untrained"), self.images, self.split.forget)
        except SettingsError:
            self.blank = None

    def _made(self, model):
        clock, look = Stopwatch(), models.features if self.features else lambda model, x: 2 * (model(x),)
        with clock("evaluation"):
            outputs = collect_outputs(model, self.images, self.split, 100, look)
        return outputs, {"seconds": round(clock.total, 3)}

    def right(self, model, part):
        return self.outputs[model].logits[part].argmax(1) == self.labels[part]

    def lacking(self, needs):
        tested = len(self.labels["test_forget"])
        there = {
            "retrain": "reference" in self.outputs, "untrained": self.blank is not None, "head": self.features,
            "test": tested or len(self.labels["test_retain"]), "test_forget": tested,
        }  # fmt: skip
        return next((f"needs {what}" for need, what in _NEEDED.items() if need in needs and not there.get(need)), None)


def _sample(index, count, seed, purpose):
    chosen = torch.randperm(len(index), generator=generator(seed, purpose))[:count]
    return index[chosen.sort().values.to(index.device)]


def measure(checked, store, new, transition):
    """What the report says of the models; ``new``: the one after; others: see `megu.own.guide_choice.transition`."""
    found = _Models(checked, store, new)
    if store.path:  # of each forgotten image, and so beside what is handed over
        write_json(store.path / "predictions.json", _each_prediction(found, checked.ids), locked=True)
    return {
        "accuracy": _accuracies(found),
        "changes": _changes(found),
        "lost": lost_classes(found, LEVEL),
        "left": found.left,
        "attacks": _attack_curves(found, checked.settings.forget.scenario),
        "without_reference": _without_reference(found, checked.settings.forget.scenario),
        "metrics": _every_metric(found),
        "predictions": _predictions(found),
        "nearest": _nearest(found, transition),
        "disentanglement": _disentanglement(checked, found, new),
    }


def _number(value, digits=6):
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def _accuracies(found):
    out = []
    for model, part in product(found.outputs, PARTS):
        right = found.right(model, part)
        if count := len(right):
            hits = int(right.sum())
            most = found.labels[part].bincount().max().item()
            shares = hits / count, *models.share_ends(hits, count), most / count
            percent, low, high, chance = (_number(100 * share) for share in shares)
            row = {"model": model, "part": part, "images": count, "percent": percent}
            out.append({**row, "low": low, "high": high, "chance": chance})
    return out


def _changes(found):
    out, pairs = [], (("after", "before"), ("before", "reference"), ("after", "reference"))
    for (model, than), part in product(pairs, PARTS):
        if {model, than} <= found.outputs.keys() and len(found.labels[part]):
            right = (found.right(name, part) for name in (model, than))
            points, low, high = (_number(100 * value) for value in paired_difference(*right, LEVEL))
            out.append({"model": model, "than": than, "part": part, "points": points, "low": low, "high": high})
    return out


def _attack_curves(found, scenario):
    images, parts, out = found.images, ("forget", found.unseen), []
    y, names = (images.fine, images.fine_classes) if scenario == "subclass" else (images.y, images.classes)
    kinds = {part: y[getattr(found.split, part)] for part in parts}
    alone = [names[k] for k in sorted(set(kinds["forget"].tolist()) - set(kinds[found.unseen].tolist()))]
    for attack in ATTACKS:
        scores = {}
        for model, outputs in found.outputs.items():
            scores[model] = []
            for part in parts:
                logits, y = outputs.logits[part], found.labels[part]
                # High where an attacker takes an image for one trained on; by confidence, as losses become 0 at last.
                score = attacks.logit_confidence(logits, y) if attack == "loss" else -attacks.entropy(logits)
                scores[model] += [score, kinds[part]]
        out += attack_rows(attack, scores, alone)
    return out


def attack_rows(attack: str, scores: dict[str, tuple], alone: Sequence[str] = ()) -> list[dict]:
    """Rows of the report; ``scores``: model -> arguments of `megu.measure.attacks.class_matched_roc`; ``alone``: what
    has no unseen images."""
    curves, out = {model: attacks.class_matched_roc(*given) for model, given in scores.items()}, []
    for model, curve in curves.items():
        if curve:
            sizes = curve["members"], curve["others"]
            low, high = attacks.auc_interval(curve["auc"], *sizes, LEVEL)
            goal = curve["auc"] if model == "reference" else None
            out.append({
                "attack": attack, "model": model,
                "auc": _number(curve["auc"]), "low": _number(low), "high": _number(high),
                "detectable": _number(attacks.detectable_auc(*sizes, LEVEL, goal)),
                "tpr_at_1_percent": _number(curve["true"][1]),
                "members": int(sizes[0].sum()), "others": int(sizes[1].sum()), "without_unseen": [*alone],
                "roc": {axis: [_number(value, 4) for value in curve[axis]] for axis in ("false", "true")},
            })  # fmt: skip
    return out


def _without_reference(found, scenario):
    """RF-JSD of each model, or why it is not available."""
    kind = {"class": "class", "subclass": "sub-class"}.get(scenario)
    why = kind and f"of a whole {kind} the model before says on unseen images what a retrained one would not"
    values = dict.fromkeys(MODELS)
    if not why:
        asked = found.outputs["before"].logits[found.unseen], found.labels[found.unseen]
        for model, outputs in found.outputs.items():
            values[model] = _number(rf_jsd(outputs.logits["forget"], found.labels["forget"], *asked))
        why = "there are no unseen images of the same classes" if values["before"] is None else why
    return {"measure": "rf_jsd", **values, "not_available": why}


def _every_metric(found):
    values, out = {}, []
    for model, outputs in found.outputs.items():
        nobody = {part: logits * math.nan for part, logits in outputs.logits.items()}
        blank = nobody["forget"] if found.blank is None else found.blank
        against = metrics.References(found.outputs["before"], found.outputs.get("reference", outputs), blank, nobody)
        values[model] = metrics.metrics(outputs, found.images, found.split, against)
    for metric, about in metrics.METRICS.items():
        needs = about.needs.split()
        if found.unseen == "test_forget" and metric.startswith(("mia_loss", "mia_entropy", "tow_mia")):
            needs.append("test_forget")  # else they would be compared with images of other classes or sub-classes
        why = found.lacking(needs)
        row = {model: _number(values[model][metric]) if model in values and not why else None for model in MODELS}
        if not why and set(row.values()) == {None}:
            why = "cannot be computed from these images"
        out.append({"metric": metric, **about.description, **row, "not_available": why})
    return out


def _predictions(found):
    names, shares = found.images.classes, {}
    for model, outputs in found.outputs.items():
        label = outputs.logits["forget"].argmax(1)
        share = 100 * label.bincount(minlength=len(names)).double() / len(label)
        shares[model] = {names[k]: _number(share[k]) for k in share.argsort(descending=True).tolist() if share[k] > 0}
    return {"shares": shares}


def _each_prediction(found, ids):
    names, listed = found.images.classes, []
    top = {model: outputs.logits["forget"].softmax(1).max(1) for model, outputs in found.outputs.items()}
    for row, i in enumerate(found.split.forget.tolist()):
        one = {name: {"label": names[label[row]], "probability": _number(p[row])} for name, (p, label) in top.items()}
        listed.append({"image": ids[i], "class": names[found.images.y[i]], **one})
    return listed


def _nearest(found, transition):
    names, ways, seen = found.images.classes, dict.fromkeys(("guide", *MODELS)), ("retain", "forget")
    y = torch.cat([found.labels[part] for part in seen]).cpu().numpy()
    if transition is not None:
        ways["guide"] = transition.T  # row k = the shares of class k
    if found.features and len(np.unique(y)) == len(names):
        for model, outputs in found.outputs.items():
            table = torch.cat([outputs.features[part] for part in seen]).double().cpu().numpy()
            ways[model] = centroid_similarity(table, y, len(names))

    def order(similarity, k):
        return [names[j] for j in np.argsort(-similarity[k], kind="stable") if j != k][:3]

    return [
        {"class": names[k], **{way: None if one is None else order(one, k) for way, one in ways.items()}}
        for k in found.labels["forget"].unique().tolist()
    ]


def _disentanglement(checked, found, new):
    images, seed = checked.images, checked.settings.seed
    if not found.features or not forgotten_concepts(images, checked.split) or len(images.fine_classes) > 200:
        return None
    # The score grows with classes and images.
    few = {part: _sample(getattr(found.split, part), 1000, seed, "scored") for part in ("retain", "test_retain")}
    split = replace(found.split, **few)
    scores = disentanglement(checked.original, new, checked.reference, images, split, draws=100, seed=seed)
    return scores.astype(object).where(scores.notna(), None).round(4).to_dict("records")
