r"""Tidy rows to means, intervals and gaps."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats


def stage_seconds(timings: pd.DataFrame) -> pd.DataFrame:
    r"""Mean seconds of every method by part, for the figure of times.

    Args:
        timings: method, seed, part, seconds; "total" is kept only where nothing finer was measured.
    Returns: method, part, seconds; the retrain's total is called training, the original is left out.
    """
    parts = timings[(timings["part"] != "total") | timings["method"].eq("retrain")]
    parts = parts[parts["method"] != "original"].replace({"part": {"total": "training"}})
    return parts.groupby(["method", "part"], as_index=False)["seconds"].mean()


@lru_cache
def _quantile(n: int, level: float) -> float:
    return stats.t.ppf(0.5 + level / 2, n - 1)


def half_width(values: Float[np.ndarray, " n"], level: float = 0.95) -> float:
    r"""Half of the t-interval of the mean over seeds: $t_{n-1}\, s / \sqrt n$; NaN for fewer than two seeds."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan")
    return float(_quantile(len(values), level) * (values.std(ddof=1) / np.sqrt(len(values))))


def over_seeds(table: pd.DataFrame, by: Sequence[str], value: str = "value") -> pd.DataFrame:
    r"""Mean, `half_width` and number of seeds of ``value`` in each group of the columns ``by``, in the order of the
    table."""
    grouped = table.groupby(by, sort=False)[value]
    return grouped.agg(mean="mean", half_width=half_width, seeds="count").reset_index()


def against_default(table: pd.DataFrame, default: str = "as tuned") -> pd.DataFrame:
    r"""Paired differences of every variant of an ablation to the default of the same seed, with 95 % t-intervals over
    the seeds.

    Args:
        table: point, variant, seed, metric, unit, value; the retrained models are point "retrain".
        default: name of the variant that all others are compared with.
    Returns: point, variant, metric, unit, seeds, mean, change, change_half_width and default_distance (of the default's
        mean to the retrained models'); the row of the default has change 0.
    """
    wide = table.pivot_table(index=["metric", "unit", "point", "variant"], columns="seed", values="value", sort=False)
    usual, goal = (wide.xs(name, level=["point", "variant"]) for name in (("default", default), ("retrain",) * 2))
    out = []
    for (metric, unit, point, variant), values in wide.iterrows():
        mine, change = usual.loc[(metric, unit)], values - usual.loc[(metric, unit)]
        about = {"point": point, "variant": variant, "metric": metric, "unit": unit}
        numbers = {
            "seeds": int(values.notna().sum()),
            "mean": values.mean(),
            "change": change.mean(),
            "change_half_width": half_width(change) if point != "default" else float("nan"),
            "default_distance": mine.mean() - goal.loc[(metric, unit)].mean(),
        }
        out.append(about | numbers)
    return pd.DataFrame(out)


def by_scenario(table: pd.DataFrame) -> pd.DataFrame:
    r"""`summary` of every scenario of a comparison, one below the other, with a column scenario."""
    parts = table.groupby("scenario", sort=False)
    return pd.concat([summary(part).assign(scenario=name) for name, part in parts], ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    r"""Mean, half-width of the 95 % t-interval and number of seeds of every method and metric, with the gap to retrain.

    Repeats of the unlearning are averaged for each seed of pre-training first, because they share an original: the
    interval is over seeds of pre-training, and ``within`` is the mean standard deviation of the repeats of one seed.

    Args:
        table: tidy rows of several methods and seeds, "retrain" among them.
    Returns: method, metric, mode, unit, mean, half_width, within, seeds, gap, gap_half_width; the gap is method minus
        retrain of the same seed, so its interval is that of paired differences.  The row of retrain itself has gap 0
        and no interval: its own half_width is the noise floor.
    Raises: ValueError where a seed has no retrained model.
    """
    if set(table.loc[table["method"] == "retrain", "seed"]) != set(table["seed"]):
        raise ValueError("every seed needs a retrained model, which is the reference of all gaps")
    by = ["metric", "mode", "unit", "seed", "method"]
    grouped = table.groupby(by, sort=False)["value"]
    wide, spread = grouped.mean().unstack("method", sort=False), grouped.std().unstack("method", sort=False)
    out = []
    for key, part in wide.groupby(level=[0, 1, 2], sort=False):
        within = spread.xs(key, level=[0, 1, 2])
        for method in table["method"].unique():
            value, gap = part[method], part[method] - part["retrain"]
            about = {"method": method, **dict(zip(("metric", "mode", "unit"), key, strict=True))}
            numbers = {
                "mean": value.mean(),
                "half_width": half_width(value),
                "within": within[method].mean(),
                "seeds": int(value.notna().sum()),
                "gap": gap.mean(),
                "gap_half_width": half_width(gap) if method != "retrain" else float("nan"),
            }
            out.append(about | numbers)
    return pd.DataFrame(out)


def minutes(seconds: pd.DataFrame) -> float:
    r"""Minutes that all models of a grid took together, without guide and evaluation; an original that several cells
    share is counted once.

    Args:
        seconds: dataset, arch, seed, method, part, seconds of every model.
    """
    total = seconds[seconds["part"] == "total"]
    shared = total["method"].eq("original") & total.duplicated(["dataset", "arch", "seed", "seconds"])
    return float(total.loc[~shared, "seconds"].sum() / 60)
