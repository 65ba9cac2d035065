"""Tidy rows to means, intervals and gaps."""

from collections.abc import Sequence
from math import nan

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats


def stage_seconds(timings: pd.DataFrame) -> pd.DataFrame:
    """Mean over the seeds: method, part, seconds; no original.  What no part of a total has, if over a hundredth, is
    called other; a total without parts training."""
    timings = timings[timings["method"] != "original"]
    total, apart = timings["part"].eq("total"), timings["part"].isin(["evaluation", "guide"])
    whole, named = (timings[rows].groupby("method")["seconds"].sum() for rows in (total, ~total & ~apart))
    rest = whole - named.reindex(whole.index, fill_value=0)
    rest = (rest / timings[total].groupby("method").size())[rest > 0.01 * whole].reset_index(name="seconds")
    rest["part"] = np.where(rest["method"].isin(named.index), "other", "training")
    return pd.concat([timings[~total].groupby(["method", "part"], as_index=False)["seconds"].mean(), rest])


def half_width(values: Float[np.ndarray, " n"]) -> float:
    r"""Half of the 95 % t-interval of the mean over seeds, $t_{n-1}\, s / \sqrt n$; NaN for fewer than two seeds."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return nan
    return float(stats.t.ppf(0.975, len(values) - 1) * (values.std(ddof=1) / np.sqrt(len(values))))


def over_seeds(table: pd.DataFrame, by: Sequence[str], value: str = "value") -> pd.DataFrame:
    """Mean, `half_width` and number of seeds of ``value`` in each group of the columns ``by``, in their order."""
    grouped = table.groupby(by, sort=False)[value]
    return grouped.agg(mean="mean", half_width=half_width, seeds="count").reset_index()


def _paired(values, reference, is_reference):
    """Seeds, mean, mean difference, `half_width` of the differences (NaN for the reference itself)."""
    gap = values - reference
    return int(values.notna().sum()), values.mean(), gap.mean(), nan if is_reference else half_width(gap)


def against_default(table: pd.DataFrame) -> pd.DataFrame:
    """Paired differences of every variant of an ablation to the default of the same seed.

    Args: table: point (default, retrain or the changed one), variant, seed, metric, unit, value.
    Returns: also default_distance, of the default's mean to the retrained models'.
    """
    wide = table.pivot_table(index=["metric", "unit", "point", "variant"], columns="seed", values="value", sort=False)
    usual, goal = (wide.xs(key, level=["point", "variant"]) for key in (("default", "as tuned"), ("retrain",) * 2))
    out = []
    for (metric, unit, point, variant), values in wide.iterrows():
        mine = usual.loc[(metric, unit)]
        distance = mine.mean() - goal.loc[(metric, unit)].mean()
        out.append((point, variant, metric, unit, *_paired(values, mine, point == "default"), distance))
    names = "point variant metric unit seeds mean change change_half_width default_distance"
    return pd.DataFrame(out, columns=names.split())


def by_scenario(table: pd.DataFrame) -> pd.DataFrame:
    """`summary` of every scenario of a comparison, one below the other, with a column scenario."""
    parts = table.groupby("scenario", sort=False)
    return pd.concat([summary(part).assign(scenario=name) for name, part in parts], ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Every method and metric over the seeds of pre-training, of which each counts once, with the mean of its repeats.

    Returns: half_width (of retrain, times sqrt 2: the noise floor), within (mean standard deviation of the repeats of
        one seed), gap (method minus retrain of the same seed) and others.
    Raises: ValueError where a seed has no retrained model.
    """
    if set(table.loc[table["method"] == "retrain", "seed"]) != set(table["seed"]):
        raise ValueError("every seed needs a retrained model, which is the reference of all gaps")
    grouped = table.groupby(["metric", "mode", "unit", "seed", "method"], sort=False)["value"]
    wide, spread = grouped.mean().unstack("method", sort=False), grouped.std().unstack("method", sort=False)
    out = []
    for (metric, mode, unit), part in wide.groupby(level=[0, 1, 2], sort=False):
        within = spread.loc[part.index]
        for method in table["method"].unique():
            seeds, mean, *gap = _paired(part[method], part["retrain"], method == "retrain")
            spreads = half_width(part[method]), within[method].mean()
            out.append((method, metric, mode, unit, mean, *spreads, seeds, *gap))
    names = "method metric mode unit mean half_width within seeds gap gap_half_width"
    return pd.DataFrame(out, columns=names.split())


def minutes(seconds: pd.DataFrame) -> float:
    """Minutes that all models of a grid (dataset, arch, seed, method, part, seconds) took together, without guide and
    evaluation; an original that several cells share is counted once."""
    total = seconds[seconds["part"] == "total"]
    shared = total["method"].eq("original") & total.duplicated(["dataset", "arch", "seed", "seconds"])
    return float(total.loc[~shared, "seconds"].sum() / 60)
