"""Means, intervals, gaps."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from megu.measure.metrics import rows
from megu.measure.summary import against_default, half_width, over_seeds, summary


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
        [rows("retrain", s, {"acc_retain_test": 80.0 + s}) for s in range(3)]
        + [rows("megu", s, {"acc_retain_test": 79.0 + s}) for s in range(3)]
    )
    found = summary(table).set_index("method")
    assert found.loc["megu", "gap"] == pytest.approx(-1) and found.loc["megu", "gap_half_width"] == pytest.approx(0)
    assert found.loc["megu", "half_width"] > 2 and np.isnan(found.loc["retrain", "gap_half_width"])
    with pytest.raises(ValueError, match="every seed needs a retrained model"):
        summary(table[(table["method"] == "megu") | (table["seed"] > 0)])


def test_repeats_of_one_original_do_not_narrow_the_interval():
    """Nine rows of three originals are three independent values."""
    values = {0: (80, 82, 84), 1: (70, 72, 74), 2: (90, 92, 94)}
    table = [
        rows("megu", s, {"acc_retain_test": float(v)}, r) for s, three in values.items() for r, v in enumerate(three)
    ]
    table += [rows("retrain", s, {"acc_retain_test": 90.0}) for s in range(3)]
    found = summary(pd.concat(table)).set_index("method").loc["megu"]
    assert found["half_width"] == pytest.approx(half_width([82, 72, 92])) and found["seeds"] == 3
    assert found["within"] == pytest.approx(2) and found["gap"] == pytest.approx(-8)


def test_an_ablation_is_compared_with_the_default_of_the_same_seed():
    values = {
        ("retrain", "retrain"): [80, 90],
        ("default", "as tuned"): [70, 82],
        ("A2", "other"): [71, 83],
        ("A6", "wild"): [60, 92],
    }
    rows = [
        {"point": p, "variant": v, "seed": s, "metric": "m", "unit": "percent", "value": x}
        for (p, v), xs in values.items()
        for s, x in enumerate(xs)
    ]
    found = against_default(pd.DataFrame(rows)).set_index("variant")
    assert (
        found.loc["other", "change"] == 1 and found.loc["other", "change_half_width"] == 0
    )  # paired: no spread although the seeds differ
    assert found.loc["wild", "change"] == 0 and found.loc["wild", "change_half_width"] > 10
    assert found.loc["as tuned", "change"] == 0 and found.loc["as tuned", "default_distance"] == -9


def test_means_over_seeds_keep_the_order_and_say_how_many():
    table = pd.DataFrame({"method": ["b", "b", "a", "a"], "seed": [0, 1, 0, 1], "value": [1.0, 3.0, 5.0, np.nan]})
    found = over_seeds(table, ["method"])
    assert (
        found["method"].tolist() == ["b", "a"]
        and found["mean"].tolist() == [2, 5]
        and found["seeds"].tolist() == [2, 1]
    )
    assert found["half_width"][0] == pytest.approx(12.706, abs=1e-3) and np.isnan(found["half_width"][1])
