r"""Every metric of a model, by its name and with what it is, from the `Outputs` of one forward pass."""

from dataclasses import dataclass
from math import nan

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from megu.core.splits import Split
from megu.datasets.images import Images
from megu.measure import attacks, distances
from megu.measure.attacks import class_matched, lira_scores, logit_confidence
from megu.measure.outputs import Outputs


@dataclass(frozen=True)
class Metric:
    r"""What a number is.

    Attributes:
        mode: strict or compat.  unit.  goal: the value that unlearning aims at.  images: that it is from.
        needs: what must be there besides the model, words: ``test`` images or those of forgotten classes
            (``test_forget``), a linear ``head``, a model after ``retrain``, an ``untrained`` one (``untrained_batch``:
            with batch statistics), ``shadows``, or a ``training`` of its own.
    """

    mode: str
    unit: str
    goal: str
    images: str
    needs: str = ""

    @property
    def description(self) -> dict[str, str]:
        """Mode, unit, goal and images, as tables have them."""
        return {name: getattr(self, name) for name in ("mode", "unit", "goal", "images")}


def _strict(unit, goal, images, needs=""):
    return Metric("strict", unit, goal, images, needs)


def _compat(unit, images, needs):
    return Metric("compat", unit, "retrain", images, needs)


_GONE, _KEPT = "forgotten training images", "test images of what is retained"
_GONE_TEST = "test images of what is forgotten"
_OR = "; forgotten training images where there is none"
_JUDGED = "forgotten training images, judge fitted on retained and test"
_MATCHED = "forgotten against unseen images of the same classes"
_CHANCE = {"auc": "retrain; 0.5 = cannot be told", "tpr": "retrain; 0.01 = cannot be told"}
_CHANCE["bacc"] = _CHANCE["auc"]
_ATTACKS = [(name, key, "test") for name in ("loss", "entropy") for key in ("auc", "bacc", "tpr")]
_ATTACKS += [(f"lira_{name}", key, "test shadows") for name in ("online", "offline") for key in ("auc", "tpr")]
_PROBED = f"linear head refitted on training images; {_GONE_TEST}"
_THREE = "forgotten training, retained training, retained test images"
_ZERO, _ONE = "0 and the noise floor", "1 and the noise floor"
METRICS = {
    "acc_retain_train": _strict("percent", "retrain", "retained training images"),
    "acc_forget_train": _strict("percent", "retrain", _GONE),
    "acc_retain_test": _strict("percent", "retrain", _KEPT, "test"),
    "acc_forget_test": _strict("percent", "retrain", _GONE_TEST, "test test_forget"),
    **{f"mia_{name}_{key}": _strict("share", _CHANCE[key], _MATCHED, needs) for name, key, needs in _ATTACKS},
    "probe_forget_acc": _strict("percent", "retrain", _PROBED, "head test test_forget"),
    "js_retrain": _strict("nats", _ZERO, _GONE, "retrain"),
    "activation_distance": _strict("share", _ZERO, _GONE, "retrain"),
    "zrf": _strict("share", "retrain", _GONE, "untrained"),
    "cka_retrain_retain": _strict("share", _ONE, _KEPT, "retrain head test"),
    "cka_retrain_forget": _strict("share", _ONE, _GONE, "retrain head"),
    "cka_original_forget": _strict("share", "retrain", _GONE, "head"),
    "tow": _strict("share", "1", _THREE, "retrain test"),
    "tow_mia": _strict("share", "1", "the same, with the loss attack in place of the forget accuracy", "retrain test"),
    "relearn_steps": _strict("steps", "retrain", f"{_GONE}, training on all", "training"),
    "batch_acc_retain": _compat("percent", f"{_KEPT}; all test images where none is", "test"),
    "batch_acc_forget": _compat("percent", _GONE_TEST + _OR, "test"),
    "mia_ssd_member_rate": _compat("percent", _JUDGED, "test"),
    "mia_salun_nonmember_rate": _compat("percent", _JUDGED, "test"),
    "zrf_reversed": _compat("share", _GONE_TEST + _OR, "untrained_batch"),
}


def expected(shadows: int = 0) -> list[str]:
    r"""Names in `METRICS` that `metrics` gives: LiRA only with shadow models; ``relearn_steps`` is a training, see
    `megu.measure.relearn`."""
    absent = {"training"} if shadows else {"training", "shadows"}
    return [name for name, metric in METRICS.items() if absent.isdisjoint(metric.needs.split())]


@dataclass(frozen=True)
class References:
    r"""What a model is compared with.

    Attributes:
        original, retrain: of the same seed of pre-training.
        blank: logits of an untrained network by part; blank_compat: with batch statistics, as the public code has it.
        shadows: (confidences, inside) over the pool for the likelihood-ratio attack, or None.
    """

    original: Outputs
    retrain: Outputs
    blank: dict[str, Float[Tensor, "_ K"]]
    blank_compat: dict[str, Float[Tensor, "_ K"]]
    shadows: tuple[Float[np.ndarray, "S N"], Bool[np.ndarray, "S N"]] | None = None


def accuracy(logits: Float[Tensor, "n K"], y: Int[Tensor, " n"]) -> float:
    r"""Share of right answers in percent, NaN for no images.

    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1, 1, 0]))
    75.0
    """
    return 100 * (logits.argmax(1) == y).double().mean().item() if len(y) else nan


