r"""Does a guide make sense? Its neighbours against a list that a person wrote beforehand, and against another guide."""

import itertools

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64
from scipy import stats

from megu.settings.class_names import SENSIBLE_NEIGHBOURS

Sim = Float[np.ndarray, "K K"]  # row k = class k


def _others(sim):
    return np.where(np.eye(len(sim), dtype=bool), -np.inf, sim)


def nearest(sim: Sim) -> Int64[np.ndarray, " K"]:
    r"""Index of the most similar other class of each class."""
    return _others(sim).argmax(1)


def sensible_hits(sim: Sim, class_names, sensible: dict[str, set[str]] = SENSIBLE_NEIGHBOURS) -> int:
    r"""Number of classes whose nearest other class is on the list; classes without an entry are not scored."""
    pairs = zip(class_names, nearest(sim), strict=True)
    return sum(class_names[j] in sensible[name] for name, j in pairs if name in sensible)


def shuffled_hits(
    sim: Sim, class_names, draws: int = 1000, seed: int = 0, sensible: dict[str, set[str]] = SENSIBLE_NEIGHBOURS
) -> tuple[float, float]:
    r"""The negative control: hits when the candidate labels' names are permuted, ``draws`` times.

    Returns: (mean hits, which is chance; p-value: share of permutations with at least as many hits as ``sim`` itself).
    """
    rng, sim = np.random.default_rng(seed), np.asarray(sim, float)
    hits = np.array([sensible_hits(sim[:, rng.permutation(len(sim))], class_names, sensible) for _ in range(draws)])
    return float(hits.mean()), float((1 + (hits >= sensible_hits(sim, class_names, sensible)).sum()) / (1 + draws))


def same_order(a: Sim, b: Sim) -> float:
    r"""Spearman's rank correlation of each row of two guides without its diagonal, mean over the rows; NaN where a row
    of either is constant."""
    off = ~np.eye(len(a), dtype=bool)
    rows = zip(np.asarray(a), np.asarray(b), off, strict=True)
    return float(np.mean([stats.spearmanr(x[others], y[others]).statistic for x, y, others in rows]))


def same_nearest(a: Sim, b: Sim, k: int = 3) -> float:
    r"""Share of the k nearest other classes that two guides have in common, mean over the rows: in [0, 1], chance k /
    (K - 1).  Of few classes fewer are compared, at most half of the others; NaN where that is none."""
    if not (k := min(k, (len(a) - 1) // 2)):
        return float("nan")
    tops = [np.argsort(_others(sim), 1)[:, -k:] for sim in (a, b)]
    return float(np.mean([len(set(x) & set(y)) / k for x, y in zip(*tops, strict=True)]))


def agreement_tables(sims: list[tuple[int, dict[str, Sim]]], class_names) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""How sensible the guides' neighbours are, and how far the guides agree.

    Args: sims: pairs (draw of the exemplars, similarity by guide).
    Returns: two tidy tables, of guides: guide, draw, hits, shuffled (mean hits with shuffled names), p (see
        `shuffled_hits`), of (classes scored); and of pairs: first, second (guides), draw, order (`same_order`), nearest
        (`same_nearest` of 3).
    """
    single, pairs, scored = [], [], sum(name in SENSIBLE_NEIGHBOURS for name in class_names)
    for draw, by_source in sims:
        for source, sim in by_source.items():
            hits, (shuffled, p) = sensible_hits(sim, class_names), shuffled_hits(sim, class_names)
            counts = {"hits": hits, "shuffled": round(shuffled, 2), "p": round(p, 3), "of": scored}
            single.append({"guide": source, "draw": draw, **counts})
        for (first, a), (second, b) in itertools.combinations(by_source.items(), 2):
            alike = {"order": same_order(a, b), "nearest": same_nearest(a, b)}
            pairs.append({"first": first, "second": second, "draw": draw, **alike})
    return pd.DataFrame(single), pd.DataFrame(pairs)
