"""Attacks on members and by chance."""

import numpy as np
import pytest
import torch
from conftest import confident
from scipy import stats
from torch.nn import functional as F

from megu.measure.attacks import (
    auc_interval,
    auc_variance,
    class_matched,
    class_matched_roc,
    detectable_auc,
    entropy,
    lira_scores,
    logit_confidence,
    per_sample_loss,
    salun_nonmember_rate,
    separation,
    ssd_member_rate,
)
from megu.measure.shadows import halves

ZEROS = torch.zeros(60, dtype=torch.int64)


def surely(*p, y=ZEROS):
    """Logits, one row for each probability of the true class."""
    return torch.cat([confident(y[i : i + 1], one) for i, one in enumerate(p)])


def auc(member, y, other, z):
    return class_matched(-per_sample_loss(member, y), y, -per_sample_loss(other, z), z)["auc"]


def test_images_of_which_a_model_is_very_sure_are_told_apart():
    margin = torch.linspace(20, 60, 60)
    logits = torch.stack([margin, torch.zeros(60)], 1)
    assert auc(logits[30:], ZEROS[30:], logits[:30], ZEROS[:30]) == 1
    rounded = -F.cross_entropy(logits, ZEROS, reduction="none").numpy()
    assert class_matched(rounded[30:], ZEROS[30:], rounded[:30], ZEROS[:30])["auc"] == 0.5, "the control"


def test_scores_by_hand():
    y = torch.tensor([0, 2])
    assert np.allclose(per_sample_loss(confident(y, 0.5), y), np.log(2))
    assert np.allclose(entropy(torch.zeros(1, 4)), np.log(4))
    assert np.allclose(entropy(confident(y, 0.8)), -(0.8 * np.log(0.8) + 0.2 * np.log(0.1)))
    assert np.allclose(logit_confidence(confident(y, 0.8), y), np.log(0.8 / 0.2))
    assert np.isfinite(logit_confidence(torch.tensor([[200.0, 0.0, 0.0]]), torch.tensor([0]))).all()


def test_loss_auc_by_hand():
    y, member, unseen = ZEROS[:2], surely(0.9, 0.5), surely(0.7, 0.3)
    assert auc(member, y, unseen, y) == pytest.approx(3 / 4)
    assert auc(unseen, y, member, y) == pytest.approx(1 / 4)


def test_loss_auc_compares_within_classes():
    y_member, y_unseen = torch.tensor([0] * 9 + [1]), torch.tensor([0] + [1] * 9)
    member, unseen = (surely(*[0.4 if k else 0.9 for k in y], y=y) for y in (y_member, y_unseen))
    assert auc(member, y_member, unseen, y_unseen) == 0.5
    y, z = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1])  # three members count three times
    assert auc(surely(0.9, 0.9, 0.9, 0.1, y=y), y, surely(0.5, 0.5, y=z), z) == 3 / 4
    only = torch.tensor([2, 2])
    assert np.isnan(auc(confident(only, 0.9), only, confident(y_unseen, 0.9), y_unseen))


@pytest.mark.parametrize("known", [0, 3, 10])
def test_the_compat_rates_have_opposite_directions(known):
    members, others = confident(ZEROS, 0.99), confident(ZEROS, 0.4)
    found = surely(*[0.98] * known, *[0.41] * (10 - known))
    non_members = salun_nonmember_rate((members, ZEROS), (others, ZEROS), (found, ZEROS[:10]))
    assert [ssd_member_rate(members, others, found), non_members] == pytest.approx(
        [10 * known, 100 - 10 * known], abs=0
    )


def test_separation_at_its_ends():
    assert set(separation(np.arange(100.0) + 200, np.arange(100.0)).values()) == {1.0}
    rng = np.random.default_rng(0)
    chance = [separation(rng.normal(size=300), rng.normal(size=300)) for _ in range(20)]
    for key, usual, near in (("auc", 0.5, 0.02), ("bacc", 0.5, 0.03), ("tpr", 0.01, 0.01)):
        assert np.mean([found[key] for found in chance]) == pytest.approx(usual, abs=near)
    # ten of a hundred members stand out
    few = separation(np.r_[np.full(10, 9.0), np.linspace(-1, 1, 90)], np.linspace(-1, 1, 100))
    assert few["auc"] < 0.6 and few["tpr"] >= 0.1


