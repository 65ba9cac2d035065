r"""How alike concepts are in a classifier's features: five views of the same table, a map of it, and their agreement
with a guide."""

import importlib

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from megu.measure.distances import linear_cka
from megu.measure.outputs import collect_features
from megu.settings.errors import SettingsError

Table = Float[np.ndarray, "n d"]  # features of n images, see `feature_table`
Labels = Int[np.ndarray, " n"]  # their classes, each of the K present
View = Float[np.ndarray, "K K"]


def feature_table(model, images, index, layer=None) -> Table:
    r"""Features of many images in float64; arguments as of `megu.measure.outputs.collect_features`."""
    return collect_features(model, images, index, layer).double().cpu().numpy()


def centroid_similarity(table: Table, y: Labels, num_classes: int) -> View:
    r"""Cosine between the centred class means.

    $s_{kl} = \cos(\mu_k - \mu, \mu_l - \mu)$ with $\mu$ the mean of the $\mu_k$.

    Returns: in [-1, 1], symmetric, ones on the diagonal.
    """
    means = np.stack([table[y == k].mean(0) for k in range(num_classes)])
    means = means - means.mean(0)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return means @ means.T


def class_cka(table: Table, y: Labels, num_classes: int) -> View:
    r"""Linear CKA of every two classes, with the units as the examples: do images of both classes use the units in the
    same combinations?

    `megu.measure.distances.linear_cka` of $X_k^\top$ and $X_l^\top$, in [0, 1].
    """
    groups = [torch.from_numpy(table[y == k].T) for k in range(num_classes)]
    return np.array([[linear_cka(a, b) for b in groups] for a in groups])


def probe_confusion(table: Table, y: Labels, num_classes: int, folds: int = 3) -> View:
    r"""What a linear probe takes the classes for: mean probability of class l on held-out images of class k,
    symmetrised.

    Args: folds: of the cross-validation of a logistic regression on standardised features.
    Returns: in [0, 1].
    """
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    posterior = cross_val_predict(probe, table, y, cv=folds, method="predict_proba")
    share = np.stack([posterior[y == k].mean(0) for k in range(num_classes)])
    return (share + share.T) / 2


def neighbour_share(table: Table, y: Labels, num_classes: int, k: int = 10) -> View:
    r"""Share of class l among the k nearest images (cosine) of an image of class k, symmetrised, in [0, 1].

    Args: k: neighbours, the image itself left out.
    """
    near = NearestNeighbors(n_neighbors=k, metric="cosine").fit(table).kneighbors(return_distance=False)
    share = np.stack(
        [np.bincount(y[near[y == c]].ravel(), minlength=num_classes) / (k * (y == c).sum()) for c in range(num_classes)]
    )
    return (share + share.T) / 2


VIEWS = {
    "centroid cosine": centroid_similarity,
    "linear CKA": class_cka,
    "probe confusion": probe_confusion,
    "nearest neighbours": neighbour_share,
}


def plane(table: Table, seed: int = 0, method: str = "tsne") -> Float[np.ndarray, "n 2"]:
    r"""A map of the features in the plane, for pictures alone: distances in it mean little.

    Args:
        seed: of the map.
        method: ``tsne`` (scikit-learn), or ``umap`` where umap-learn is installed.
    Raises: SettingsError where umap is asked for and not installed.
    """
    if method == "umap":
        try:
            reducer = importlib.import_module("umap").UMAP(random_state=seed)
        except ImportError:
            raise SettingsError(
                "method 'umap' needs a package that is not installed: `pip install umap-learn`, or use method 'tsne'"
            ) from None
    else:
        reducer = TSNE(random_state=seed, init="pca", perplexity=min(30, (len(table) - 1) / 3))
    return reducer.fit_transform(StandardScaler().fit_transform(table))


def agreement(views: dict[str, View], transition: View, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    r"""How far views of the features order the classes as a guide's transition matrix does.

    For each class k, Spearman's rank correlation of view[k, l] and T[l, k] over the other classes l; the mean over the
    classes.

    Args:
        views: row k = class k.  transition: see `megu.perturbing_labels.transition_matrix`.
        draws: permutations of the guide's class names (rows and columns together).  seed: of these.
    Returns: view, order (mean), low, high (95 % t-interval over the classes), shuffled (97.5 % of the
        permutations), p (share that reach the order).
    """
    rng, k = np.random.default_rng(seed), len(transition)
    guide, out = _ranks(np.asarray(transition).T), []
    shuffles = [rng.permutation(k) for _ in range(draws)]
    for name, view in views.items():
        own = _ranks(view)
        rows = (own * guide).sum(1)
        shuffled = np.array([(own * guide[np.ix_(order, order)]).sum(1).mean() for order in shuffles])
        half = stats.t.ppf(0.975, k - 1) * stats.sem(rows)
        p = (1 + (shuffled >= rows.mean()).sum()) / (1 + draws)
        bounds = {"low": rows.mean() - half, "high": rows.mean() + half, "shuffled": np.quantile(shuffled, 0.975)}
        out.append({"view": name, "order": rows.mean(), **bounds, "p": p})
    return pd.DataFrame(out)


def _ranks(matrix):
    """Ranks of each row without its diagonal, centred and of length 1; 0 on the diagonal."""
    k = len(matrix)
    off = ~np.eye(k, dtype=bool)
    ranks = np.zeros((k, k))
    ranks[off] = stats.rankdata(np.asarray(matrix)[off].reshape(k, k - 1), axis=1).ravel()
    ranks[off] -= k / 2
    return ranks / np.maximum(np.linalg.norm(ranks, axis=1, keepdims=True), 1e-12)
