r"""Every metric of a model from one forward pass over each part of the split; tidy rows that say what they are."""

from dataclasses import dataclass, fields
from math import nan

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from megu.core.device import in_batches
from megu.core.models import features
from megu.measure import attacks, distances
from megu.measure.attacks import class_matched, lira_scores, logit_confidence


@dataclass(frozen=True)
class Metric:
    """What a number is: mode (strict or compat), unit, the value that unlearning aims at, and the images it is from."""

    mode: str
    unit: str
    goal: str
    images: str


_MATCHED = "forgotten against unseen images of the same classes"
_CHANCE = "retrain; 0.5 = cannot be told"
_CHANCE_TPR = "retrain; 0.01 = cannot be told"
METRICS = {
    "acc_retain_train": Metric("strict", "percent", "retrain", "retained training images"),
    "acc_forget_train": Metric("strict", "percent", "retrain", "forgotten training images"),
    "acc_retain_test": Metric("strict", "percent", "retrain", "test images of what is retained"),
    "acc_forget_test": Metric("strict", "percent", "retrain", "test images of what is forgotten"),
    "mia_loss_auc": Metric("strict", "share", _CHANCE, _MATCHED),
    "mia_loss_bacc": Metric("strict", "share", _CHANCE, _MATCHED),
    "mia_loss_tpr": Metric("strict", "share", _CHANCE_TPR, _MATCHED),
    "mia_entropy_auc": Metric("strict", "share", _CHANCE, _MATCHED),
    "mia_entropy_bacc": Metric("strict", "share", _CHANCE, _MATCHED),
    "mia_entropy_tpr": Metric("strict", "share", _CHANCE_TPR, _MATCHED),
    "mia_lira_online_auc": Metric("strict", "share", _CHANCE, _MATCHED),
    "mia_lira_online_tpr": Metric("strict", "share", _CHANCE_TPR, _MATCHED),
    "mia_lira_offline_auc": Metric("strict", "share", _CHANCE, _MATCHED),
    "mia_lira_offline_tpr": Metric("strict", "share", _CHANCE_TPR, _MATCHED),
    "probe_forget_acc": Metric(
        "strict", "percent", "retrain", "linear head refitted on training images; test images of what is forgotten"
    ),
    "js_retrain": Metric("strict", "nats", "0 and the noise floor", "forgotten training images"),
    "activation_distance": Metric("strict", "share", "0 and the noise floor", "forgotten training images"),
    "zrf": Metric("strict", "share", "retrain", "forgotten training images"),
    "cka_retrain_retain": Metric("strict", "share", "1 and the noise floor", "test images of what is retained"),
    "cka_retrain_forget": Metric("strict", "share", "1 and the noise floor", "forgotten training images"),
    "cka_original_forget": Metric("strict", "share", "retrain", "forgotten training images"),
    "tow": Metric("strict", "share", "1", "forgotten training, retained training, retained test images"),
    "tow_mia": Metric("strict", "share", "1", "the same, with the loss attack in place of the forget accuracy"),
    "relearn_steps": Metric("strict", "steps", "retrain", "forgotten training images, training on all"),
    "batch_acc_retain": Metric(
        "compat", "percent", "retrain", "test images of what is retained; all test images where none is"
    ),
    "batch_acc_forget": Metric(
        "compat",
        "percent",
        "retrain",
        "test images of what is forgotten; forgotten training images where there is none",
    ),
    "mia_ssd_member_rate": Metric(
        "compat", "percent", "retrain", "forgotten training images, judge fitted on retained and test"
    ),
    "mia_salun_nonmember_rate": Metric(
        "compat", "percent", "retrain", "forgotten training images, judge fitted on retained and test"
    ),
    "zrf_reversed": Metric(
        "compat", "share", "retrain", "test images of what is forgotten; forgotten training images where there is none"
    ),
}


def expected(shadows=0):
    r"""Names in `METRICS` that `metrics` gives: LiRA only with shadow models; ``relearn_steps`` is a training, see
    `megu.measure.relearn`."""
    return [name for name in METRICS if name != "relearn_steps" and (shadows or not name.startswith("mia_lira"))]


