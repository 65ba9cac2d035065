"""A guide's neighbours against a list that a person wrote beforehand, and against another guide's."""

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
    """Index of the most similar other class of each class."""
    return _others(sim).argmax(1)


def sensible_hits(sim: Sim, class_names, sensible: dict[str, set[str]] = SENSIBLE_NEIGHBOURS) -> int:
    """Number of classes whose nearest other class is on the list; classes without an entry are not scored."""
    pairs = zip(class_names, nearest(sim), strict=True)
    return sum(class_names[j] in sensible[name] for name, j in pairs if name in sensible)


def shuffled_hits(sim: Sim, class_names, sensible: dict[str, set[str]] = SENSIBLE_NEIGHBOURS) -> tuple[float, float]:
    """By 1,000 permutations of the candidate labels: (mean hits, which is chance; p-value of the hits of ``sim``)."""
    rng = np.random.default_rng(0)
    hits = np.array([sensible_hits(sim[:, rng.permutation(len(sim))], class_names, sensible) for _ in range(1000)])
    return float(hits.mean()), float((1 + (hits >= sensible_hits(sim, class_names, sensible)).sum()) / 1001)


def same_order(a: Sim, b: Sim) -> float:
    """Spearman's rank correlation of rows without the diagonal, mean over the rows; NaN where one is constant."""
    rows = zip(a, b, ~np.eye(len(a), dtype=bool), strict=True)
    return float(np.mean([stats.spearmanr(x[others], y[others]).statistic for x, y, others in rows]))


def same_nearest(a: Sim, b: Sim) -> float:
    """Share of the k nearest other classes in common, mean over the rows: in [0, 1], chance k / (K - 1).  k is 3, at
    most half of the others; NaN where that is none."""
    if not (k := min(3, (len(a) - 1) // 2)):
        return float("nan")
    tops = [np.argsort(_others(sim), 1)[:, -k:] for sim in (a, b)]
    return float(np.mean([len(set(x) & set(y)) / k for x, y in zip(*tops, strict=True)]))


def agreement_tables(sims: list[tuple[int, dict[str, Sim]]], class_names) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of guides (`sensible_hits` of how many classes, `shuffled_hits`) and of pairs of guides (`same_order`,
    `same_nearest`); ``sims``: (draw of the exemplars, similarity by guide)."""
    single, pairs, scored = [], [], sum(name in SENSIBLE_NEIGHBOURS for name in class_names)
    for draw, by_source in sims:
        for source, sim in by_source.items():
            shuffled, p = shuffled_hits(sim, class_names)
            single.append((source, draw, sensible_hits(sim, class_names), round(shuffled, 2), round(p, 3), scored))
        for (first, a), (second, b) in itertools.combinations(by_source.items(), 2):
            pairs.append((first, second, draw, same_order(a, b), same_nearest(a, b)))
    guides = pd.DataFrame(single, columns=["guide", "draw", "hits", "shuffled", "p", "of"])
    return guides, pd.DataFrame(pairs, columns=["first", "second", "draw", "order", "nearest"])
