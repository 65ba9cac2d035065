r"""Every metric from one forward pass per part of the split; tidy rows that say what they are."""

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
import torch
from scipy import stats

from megu.attacks import loss_auc, ssd_member_rate
from megu.train import predict


@dataclass(frozen=True)
class Metric:
    """What a number is: mode (strict or compat), unit, the value that unlearning aims at, and the images it is from."""

    mode: str
    unit: str
    goal: str
    images: str


METRICS = {
    "acc_retain_train": Metric("strict", "percent", "retrain", "retained training images"),
    "acc_forget_train": Metric("strict", "percent", "retrain", "forgotten training images"),
    "acc_retain_test": Metric("strict", "percent", "retrain", "test images of what is retained"),
    "acc_forget_test": Metric("strict", "percent", "retrain", "test images of what is forgotten"),
    "mia_loss_auc": Metric("strict", "share", "retrain; 0.5 = cannot be told", "forgotten against unseen images of the same classes"),
    "mia_ssd_member_rate": Metric("compat", "percent", "retrain", "forgotten training images, judge fitted on retained and test"),
}


def all_logits(model, images, split):
    r"""One forward pass over every part of the split.

    Args:
        model: images to logits.
        images: `megu.data.Images`.
        split: `megu.splits.Split`.
    Returns: dictionary, name of the part -> ``(n, K)`` float32.
    """
    parts = [part.name for part in fields(split)]
    sizes = [len(getattr(split, name)) for name in parts]
    together = predict(model, images, torch.cat([getattr(split, name) for name in parts]))
    return dict(zip(parts, together.split(sizes), strict=True))


def accuracy(logits, y):
    r"""Share of right answers in percent, NaN for no images.

    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1, 1, 0]))
    75.0
    """
    return 100 * (logits.argmax(1) == y).double().mean().item() if len(y) else float("nan")


def metrics(logits, images, split):
    r"""All metrics of one model from its cached logits.

    Args:
        logits: from `all_logits`.
        images: `megu.data.Images`.
        split: `megu.splits.Split`.
    Returns: dictionary, name in `METRICS` -> float.
    """
    y = {name: images.y[index] for name, index in vars(split).items()}
    unseen = ("test_forget", "test_retain") if not len(y["test_forget"]) else ("test_forget",)
    return {
        "acc_retain_train": accuracy(logits["retain"], y["retain"]),
        "acc_forget_train": accuracy(logits["forget"], y["forget"]),
        "acc_retain_test": accuracy(logits["test_retain"], y["test_retain"]),
        "acc_forget_test": accuracy(logits["test_forget"], y["test_forget"]),
        "mia_loss_auc": loss_auc(logits["forget"], y["forget"], torch.cat([logits[p] for p in unseen]), torch.cat([y[p] for p in unseen])),
        "mia_ssd_member_rate": ssd_member_rate(logits["retain"], torch.cat([logits["test_retain"], logits["test_forget"]]), logits["forget"]),
    }


def rows(method, seed, values):
    r"""Metrics as tidy rows: method, seed, metric, value, unit, mode, goal, images."""
    about = [{"metric": name, "value": value, **vars(METRICS[name])} for name, value in values.items()]
    return pd.DataFrame([{"method": method, "seed": seed, **row} for row in about])


def stage_seconds(timings):
    r"""Mean seconds of every method by part, for the figure of times.

    Args:
        timings: tidy DataFrame with method, seed, part, seconds; "total" is kept only where nothing finer was measured.
    Returns: DataFrame with method, part, seconds; the retrain's total is called training, the original is left out.
    """
    parts = timings[(timings["part"] != "total") | timings["method"].eq("retrain")].replace({"part": {"total": "training"}})
    return parts[parts["method"] != "original"].groupby(["method", "part"], as_index=False)["seconds"].mean()


def half_width(values, level=0.95):
    r"""Half of the t-interval of the mean over seeds: $t_{n-1}\, s / \sqrt n$; NaN for fewer than two seeds."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf(0.5 + level / 2, len(values) - 1) * stats.sem(values))


def summary(table):
    r"""Mean, half-width of the 95 % t-interval and number of seeds of every method and metric, with the gap to retrain.

    Args:
        table: tidy rows of several methods and seeds, "retrain" among them.
    Returns: DataFrame with method, metric, mode, unit, mean, half_width, seeds, gap, gap_half_width; the gap is method minus
        retrain of the same seed, so its interval is that of paired differences.  The row of retrain itself has gap 0 and no
        interval: its own half_width is the noise floor.
    Raises: ValueError where a seed has no retrained model.
    """
    if set(table.loc[table["method"] == "retrain", "seed"]) != set(table["seed"]):
        raise ValueError("every seed needs a retrained model, which is the reference of all gaps")
    wide = table.set_index(["metric", "mode", "unit", "seed", "method"])["value"].unstack("method", sort=False)
    out = []
    for (metric, mode, unit), part in wide.groupby(level=[0, 1, 2], sort=False):
        for method in table["method"].unique():
            value, gap = part[method], part[method] - part["retrain"]
            out.append({
                "method": method, "metric": metric, "mode": mode, "unit": unit,
                "mean": value.mean(), "half_width": half_width(value), "seeds": int(value.notna().sum()),
                "gap": gap.mean(), "gap_half_width": half_width(gap) if method != "retrain" else float("nan"),
            })  # fmt: skip
    return pd.DataFrame(out)