@dataclass(frozen=True)
class Seen:
    r"""What one forward pass over every part of the split shows; ``logits`` and ``features``: part -> ``(n, K)``, ``(n,
    d)`` float32."""

    logits: dict
    features: dict


@dataclass(frozen=True)
class References:
    r"""What a model is compared with.

    Attributes:
        original, retrain: `Seen` of the same seed of pre-training.
        blank: logits of an untrained network, part -> ``(n, K)``; blank_compat: the same with batch statistics, as the
            public code has it.
        shadows: (confidences ``(S, N)``, inside ``(S, N)`` bool) over the pool for the likelihood-ratio attack, or
            None.
    """

    original: Seen
    retrain: Seen
    blank: dict
    blank_compat: dict
    shadows: tuple | None = None


@torch.no_grad()
def observe(model, images, split, batch=500, look=features):
    r"""One forward pass over every part of the split, in eval mode and float32: `Seen`; ``look``: see
    `megu.core.models.features`."""
    model.eval()
    parts = {part.name: getattr(split, part.name) for part in fields(split)}
    found = in_batches(
        lambda i: look(model, images.batch(i).contiguous(memory_format=torch.channels_last)),
        torch.cat(list(parts.values())),
        batch,
    )
    sizes = [len(index) for index in parts.values()]
    logits, seen = (torch.cat(pieces).float().split(sizes) for pieces in zip(*found, strict=True))
    return Seen(dict(zip(parts, logits, strict=True)), dict(zip(parts, seen, strict=True)))


def save_seen(seen, path):
    r"""Keep a `Seen` as safetensors."""
    flat = {
        f"{kind}/{part}": tensor.cpu().contiguous()
        for kind, parts in vars(seen).items()
        for part, tensor in parts.items()
    }
    save_file(flat, path)


def load_seen(path, device):
    r"""Read what `save_seen` wrote."""
    flat = load_file(path, device=str(device))
    return Seen(
        *(
            {key.partition("/")[2]: v for key, v in flat.items() if key.startswith(kind)}
            for kind in ("logits/", "features/")
        )
    )


@torch.no_grad()
def blank_logits(model, images, index, batch=64):
    r"""Logits in train mode, batch by batch, as the public code asks its untrained network (compat): ``(n, K)``."""
    model.train()
    return (
        torch.cat([model(images.batch(part)).float() for part in index.split(batch)])
        if len(index)
        else torch.empty(0, images.num_classes)
    )


def accuracy(logits, y):
    r"""Share of right answers in percent, NaN for no images.

    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1, 1, 0]))
    75.0
    """
    return 100 * (logits.argmax(1) == y).double().mean().item() if len(y) else float("nan")


def batch_accuracy(logits, y, batch=64):
    r"""Mean of the accuracies of batches in percent (compat): a short last batch counts as much as a full one.

    >>> batch_accuracy(torch.eye(2)[[0, 0, 0]], torch.tensor([0, 0, 1]), batch=2)
    50.0
    """
    parts = [accuracy(*part) for part in zip(logits.split(batch), y.split(batch), strict=True)]
    return sum(parts) / len(parts)


def metrics(seen, images, split, references):
    r"""All metrics of one model that need nothing but what was seen.

    Args:
        seen: `Seen` of the model.
        images: `megu.datasets.images.Images`.  split: `megu.core.splits.Split`.
        references: `References`.
    Returns: dictionary, each name of `expected` -> float.
    """
    own = own_metrics(seen, images, split, references.shadows)
    return own | compared(own, seen, images, split, references)


def _parts(seen, images, split):
    """Labels of every part, and the parts that stand for unseen images of the same classes (strict, compat): where no
    class goes, all others do."""
    y = {name: images.y[index] for name, index in vars(split).items()}
    return y, *(("test_forget", "test_forget") if len(y["test_forget"]) else ("test_retain", "forget"))


