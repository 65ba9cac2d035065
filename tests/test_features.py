"""Entanglement measures against tables in which the truth is known."""

import numpy as np
import pytest

from megu.features import centroid_similarity, feature_table, serving_units, shared_and_unique


@pytest.fixture
def known():
    """Three classes, six units: unit 0 serves class 0, unit 1 class 1, unit 2 both, unit 3 class 2, units 4-5 nobody."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 200)
    table = rng.normal(size=(600, 6))
    for k, units in enumerate(([0, 2], [1, 2], [3])):
        table[np.ix_(y == k, units)] += 3
    return table, y


def test_serving_units_are_found_and_permuted_labels_find_none(known):
    table, y = known
    assert serving_units(table, y, 3).astype(int).tolist() == [[1, 0, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]]
    assert not serving_units(table, np.random.default_rng(1).permutation(y), 3).any()


def test_shared_and_unique(known):
    serving = serving_units(*known, 3)
    assert shared_and_unique(serving, 0, 1) == {"shared": 1, "only_a": 1, "only_b": 1, "jaccard": 1 / 3}
    assert shared_and_unique(serving, 0, 2)["shared"] == 0


def test_centroids(known):
    sim = centroid_similarity(*known, 3)
    assert np.allclose(np.diag(sim), 1) and np.allclose(sim, sim.T)
    assert sim[0, 1] > sim[0, 2] and sim[0, 1] > sim[1, 2]


def test_features_of_a_model(tiny):
    table = feature_table(tiny.original(0), tiny.images, tiny.split.test_retain)
    assert table.shape == (len(tiny.split.test_retain), 128) and np.isfinite(table).all()