def test_lira_by_hand():
    inside = np.array([[True], [True], [False], [False]])
    shadows = np.array([[4.0], [6.0], [0.0], [2.0]])  # in: mean 5, out: mean 1, both with variance 2

    def score(x, *more):
        return lira_scores(np.array([x]), shadows, *more)

    assert score(5.0, inside, "online") == pytest.approx((5 - 1) ** 2 / (2 * 2), rel=1e-4)
    assert score(1.0, inside, "offline") == pytest.approx(0.5)
    assert np.isnan(score(1.0, np.zeros_like(inside), "online")).all()


@pytest.mark.parametrize("variant", ["online", "offline"])
def test_lira_finds_members_that_the_average_hides(variant):
    rng, n, s = np.random.default_rng(0), 600, 16
    hard, inside, member = rng.normal(0, 5, n), halves(s, n).numpy(), np.arange(n) < n // 2
    shadows = hard + 2.0 * inside + rng.normal(0, 0.5, (s, n))
    target, forgotten = (hard + moved * member + rng.normal(0, 0.5, n) for moved in (2.0, 0.0))

    def told(scores):
        return separation(scores[member], scores[~member])["auc"]

    assert told(lira_scores(target, shadows, inside, variant)) > 0.95 > 0.7 > told(target)
    assert told(lira_scores(forgotten, shadows, inside, variant)) == pytest.approx(0.5, abs=0.07)


def test_every_image_is_in_half_of_the_shadows():
    chosen = halves(8, 500)
    assert (chosen.sum(0) == 4).all() and not torch.equal(chosen[0], chosen[1]) and torch.equal(chosen, halves(8, 500))


@pytest.mark.parametrize(("n", "m"), [(5, 5), (12, 40), (200, 30)])
@pytest.mark.parametrize("level", [0.05, 0.05 / 3])
def test_the_interval_leaves_a_half_out_where_mann_and_whitney_do(n, m, level):
    for u in range(0, n * m + 1, max(1, n * m // 60)):
        low, high = auc_interval(u / (n * m), np.array([n]), np.array([m]), level)
        z = (abs(u - n * m / 2) - 0.5) / np.sqrt(n * m * (n + m + 1) / 12)
        assert low <= u / (n * m) <= high and 0 <= low < high <= 1
        assert (low > 0.5 or high < 0.5) == (2 * stats.norm.sf(z) < level)


def test_the_interval_covers_an_auc_that_is_not_a_half():
    """Normal scores of two classes, an AUC of 0.8 each; the variance by theory, and a control."""
    random, missed, values, (n, m) = np.random.default_rng(0), 0, [], (np.array([20, 10]), np.array([15, 30]))
    shift = np.sqrt(2) * stats.norm.ppf(0.8)
    for _ in range(400):
        pairs = [(random.normal(shift, size=a), random.normal(size=b)) for a, b in zip(n, m, strict=True)]
        values.append(np.average([(a[:, None] > b).mean() for a, b in pairs], weights=n))
        low, high = auc_interval(float(values[-1]), n, m, 0.05)
        missed += not low <= 0.8 <= high
    assert missed <= 32
    assert np.std(values) == pytest.approx(np.sqrt(auc_variance(n, m)(0.8)), rel=0.15)
    assert auc_variance(n, m)(0.8) < auc_variance(n[:1], m[:1])(0.8)  # more images tell more


def test_a_test_of_the_size_finds_the_detectable_auc_in_four_of_five():
    random, (n, m) = np.random.default_rng(0), (np.array([60]), np.array([40]))
    least = detectable_auc(n, m, 0.05)
    shift, found = np.sqrt(2) * stats.norm.ppf(least), 0
    for _ in range(400):
        a, b = random.normal(shift, size=60), random.normal(size=40)
        found += auc_interval(float((a[:, None] > b).mean()), n, m, 0.05)[0] > 0.5
    assert 0.74 < found / 400 < 0.86
    assert detectable_auc(n, m, 0.05, 0.6) > least + 0.1 and detectable_auc(n // 20, m // 20, 0.05) is None


def test_the_curve_has_the_auc_and_sizes_of_each_class():
    y, z = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2])
    curve = class_matched_roc(np.array([3.0, 2.0, 0.0, 1.0]), y, np.array([1.0, 2.0, 9.0]), z)
    assert curve["auc"] == pytest.approx((3 * 2 / 3 + 0) / 4)
    assert curve["members"].tolist() == [3, 1] and curve["others"].tolist() == [1, 1]
    assert class_matched_roc(np.ones(1), y[:1], np.ones(1), z[1:2]) is None