def own_metrics(seen, images, split, shadows=None):
    r"""The metrics that need no other model: accuracies, attacks, the linear probe.

    Args: as of `metrics`; ``shadows`` as of `References`.
    Returns: dictionary, name -> float; NaN where the images that a metric is from are not there.
    """
    y, unseen, compat = _parts(seen, images, split)
    logits = seen.logits
    test, y_test = (torch.cat([of["test_retain"], of["test_forget"]]) for of in (logits, y))
    out = {
        f"acc_{kind}_{stage}": accuracy(logits[part], y[part])
        for kind, stage, part in (
            ("retain", "train", "retain"),
            ("forget", "train", "forget"),
            ("retain", "test", "test_retain"),
            ("forget", "test", "test_forget"),
        )
    }

    def attack(name, score, keep=("auc", "bacc", "tpr")):
        found = class_matched(score("forget"), y["forget"], score(unseen), y[unseen])
        out.update({f"mia_{name}_{key}": found[key] for key in keep})

    attack("loss", lambda part: -attacks.per_sample_loss(logits[part], y[part]))
    attack("entropy", lambda part: -attacks.entropy(logits[part]))
    if shadows is not None:
        confidences, inside = shadows
        for variant in ("online", "offline"):

            def score(part, variant=variant):
                index = getattr(split, part).cpu().numpy()
                return lira_scores(
                    logit_confidence(logits[part], y[part]), confidences[:, index], inside[:, index], variant
                )

            attack(f"lira_{variant}", score, ("auc", "tpr"))
    train, y_train = (torch.cat([of["retain"], of["forget"]]) for of in (seen.features, y))
    nothing = not len(test)
    return out | {
        "probe_forget_acc": distances.probe(
            train, y_train, seen.features["test_forget"], y["test_forget"], images.num_classes
        ),
        "batch_acc_retain": batch_accuracy(logits["test_retain"], y["test_retain"]),
        "batch_acc_forget": batch_accuracy(logits[compat], y[compat]),
        "mia_ssd_member_rate": nan if nothing else attacks.ssd_member_rate(logits["retain"], test, logits["forget"]),
        "mia_salun_nonmember_rate": nan
        if nothing
        else attacks.salun_nonmember_rate(logits["retain"], y["retain"], test, y_test, logits["forget"], y["forget"]),
    }


def compared(own, seen, images, split, references):
    r"""The metrics that compare a model with others.

    Args: as of `metrics`; ``own``: what `own_metrics` gave for the model.
    Returns: dictionary, name -> float.
    """
    y, unseen, compat = _parts(seen, images, split)
    logits, retrain = seen.logits, references.retrain
    goal = {part: accuracy(retrain.logits[part], y[part]) for part in ("forget", "retain", "test_retain")}
    of_retrain = (
        -attacks.per_sample_loss(retrain.logits["forget"], y["forget"]),
        -attacks.per_sample_loss(retrain.logits[unseen], y[unseen]),
    )
    goal_auc = class_matched(of_retrain[0], y["forget"], of_retrain[1], y[unseen])["auc"]
    retained = (
        [own["acc_retain_train"] / 100, own["acc_retain_test"] / 100],
        [goal["retain"] / 100, goal["test_retain"] / 100],
    )
    return {
        "js_retrain": distances.js(logits["forget"], retrain.logits["forget"]),
        "activation_distance": distances.activation_distance(logits["forget"], retrain.logits["forget"]),
        "zrf": distances.zrf(logits["forget"], references.blank["forget"]),
        "cka_retrain_retain": distances.linear_cka(seen.features["test_retain"], retrain.features["test_retain"]),
        "cka_retrain_forget": distances.linear_cka(seen.features["forget"], retrain.features["forget"]),
        "cka_original_forget": distances.linear_cka(seen.features["forget"], references.original.features["forget"]),
        "tow": distances.tug_of_war(
            [own["acc_forget_train"] / 100, *retained[0]], [goal["forget"] / 100, *retained[1]]
        ),
        "tow_mia": distances.tug_of_war([own["mia_loss_auc"], *retained[0]], [goal_auc, *retained[1]]),
        "zrf_reversed": distances.zrf_reversed(logits[compat], references.blank_compat[compat]),
    }


def rows(method, seed, values, repeat=0):
    r"""Metrics as tidy rows: method, seed (of pre-training), repeat (of unlearning), metric, value, unit, mode, goal,
    images."""
    about = [{"metric": name, "value": value, **vars(METRICS[name])} for name, value in values.items()]
    return pd.DataFrame([{"method": method, "seed": seed, "repeat": repeat, **row} for row in about])
