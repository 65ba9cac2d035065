"""Every metric of a model, by its name and with what it is."""

from dataclasses import dataclass
from functools import partial
from math import nan

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from megu.core.models import accuracy, probe
from megu.core.splits import Split
from megu.datasets.images import Images
from megu.measure import attacks, distances
from megu.measure.outputs import Outputs


@dataclass(frozen=True)
class Metric:
    """What a number is: its unit, the images that it is from, the goal of unlearning, mode strict or compat.

    ``needs``: words for what must be there besides the model: test images, those of forgotten classes (test_forget), a
    linear head, a model after retrain, an untrained one (untrained_batch: with batch statistics), shadows, a training.
    """

    unit: str
    images: str
    needs: str = ""
    goal: str = "retrain"
    mode: str = "strict"

    @property
    def description(self) -> dict[str, str]:
        """Mode, unit, goal and images, as tables have them."""
        return {name: getattr(self, name) for name in ("mode", "unit", "goal", "images")}


_GONE, _KEPT = "forgotten training images", "test images of what is retained"
_GONE_TEST = "test images of what is forgotten"
_OR = f"{_GONE_TEST}; {_GONE} where there is none"
_JUDGED = f"{_GONE}, judge fitted on retained and test"
_MATCHED = "forgotten against unseen images of the same classes"
_GOALS = {key: f"retrain; {chance} = cannot be told" for key, chance in (("auc", 0.5), ("bacc", 0.5), ("tpr", 0.01))}
_ATTACKS = [(name, key, "test") for name in ("loss", "entropy") for key in _GOALS]
_ATTACKS += [(f"lira_{name}", key, "test shadows") for name in ("online", "offline") for key in ("auc", "tpr")]
_ZERO, _ONE = "0 and the noise floor", "1 and the noise floor"
METRICS = {
    "acc_retain_train": Metric("percent", "retained training images"),
    "acc_forget_train": Metric("percent", _GONE),
    "acc_retain_test": Metric("percent", _KEPT, "test"),
    "acc_forget_test": Metric("percent", _GONE_TEST, "test test_forget"),
    **{f"mia_{name}_{key}": Metric("share", _MATCHED, needs, _GOALS[key]) for name, key, needs in _ATTACKS},
    "probe_forget_acc": Metric(
        "percent", f"linear head refitted on training images; {_GONE_TEST}", "head test test_forget"
    ),
    "js_retrain": Metric("nats", _GONE, "retrain", _ZERO),
    "activation_distance": Metric("share", _GONE, "retrain", _ZERO),
    "zrf": Metric("share", _GONE, "untrained"),
    "cka_retrain_retain": Metric("share", _KEPT, "retrain head test", _ONE),
    "cka_retrain_forget": Metric("share", _GONE, "retrain head", _ONE),
    "cka_original_forget": Metric("share", _GONE, "head"),
    "tow": Metric("share", "forgotten training, retained training, retained test images", "retrain test", "1"),
    "tow_mia": Metric("share", "the same, with the loss attack in place of the forget accuracy", "retrain test", "1"),
    "relearn_steps": Metric("steps", f"{_GONE}, training on all", "training"),
    "batch_acc_retain": Metric("percent", f"{_KEPT}; all test images where none is", "test", mode="compat"),
    "batch_acc_forget": Metric("percent", _OR, "test", mode="compat"),
    "mia_ssd_member_rate": Metric("percent", _JUDGED, "test", mode="compat"),
    "mia_salun_nonmember_rate": Metric("percent", _JUDGED, "test", mode="compat"),
    "zrf_reversed": Metric("share", _OR, "untrained_batch", mode="compat"),
}


def expected(shadows: int = 0) -> list[str]:
    """Names in `METRICS` that `metrics` gives: LiRA only with shadow models; ``relearn_steps`` is a training."""
    absent = {"training"} if shadows else {"training", "shadows"}
    return [name for name, metric in METRICS.items() if absent.isdisjoint(metric.needs.split())]


@dataclass(frozen=True)
class References:
    """What a model is compared with: models of the same seed of pre-training, logits of an untrained network
    (``blank``: of forget images; ``blank_compat``: by part, with batch statistics),
    `megu.measure.shadows.confidences`."""

    original: Outputs
    retrain: Outputs
    blank: Float[Tensor, "n K"]
    blank_compat: dict[str, Float[Tensor, "_ K"]]
    shadows: tuple[Float[np.ndarray, "S N"], Bool[np.ndarray, "S N"]] | None = None


