"""Means, intervals, gaps."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from megu.measure.metrics import rows
from megu.measure.summary import against_default, half_width, over_seeds, summary


def table_of(**values):
    seeds = [(name, seed, many) for name, seeds in values.items() for seed, many in enumerate(seeds)]
    return pd.concat([rows(n, s, {"acc_retain_test": 1.0 * v}, r) for n, s, many in seeds for r, v in enumerate(many)])


def test_half_width_is_the_t_interval():
    values = [1.0, 2.0, 4.0]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert half_width(values) == pytest.approx((high - low) / 2) and np.isnan(half_width([1.0]))


def test_gaps_are_paired():
    table = table_of(retrain=[[80], [81], [82]], megu=[[79], [80], [81]])
    found = summary(table).set_index("method")
    assert found.loc["megu", "gap"] == pytest.approx(-1) and found.loc["megu", "gap_half_width"] == pytest.approx(0)
    assert found.loc["megu", "half_width"] > 2 and np.isnan(found.loc["retrain", "gap_half_width"])
    with pytest.raises(ValueError, match="every seed needs a retrained model"):
        summary(table[(table["method"] == "megu") | (table["seed"] > 0)])


def test_repeats_of_a_seed_do_not_narrow_the_interval():
    table = table_of(megu=[[80, 82, 84], [70, 72, 74], [90, 92, 94]], retrain=[[90]] * 3)
    found = summary(table).set_index("method").loc["megu"]
    assert found["half_width"] == pytest.approx(half_width([82, 72, 92])) and found["seeds"] == 3
    assert found["within"] == pytest.approx(2) and found["gap"] == pytest.approx(-8)


def test_an_ablation_is_paired_with_the_default():
    variants = [("retrain", "retrain", 80, 90), ("default", "as tuned", 70, 82), ("A2", "other", 71, 83)]
    table = pd.DataFrame([*variants, ("A6", "wild", 60, 92)], columns=["point", "variant", 0, 1])
    table = table.melt(["point", "variant"], var_name="seed").assign(metric="m", unit="percent")
    found = against_default(table).set_index("variant")
    change, spread = found["change"], found["change_half_width"]
    assert change["other"] == 1 and spread["other"] == 0
    assert change["wild"] == 0 and spread["wild"] > 10
    assert change["as tuned"] == 0 and np.isnan(spread["as tuned"]) and found.loc["as tuned", "default_distance"] == -9


def test_means_over_seeds_keep_the_order():
    table = pd.DataFrame({"method": ["b", "b", "a", "a"], "seed": [0, 1, 0, 1], "value": [1.0, 3.0, 5.0, np.nan]})
    found = over_seeds(table, ["method"])
    assert found[["method", "mean", "seeds"]].values.tolist() == [["b", 2, 2], ["a", 5, 1]]
    assert found["half_width"][0] == pytest.approx(12.706, abs=1e-3) and np.isnan(found["half_width"][1])
