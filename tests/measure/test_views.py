"""Views of similarity and their agreement with a guide."""

import numpy as np
import pytest
from conftest import similarity_like

from megu.measure.views import VIEWS, agreement, plane
from megu.perturbing_labels import transition_matrix


@pytest.fixture(scope="module")
def chain():
    rng, y = np.random.default_rng(0), np.repeat(np.arange(6), 60)
    return similarity_like(6)[y] @ rng.normal(size=(6, 30)) + rng.normal(size=(360, 30)), y


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_finds_the_neighbours(chain, name):
    table, y = chain
    labels = {"right": y, "permuted": np.random.default_rng(1).permutation(y)}
    sims = {which: VIEWS[name](table, of, 6) for which, of in labels.items()}
    assert sims["right"].shape == (6, 6) and np.allclose(sims["right"], sims["right"].T)
    assert name != "centroid cosine" or np.allclose(np.diag(sims["right"]), 1)
    found, blind = agreement(sims, transition_matrix(similarity_like(6))).to_dict("records")
    assert 0.6 < found["order"] > found["shuffled"] and found["low"] < found["order"] < found["high"]
    assert found["p"] < 0.02 and blind["order"] < 0.4 and blind["p"] > 0.05


def test_agreement_by_hand():
    one = np.array([[9, 3, 2, 1], [1, 9, 2, 3], [1, 2, 9, 3], [3, 1, 2, 9.0]])
    found = agreement({"same": one, "reverse": -one}, one.T).set_index("view")["order"]
    assert found["same"] == pytest.approx(1) and found["reverse"] == pytest.approx(-1)


def test_a_plane(chain):
    found = plane(chain[0][:120], seed=0)
    assert found.shape == (120, 2) and np.isfinite(found).all()
