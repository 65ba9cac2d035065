"""Metrics and attacks: by hand, and each against a model for which it must be bad."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from megu.attacks import entropy, loss_auc, per_sample_loss, ssd_member_rate
from megu.evaluate import METRICS, accuracy, half_width, metrics, rows, summary
from megu.models import build


def confident(y, p, k=3):
    """Logits that give class y the probability p and share the rest."""
    out = torch.full((len(y), k), (1 - p) / (k - 1)).log()
    out[torch.arange(len(y)), y] = np.log(p)
    return out


def test_loss_and_entropy_by_hand():
    y = torch.tensor([0, 1])
    assert np.allclose(per_sample_loss(confident(y, 0.5), y), np.log(2))
    assert np.allclose(entropy(torch.zeros(1, 4)), np.log(4))
    assert np.allclose(entropy(confident(y, 0.8)), -(0.8 * np.log(0.8) + 0.2 * np.log(0.1)))


def test_loss_auc_by_hand():
    y = torch.zeros(2, dtype=torch.int64)
    member, unseen = torch.cat([confident(y[:1], 0.9), confident(y[:1], 0.5)]), torch.cat([confident(y[:1], 0.7), confident(y[:1], 0.3)])
    assert loss_auc(member, y, unseen, y) == pytest.approx(3 / 4)  # .9 beats both, .5 beats one of two
    assert loss_auc(unseen, y, member, y) == pytest.approx(1 / 4)


def test_loss_auc_compares_within_classes():
    """Class 1 is hard for everyone; without matching, easy members of class 0 would look like members of anything."""
    y_member, y_unseen = torch.tensor([0] * 9 + [1]), torch.tensor([0] + [1] * 9)
    easy_hard = lambda y: torch.cat([confident(y[i : i + 1], 0.9 if k == 0 else 0.4) for i, k in enumerate(y.tolist())])  # noqa: E731
    assert loss_auc(easy_hard(y_member), y_member, easy_hard(y_unseen), y_unseen) == 0.5
    only = torch.tensor([2, 2])
    assert np.isnan(loss_auc(confident(only, 0.9), only, confident(y_unseen, 0.9), y_unseen))


def test_ssd_member_rate_by_hand():
    y = torch.zeros(40, dtype=torch.int64)
    members, others = confident(y, 0.99), confident(y, 0.4)
    assert ssd_member_rate(members, others, confident(y[:10], 0.98)) == 100
    assert ssd_member_rate(members, others, confident(y[:10], 0.41)) == 0
    assert ssd_member_rate(members, others, torch.cat([confident(y[:3], 0.98), confident(y[:7], 0.41)])) == pytest.approx(30)


def test_accuracy():
    assert accuracy(confident(torch.tensor([0, 1, 2, 2]), 0.9), torch.tensor([0, 1, 2, 0])) == 75
    assert np.isnan(accuracy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)))


def test_a_memorising_original_is_caught_and_a_random_model_fails_utility(tiny):
    split, y = tiny.split, tiny.images.y
    learned = {name: confident(y[index], 0.9, 10) for name, index in vars(split).items()}
    for name in ("val_forget", "test_forget"):
        learned[name] = confident(y[getattr(split, name)], 0.4, 10)
    memorised = metrics(learned, tiny.images, split)
    assert memorised["mia_loss_auc"] == 1 and memorised["acc_forget_train"] == 100
    blank = build("resnet-small", 10, tiny.images.shape, 0).eval()
    from megu.evaluate import all_logits  # noqa: PLC0415

    guessing = metrics(all_logits(blank, tiny.images, split), tiny.images, split)
    assert guessing["acc_retain_test"] < 40


def test_rows_say_what_they_are():
    table = rows("megu", 3, {"acc_retain_test": 90.0, "mia_ssd_member_rate": 5.0})
    assert set(table["mode"]) == {"strict", "compat"} and set(table.columns) == {"method", "seed", "metric", "value", "mode", "unit", "goal", "images"}
    assert all(metric.mode in ("strict", "compat") and metric.unit and metric.goal and metric.images for metric in METRICS.values())


def test_half_width_is_the_t_interval():
    values = [1.0, 2.0, 4.0]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert half_width(values) == pytest.approx((high - low) / 2) and np.isnan(half_width([1.0]))


def test_t_interval_covers_and_a_normal_one_does_not():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 3))
    covered = np.mean([abs(d.mean()) <= half_width(d) for d in draws])
    normal = np.mean(np.abs(draws.mean(1)) <= 1.96 * stats.sem(draws, axis=1))
    assert covered == pytest.approx(0.95, abs=0.015) and normal < 0.85


def test_gaps_are_paired():
    table = pd.concat(
        [rows("retrain", s, {"acc_retain_test": 80.0 + s}) for s in range(3)] + [rows("megu", s, {"acc_retain_test": 79.0 + s}) for s in range(3)]
    )
    found = summary(table).set_index("method")
    assert found.loc["megu", "gap"] == pytest.approx(-1) and found.loc["megu", "gap_half_width"] == pytest.approx(0)
    assert found.loc["megu", "half_width"] > 2 and np.isnan(found.loc["retrain", "gap_half_width"])
    with pytest.raises(ValueError, match="every seed needs a retrained model"):
        summary(table[(table["method"] == "megu") | (table["seed"] > 0)])
