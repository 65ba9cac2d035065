r"""Does a guide make sense? Its nearest neighbours against a list that a person wrote beforehand."""

import numpy as np
from scipy import stats

from megu.settings.class_names import SENSIBLE_NEIGHBOURS


def nearest(sim):
    r"""Index of the most similar other class of each class: ``(K, K)`` float to ``(K,)`` int."""
    sim = np.array(sim, float)
    np.fill_diagonal(sim, -np.inf)
    return sim.argmax(1)


def sensible_hits(sim, class_names, sensible=SENSIBLE_NEIGHBOURS):
    r"""Number of classes whose nearest other class is on the list; classes without an entry are not scored.

    Args:
        sim: ``(K, K)`` float, row k = class k.
        class_names: K names.
        sensible: class name -> set of names.
    """
    return sum(
        class_names[j] in sensible[name] for name, j in zip(class_names, nearest(sim), strict=True) if name in sensible
    )


def shuffled_hits(sim, class_names, draws=1000, seed=0, sensible=SENSIBLE_NEIGHBOURS):
    r"""The negative control: hits when the candidate labels' names are permuted.

    Args:
        sim, class_names, sensible: see `sensible_hits`.
        draws: number of permutations.
        seed: of the permutations.
    Returns: (mean hits, which is chance; share of permutations with at least as many hits as ``sim`` itself, a
        p-value).
    """
    rng, sim = np.random.default_rng(seed), np.asarray(sim, float)
    found = np.array([sensible_hits(sim[:, rng.permutation(len(sim))], class_names, sensible) for _ in range(draws)])
    return float(found.mean()), float((1 + (found >= sensible_hits(sim, class_names, sensible)).sum()) / (1 + draws))


def same_order(a, b):
    r"""How far two guides order the other classes alike: Spearman's rank correlation of each row without its diagonal,
    mean over the rows.

    Args:
        a, b: ``(K, K)`` similarity.
    Returns: in [-1, 1]; NaN where a row of either is constant.
    """
    off = ~np.eye(len(a), dtype=bool)
    return float(
        np.mean(
            [
                stats.spearmanr(x[keep], y[keep]).statistic
                for x, y, keep in zip(np.asarray(a), np.asarray(b), off, strict=True)
            ]
        )
    )


def same_nearest(a, b, k=3):
    r"""Share of the k nearest other classes that two guides have in common, mean over the rows: in [0, 1], chance k /
    (K - 1).

    Of few classes fewer are compared, at most half of the others; NaN where that is none.
    """
    k = min(k, (len(a) - 1) // 2)
    if not k:
        return float("nan")
    tops = [
        np.argsort(np.where(np.eye(len(sim), dtype=bool), -np.inf, sim), 1)[:, -k:] for sim in map(np.asarray, (a, b))
    ]
    return float(np.mean([len(set(x) & set(y)) / k for x, y in zip(*tops, strict=True)]))
