"""Attacks: by hand, against chance, and against members that must be found."""

import numpy as np
import pytest
import torch
from conftest import confident

from megu.measure.attacks import (
    class_matched,
    entropy,
    lira_scores,
    logit_confidence,
    per_sample_loss,
    salun_nonmember_rate,
    separation,
    ssd_member_rate,
)
from megu.measure.shadows import halves


def auc(member, y_member, unseen, y_unseen):
    return class_matched(-per_sample_loss(member, y_member), y_member, -per_sample_loss(unseen, y_unseen), y_unseen)[
        "auc"
    ]


def test_loss_and_entropy_by_hand():
    y = torch.tensor([0, 1])
    assert np.allclose(per_sample_loss(confident(y, 0.5), y), np.log(2))
    assert np.allclose(entropy(torch.zeros(1, 4)), np.log(4))
    assert np.allclose(entropy(confident(y, 0.8)), -(0.8 * np.log(0.8) + 0.2 * np.log(0.1)))


def test_loss_auc_by_hand():
    y = torch.zeros(2, dtype=torch.int64)
    member, unseen = (
        torch.cat([confident(y[:1], 0.9), confident(y[:1], 0.5)]),
        torch.cat([confident(y[:1], 0.7), confident(y[:1], 0.3)]),
    )
    assert auc(member, y, unseen, y) == pytest.approx(3 / 4)  # .9 beats both, .5 beats one of two
    assert auc(unseen, y, member, y) == pytest.approx(1 / 4)


def test_loss_auc_compares_within_classes():
    """Class 1 is hard for everyone; without matching, easy members of class 0 would look like members of anything."""
    y_member, y_unseen = torch.tensor([0] * 9 + [1]), torch.tensor([0] + [1] * 9)
    easy_hard = lambda y: torch.cat([confident(y[i : i + 1], 0.9 if k == 0 else 0.4) for i, k in enumerate(y.tolist())])  # noqa: E731
    assert auc(easy_hard(y_member), y_member, easy_hard(y_unseen), y_unseen) == 0.5
    only = torch.tensor([2, 2])
    assert np.isnan(auc(confident(only, 0.9), only, confident(y_unseen, 0.9), y_unseen))


def test_ssd_member_rate_by_hand():
    y = torch.zeros(40, dtype=torch.int64)
    members, others = confident(y, 0.99), confident(y, 0.4)
    assert ssd_member_rate(members, others, confident(y[:10], 0.98)) == 100
    assert ssd_member_rate(members, others, confident(y[:10], 0.41)) == 0
    assert ssd_member_rate(
        members, others, torch.cat([confident(y[:3], 0.98), confident(y[:7], 0.41)])
    ) == pytest.approx(30)


def test_separation_at_its_ends():
    perfect = separation(np.arange(100.0) + 200, np.arange(100.0))
    assert perfect == {"auc": 1.0, "bacc": 1.0, "tpr": 1.0}
    rng = np.random.default_rng(0)
    chance = [separation(rng.normal(size=300), rng.normal(size=300)) for _ in range(20)]
    assert np.mean([c["auc"] for c in chance]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([c["bacc"] for c in chance]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([c["tpr"] for c in chance]) == pytest.approx(0.01, abs=0.01)
    # ten of a hundred members stand out: useless on average, but the low false-positive end sees it
    few = separation(np.r_[np.full(10, 9.0), np.linspace(-1, 1, 90)], np.linspace(-1, 1, 100))
    assert few["auc"] < 0.6 and few["tpr"] >= 0.1


def test_salun_rate_has_the_opposite_sign_of_the_ssd_rate():
    y = torch.zeros(60, dtype=torch.int64)
    members, others = confident(y, 0.99), confident(y, 0.4)
    for seen, rate in ((0.98, 0), (0.41, 100)):
        found = confident(y[:10], seen)
        assert (
            salun_nonmember_rate(members, y, others, y, found, y[:10]) == rate
            and ssd_member_rate(members, others, found) == 100 - rate
        )


def test_logit_confidence_by_hand():
    y = torch.tensor([0, 2])
    assert np.allclose(logit_confidence(confident(y, 0.8), y), np.log(0.8 / 0.2))
    assert np.isfinite(logit_confidence(torch.tensor([[200.0, 0.0, 0.0]]), torch.tensor([0]))).all()


def test_lira_by_hand():
    inside = np.array([[True], [True], [False], [False]])
    shadows = np.array([[4.0], [6.0], [0.0], [2.0]])  # in: mean 5, out: mean 1, both with variance 2
    found = lira_scores(np.array([5.0]), shadows, inside, "online")
    assert found == pytest.approx((5 - 1) ** 2 / (2 * 2), rel=1e-4)  # the log of a ratio of two normal densities
    assert lira_scores(np.array([1.0]), shadows, inside, "offline") == pytest.approx(0.5)
    assert np.isnan(lira_scores(np.array([1.0]), shadows, np.zeros_like(inside), "online")).all()


@pytest.mark.parametrize("variant", ["online", "offline"])
def test_lira_finds_members_that_the_average_hides(variant):
    """Images differ in how hard they are far more than membership moves them: only the per-image attack can see it."""
    rng, n, s = np.random.default_rng(0), 600, 16
    hard, inside = rng.normal(0, 5, n), halves(s, n).numpy()
    shadows = hard + 2.0 * inside + rng.normal(0, 0.5, (s, n))
    member = np.arange(n) < n // 2
    target = hard + 2.0 * member + rng.normal(0, 0.5, n)
    scores = lira_scores(target, shadows, inside, variant)
    assert (
        separation(scores[member], scores[~member])["auc"]
        > 0.95
        > 0.7
        > separation(target[member], target[~member])["auc"]
    )
    forgotten = lira_scores(hard + rng.normal(0, 0.5, n), shadows, inside, variant)
    assert separation(forgotten[member], forgotten[~member])["auc"] == pytest.approx(0.5, abs=0.07)


def test_every_image_is_in_half_of_the_shadows():
    chosen = halves(8, 500)
    assert (chosen.sum(0) == 4).all() and not torch.equal(chosen[0], chosen[1]) and torch.equal(chosen, halves(8, 500))
