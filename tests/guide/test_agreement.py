"""Agreement of guides: with a list of sensible neighbours, with each other, on hand-made similarities."""

import numpy as np
import pytest

from megu.guide.agreement import agreement_tables, nearest, same_nearest, same_order, sensible_hits, shuffled_hits
from megu.settings.class_names import SENSIBLE_NEIGHBOURS

NAMES = tuple(SENSIBLE_NEIGHBOURS)
PERFECT = np.array([[float(b in SENSIBLE_NEIGHBOURS[a]) for b in NAMES] for a in NAMES])


def test_hits_by_hand():
    assert sensible_hits(PERFECT, NAMES) == 9 and sensible_hits(1 - PERFECT - 9 * np.eye(9), NAMES) == 0
    assert nearest(np.array([[9.0, 1, 2], [3, 9, 1], [1, 2, 9]])).tolist() == [2, 0, 1]
    mean, p = shuffled_hits(PERFECT, NAMES)
    assert mean < 4 and p < 0.01
    assert shuffled_hits(np.random.default_rng(0).random((9, 9)), NAMES)[1] > 0.05


def test_agreement_of_two_guides_by_hand():
    rng = np.random.default_rng(0)
    one, other = rng.random((20, 20)), rng.random((20, 20))
    assert same_order(one, one**3) == pytest.approx(1) and same_nearest(one, one**3) == 1  # only the order counts
    assert same_order(one, -one) == pytest.approx(-1) and same_nearest(one, -one) == 0
    four, another = rng.random((4, 4)), rng.random((4, 4))
    assert same_nearest(four, four) == 1  # one of three, not all
    assert min(same_nearest(rng.permuted(four, axis=1), another) for _ in range(20)) < 1
    assert np.isnan(same_nearest(four[:2, :2], another[:2, :2]))
    assert abs(same_order(one, other)) < 0.15 and same_nearest(one, other) < 0.4
    assert same_order(one, one + 5 * np.eye(20)) == pytest.approx(1)  # the diagonal plays no part


def test_the_tables_hold_every_guide_and_pair_of_every_draw():
    rng = np.random.default_rng(0)
    sims = [(draw, {"good": PERFECT + 0.1 * rng.random((9, 9)), "noise": rng.random((9, 9))}) for draw in (0, 7)]
    single, pairs = agreement_tables(sims, NAMES)
    assert list(zip(single["guide"], single["draw"], strict=True)) == [
        (g, d) for d in (0, 7) for g in ("good", "noise")
    ]
    assert (single.query("guide == 'good'")["hits"] == 9).all() and (single["of"] == 9).all()
    assert (single.query("guide == 'noise'")["hits"] < 9).all()
    assert pairs["draw"].tolist() == [0, 7] and pairs["order"].tolist() == [same_order(*s.values()) for _, s in sims]