def batch_accuracy(logits: Float[Tensor, "n K"], y: Int[Tensor, " n"]) -> float:
    """Mean of the accuracies of batches of 64 in percent (compat): a short last batch counts as much as a full one."""
    parts = [accuracy(*part) for part in zip(logits.split(64), y.split(64), strict=True)]
    return sum(parts) / len(parts)


def metrics(outputs: Outputs, images: Images, split: Split, references: References) -> dict[str, float]:
    """Each name of `expected` -> value, NaN where the images that it is from are not there."""
    y = {name: images.y[index] for name, index in vars(split).items()}
    # What stands for unseen images of the same classes (strict, compat): where no class goes, all others do.
    unseen, compat = ("test_forget", "test_forget") if len(y["test_forget"]) else ("test_retain", "forget")
    logits, table, retrain, shadows = outputs.logits, outputs.features, references.retrain, references.shadows

    def matched(score):
        return attacks.class_matched(score("forget"), y["forget"], score(unseen), y[unseen])

    def loss(part, said=logits):
        return -attacks.per_sample_loss(said[part], y[part])

    def likelihood(variant):  # of both groups at once: with sigmas of its own each would have another scale
        index = torch.cat([getattr(split, part) for part in ("forget", unseen)]).cpu().numpy()
        own = np.r_[tuple(attacks.logit_confidence(logits[part], y[part]) for part in ("forget", unseen))]
        found = attacks.lira_scores(own, shadows[0][:, index], shadows[1][:, index], variant)
        return dict(zip(("forget", unseen), np.split(found, [len(y["forget"])]), strict=True)).get

    def aligned(model, part):
        return distances.linear_cka(table[part], model.features[part])

    scores = {"loss": loss, "entropy": lambda part: -attacks.entropy(logits[part])}
    if shadows is not None:
        scores |= {f"lira_{variant}": likelihood(variant) for variant in ("online", "offline")}
    numbers = {name: matched(score) for name, score in scores.items()}
    goal_auc = matched(partial(loss, said=retrain.logits))["auc"]
    own, goal = ({part: accuracy(of[part], y[part]) for part in y} for of in (logits, retrain.logits))
    shares, goals = ([of[part] / 100 for part in ("forget", "retain", "test_retain")] for of in (own, goal))
    train, y_train = (torch.cat([of["retain"], of["forget"]]) for of in (table, y))
    test, y_test = (torch.cat([of["test_retain"], of["test_forget"]]) for of in (logits, y))
    gone = logits["forget"]
    judged = ((logits["retain"], y["retain"]), (test, y_test), (gone, y["forget"]))
    return {
        "acc_retain_train": own["retain"],
        "acc_forget_train": own["forget"],
        "acc_retain_test": own["test_retain"],
        "acc_forget_test": own["test_forget"],
        **{f"mia_{name}_{key}": numbers[name][key] for name, key, _ in _ATTACKS if name in numbers},
        "probe_forget_acc": probe(train, y_train, table["test_forget"], y["test_forget"], images.num_classes),
        "batch_acc_retain": batch_accuracy(logits["test_retain"], y["test_retain"]),
        "batch_acc_forget": batch_accuracy(logits[compat], y[compat]),
        "mia_ssd_member_rate": attacks.ssd_member_rate(*(said for said, _ in judged)) if len(test) else nan,
        "mia_salun_nonmember_rate": attacks.salun_nonmember_rate(*judged) if len(test) else nan,
        "js_retrain": distances.js(gone, retrain.logits["forget"]),
        "activation_distance": distances.activation_distance(gone, retrain.logits["forget"]),
        "zrf": distances.zrf(gone, references.blank),
        "cka_retrain_retain": aligned(retrain, "test_retain"),
        "cka_retrain_forget": aligned(retrain, "forget"),
        "cka_original_forget": aligned(references.original, "forget"),
        "tow": distances.tug_of_war(shares, goals),
        "tow_mia": distances.tug_of_war([numbers["loss"]["auc"], *shares[1:]], [goal_auc, *goals[1:]]),
        "zrf_reversed": distances.zrf_reversed(logits[compat], references.blank_compat[compat]),
    }


def rows(method: str, seed: int, values: dict[str, float], repeat: int = 0) -> pd.DataFrame:
    """Tidy rows: method, seed (of pre-training), repeat (of unlearning), metric, value, mode, unit, goal, images."""
    key = {"method": method, "seed": seed, "repeat": repeat}
    about = [{**key, "metric": name, "value": value, **METRICS[name].description} for name, value in values.items()]
    return pd.DataFrame(about)
