"""The shapes in signatures are true, and a wrong one is noticed."""

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from megu import noise_pair, perturbing_labels
from megu.measure import distances, patterns
from megu.settings.config import Noise

N, K = 5, 4
POSTERIOR, Y, T = torch.full((N, K), 1 / K), torch.zeros(N, dtype=torch.int64), np.full((K, K), 1 / K)
X = torch.zeros(N, 1, 3, 3)
CALLS = {  # function, right arguments, which of them is wrong, and how
    "eq. 4-5": (perturbing_labels.similarity, (np.ones((N, K)), np.arange(N) % K, K, "none"), 1, np.zeros((N, 1), int)),
    "eq. 6": (perturbing_labels.transition_matrix, (np.ones((K, K)),), 0, np.ones((K, K + 1))),
    "eq. 7": (perturbing_labels.association, (T, POSTERIOR, Y), 2, Y[:-1]),
    "eq. 8": (perturbing_labels.perturbing_labels, (T, POSTERIOR, Y), 0, T[:, :-1]),
    "eq. 11": (noise_pair.add_noise_pair, (X, noise_pair.NoisePair(X, X), Noise()), 0, X[0]),
    "pixels": (noise_pair.shuffled_pixels, (X, torch.Generator()), 0, X[:, 0]),
    "divergence": (distances.js, (POSTERIOR, POSTERIOR), 1, POSTERIOR[:, 1:]),
    "index": (patterns.entanglement_index, (np.ones((K, 7)),), 0, np.ones(7)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_shape_is_noticed(name):
    function, right, which, wrong = CALLS[name]
    checked = jaxtyped(typechecker=beartype)(function)
    checked(*right)
    with pytest.raises(TypeCheckError):
        checked(*right[:which], wrong, *right[which + 1 :])


def test_calls_between_modules_are_checked():
    with pytest.raises(TypeCheckError):  # without a wrapper: the hook of the tests did it
        distances.js(POSTERIOR, POSTERIOR[:, 1:])
