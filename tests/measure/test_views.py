"""Views of similarity against tables in which the truth is known, and their agreement with a guide that says it."""

import numpy as np
import pytest
from conftest import similarity_like
from refusals import refused

from megu.measure.views import VIEWS, agreement, centroid_similarity, feature_table, plane
from megu.perturbing_labels import transition_matrix


@pytest.fixture(scope="module")
def chain():
    """Six classes in a row, each like its neighbours: means on a curve, noise about them."""
    rng, y = np.random.default_rng(0), np.repeat(np.arange(6), 60)
    return similarity_like(6)[y] @ rng.normal(size=(6, 30)) + rng.normal(size=(360, 30)), y


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_finds_the_neighbours_and_permuted_labels_do_not(chain, name):
    table, y = chain
    sim = VIEWS[name](table, y, 6)
    assert sim.shape == (6, 6) and np.allclose(sim, sim.T)
    truth = transition_matrix(similarity_like(6))
    found = agreement({name: sim}, truth).iloc[0]
    assert (
        found["order"] > 0.6
        and found["order"] > found["shuffled"]
        and found["p"] < 0.02
        and found["low"] < found["order"] < found["high"]
    )
    blind = agreement({name: VIEWS[name](table, np.random.default_rng(1).permutation(y), 6)}, truth).iloc[0]
    assert blind["order"] < 0.4 and blind["p"] > 0.05


def test_centroids(chain):
    assert np.allclose(np.diag(centroid_similarity(*chain, 6)), 1)


def test_agreement_by_hand():
    one = np.array([[9, 3, 2, 1], [1, 9, 2, 3], [1, 2, 9, 3], [3, 1, 2, 9.0]])
    found = agreement({"same": one, "reverse": -one}, one.T).set_index("view")["order"]
    assert found["same"] == pytest.approx(1) and found["reverse"] == pytest.approx(-1)


def test_a_plane_keeps_groups_apart(chain):
    table, y = chain
    found = plane(table[:120], seed=0)  # classes 0 and 1
    assert found.shape == (120, 2) and np.isfinite(found).all()
    with refused("pip install umap-learn"):
        plane(table[:10], method="umap")


def test_features_of_a_model(tiny):
    table = feature_table(tiny.original(0), tiny.images, tiny.split.test_retain)
    assert table.shape == (len(tiny.split.test_retain), 128) and np.isfinite(table).all()