def batch_accuracy(logits: Float[Tensor, "n K"], y: Int[Tensor, " n"], batch: int = 64) -> float:
    r"""Mean of the accuracies of batches in percent (compat): a short last batch counts as much as a full one.

    >>> batch_accuracy(torch.eye(2)[[0, 0, 0]], torch.tensor([0, 0, 1]), batch=2)
    50.0
    """
    parts = [accuracy(*part) for part in zip(logits.split(batch), y.split(batch), strict=True)]
    return sum(parts) / len(parts)


def metrics(outputs: Outputs, images: Images, split: Split, references: References) -> dict[str, float]:
    r"""All metrics of one model that need no further training: each name of `expected` -> value."""
    own = own_metrics(outputs, images, split, references.shadows)
    return own | compared(own, outputs, images, split, references)


def _parts(images, split):
    """Labels of every part, and the parts that stand for unseen images of the same classes (strict, compat): where no
    class goes, all others do."""
    y = {name: images.y[index] for name, index in vars(split).items()}
    return y, *(("test_forget", "test_forget") if len(y["test_forget"]) else ("test_retain", "forget"))


def own_metrics(outputs: Outputs, images: Images, split: Split, shadows: tuple | None = None) -> dict[str, float]:
    r"""The metrics that need no other model: accuracies, attacks, the linear probe.

    Args: as of `metrics`; ``shadows`` as of `References`.
    Returns: NaN where the images that a metric is from are not there.
    """
    (y, unseen, compat), logits, table = _parts(images, split), outputs.logits, outputs.features
    out = {
        "acc_retain_train": accuracy(logits["retain"], y["retain"]),
        "acc_forget_train": accuracy(logits["forget"], y["forget"]),
        "acc_retain_test": accuracy(logits["test_retain"], y["test_retain"]),
        "acc_forget_test": accuracy(logits["test_forget"], y["test_forget"]),
    }

    def attack(name, score, keep=("auc", "bacc", "tpr")):
        numbers = class_matched(score("forget"), y["forget"], score(unseen), y[unseen])
        out.update({f"mia_{name}_{key}": numbers[key] for key in keep})

    attack("loss", lambda part: -attacks.per_sample_loss(logits[part], y[part]))
    attack("entropy", lambda part: -attacks.entropy(logits[part]))
    for variant in ("online", "offline") if shadows is not None else ():

        def score(part, variant=variant):
            index, own = getattr(split, part).cpu().numpy(), logit_confidence(logits[part], y[part])
            return lira_scores(own, shadows[0][:, index], shadows[1][:, index], variant)

        attack(f"lira_{variant}", score, ("auc", "tpr"))
    train, y_train = (torch.cat([of["retain"], of["forget"]]) for of in (table, y))
    test, y_test = (torch.cat([of["test_retain"], of["test_forget"]]) for of in (logits, y))
    on_retain, on_test = (logits["retain"], y["retain"]), (test, y_test)
    return out | {
        "probe_forget_acc": distances.probe(train, y_train, table["test_forget"], y["test_forget"], images.num_classes),
        "batch_acc_retain": batch_accuracy(logits["test_retain"], y["test_retain"]),
        "batch_acc_forget": batch_accuracy(logits[compat], y[compat]),
        "mia_ssd_member_rate": attacks.ssd_member_rate(logits["retain"], test, logits["forget"]) if len(test) else nan,
        "mia_salun_nonmember_rate": attacks.salun_nonmember_rate(*on_retain, *on_test, logits["forget"], y["forget"])
        if len(test)
        else nan,
    }


def compared(own: dict, outputs: Outputs, images: Images, split: Split, references: References) -> dict[str, float]:
    r"""The metrics that compare a model with others.

    Args: as of `metrics`; ``own``: what `own_metrics` gave for the model.
    """
    (y, unseen, compat), logits, table = _parts(images, split), outputs.logits, outputs.features
    retrain, original = references.retrain, references.original
    loss = {part: -attacks.per_sample_loss(retrain.logits[part], y[part]) for part in ("forget", unseen)}
    goal_auc = class_matched(loss["forget"], y["forget"], loss[unseen], y[unseen])["auc"]
    goal = {part: accuracy(retrain.logits[part], y[part]) / 100 for part in ("forget", "retain", "test_retain")}
    forgot = own["acc_forget_train"] / 100
    kept, goals = [own["acc_retain_train"] / 100, own["acc_retain_test"] / 100], [goal["retain"], goal["test_retain"]]
    return {
        "js_retrain": distances.js(logits["forget"], retrain.logits["forget"]),
        "activation_distance": distances.activation_distance(logits["forget"], retrain.logits["forget"]),
        "zrf": distances.zrf(logits["forget"], references.blank["forget"]),
        "cka_retrain_retain": distances.linear_cka(table["test_retain"], retrain.features["test_retain"]),
        "cka_retrain_forget": distances.linear_cka(table["forget"], retrain.features["forget"]),
        "cka_original_forget": distances.linear_cka(table["forget"], original.features["forget"]),
        "tow": distances.tug_of_war([forgot, *kept], [goal["forget"], *goals]),
        "tow_mia": distances.tug_of_war([own["mia_loss_auc"], *kept], [goal_auc, *goals]),
        "zrf_reversed": distances.zrf_reversed(logits[compat], references.blank_compat[compat]),
    }


def rows(method: str, seed: int, values: dict[str, float], repeat: int = 0) -> pd.DataFrame:
    r"""Metrics as tidy rows: method, seed (of pre-training), repeat (of unlearning), metric, value, unit, mode, goal,
    images."""
    about = [{"metric": name, "value": value, **METRICS[name].description} for name, value in values.items()]
    return pd.DataFrame([{"method": method, "seed": seed, "repeat": repeat, **row} for row in about])
