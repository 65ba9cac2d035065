"""Eq. 4-8 against numbers worked out by hand."""

import numpy as np
import pytest
import torch

from megu.perturbing_labels import association, perturbing_labels, similarity, transition_matrix

# Three classes; S by hand, T[l, k] = S[k, l] / row sum.
SIM = np.array([[6.0, 3.0, 1.0], [2.0, 6.0, 2.0], [0.0, 5.0, 5.0]])
T = np.array([[0.6, 0.2, 0.0], [0.3, 0.6, 0.5], [0.1, 0.2, 0.5]])


def test_transition_by_hand():
    assert np.allclose(transition_matrix(SIM), T)


def test_similarity_is_the_mean_over_exemplars():
    scores = [[0.2, 0.4], [0.4, 0.8], [1.0, 0.0]]
    assert np.allclose(similarity(scores, [0, 0, 1], 2, "none"), [[0.3, 0.6], [1.0, 0.0]])


def test_column_calibration_removes_what_depends_on_the_label_alone():
    rng = np.random.default_rng(0)
    scores, of_class = rng.normal(size=(30, 3)), np.repeat([0, 1, 2], 10)
    expected = similarity(scores, of_class, 3)
    assert np.allclose(similarity(scores + [5.0, -3.0, 100.0], of_class, 3), expected)
    assert not np.allclose(similarity(scores + rng.normal(size=(30, 1)), of_class, 3), expected)
    assert ((expected > 0) & (expected < 1)).all()


def test_association_by_hand():
    posterior = torch.tensor([[0.5, 0.3, 0.2]])
    found = association(T, posterior, torch.tensor([0]))  # entry 0 is zeroed: T @ (0, .3, .2)
    assert torch.allclose(found, torch.tensor([[0.06, 0.28, 0.16]]), atol=1e-6)


K = 10
RANKED = torch.tensor([[0.0, 9, 8, 7, 6, 5, 4, 3, 2, 1]]) / 45  # class 1 is the most associated when T is the identity


@pytest.mark.parametrize(("settings", "expected"), [
    ({"tau": 0.3}, 3), ({"tau": 0.05}, 1), ({"tau": 1.0}, 9), ({"tau": 0.3, "exclude": (1, 2)}, 5),
    ({"tau": 0.3, "choice": "nearest"}, 1), ({"tau": 0.3, "choice": "farthest"}, 9),
])  # fmt: skip
def test_rank_by_hand(settings, expected):
    assert perturbing_labels(np.eye(K), RANKED, torch.tensor([0]), **settings).tolist() == [expected]


@pytest.mark.parametrize(("k", "rank"), [(10, 3), (20, 6), (100, 30)])
def test_rank_is_floor_of_k_tau(k, rank):
    posterior = torch.arange(k, 0, -1).float()[None]
    posterior[0, 0] = 0
    label = perturbing_labels(np.eye(k), posterior / posterior.sum(), torch.tensor([0]), tau=0.3)
    assert label.item() == rank


def test_own_class_and_excluded_classes_are_never_chosen():
    posterior, y, gen = torch.rand(200, K).softmax(1), torch.randint(0, K, (200,)), torch.Generator().manual_seed(0)
    for choice in ("rank", "nearest", "farthest", "posterior", "random"):
        labels = perturbing_labels(np.full((K, K), 0.1), posterior, y, exclude=(4, 7), choice=choice, gen=gen)
        assert (labels != y).all() and not set(labels.tolist()) & {4, 7}
    assert len(set(labels.tolist())) == K - 2, "random labels are of every class that is left"


def test_the_own_class_may_be_allowed():
    """A2 to the letter: T mixes the own class back in, so it can be the most associated one."""
    transition, y = np.full((K, K), 0.05), torch.tensor([0])
    transition[0] = 0.55
    assert perturbing_labels(transition, RANKED, y, tau=0.1, own=True).item() == 0
    assert perturbing_labels(transition, RANKED, y, tau=0.1).item() != 0


@pytest.mark.parametrize(("change", "expected"), [
    ({"transition": np.full((K, K), 0.2)}, "column of transition must sum to 1"),
    ({"posterior": RANKED * 2}, "row of posterior must sum to 1"),
    ({"transition": np.eye(3)}, "do not fit together"),
    ({"tau": 0.0}, "tau is 0"),
    ({"exclude": tuple(range(1, K))}, "no class is left"),
])  # fmt: skip
def test_wrong_input_is_refused(change, expected):
    given = {"transition": np.eye(K), "posterior": RANKED, "y": torch.tensor([0])} | change
    with pytest.raises(ValueError, match=expected):
        perturbing_labels(**given)


@pytest.mark.parametrize(("sim", "expected"), [
    (np.ones((2, 3)), "square"), (-np.ones((2, 2)), "non-negative"),
    (np.array([[1.0, 1.0], [0.0, 0.0]]), "similar to nothing"),
])  # fmt: skip
def test_wrong_similarity_is_refused(sim, expected):
    with pytest.raises(ValueError, match=expected):
        transition_matrix(sim)


@pytest.mark.parametrize(("scores", "expected"), [
    ([[0.1, np.nan], [0.2, 0.3]], "1 of 4 answers are missing"), (np.ones((2, 3)), r"classes \[2\]"),
    ([[2.0, 1.0], [1.0, 2.0]], "reach from 1 to 2: .* must be in"),
])  # fmt: skip
def test_wrong_answers_are_refused(scores, expected):
    with pytest.raises(ValueError, match=expected):
        similarity(scores, [0, 1], len(scores[0]), "none")


def test_posterior_asks_the_model_alone():
    posterior = torch.tensor([[0.5, 0.1, 0.3, 0.1]])
    others = np.full((4, 4), 0.01) + 0.96 * np.eye(4)[[3, 3, 3, 3]].T  # T sends everything to class 3
    found = [perturbing_labels(others, posterior, torch.tensor([0]), choice=c).item() for c in ("posterior", "nearest")]
    assert found == [2, 3]
