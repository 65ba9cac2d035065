"""How alike concepts are in a classifier's features: views of one table, a map of it, their agreement with a guide."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from megu.core.models import collect_features
from megu.measure.distances import linear_cka
from megu.measure.summary import half_width

Table = Float[np.ndarray, "n d"]  # features of n images, see `feature_table`
Labels = Int[np.ndarray, " n"]  # their classes, each of the K present
View = Float[np.ndarray, "K K"]  # row k = class k


def feature_table(model, images, index) -> Table:
    """`megu.core.models.collect_features` in float64."""
    return collect_features(model, images, index).double().cpu().numpy()


def _means(rows, y, num_classes):
    return np.stack([rows[y == k].mean(0) for k in range(num_classes)])


def centroid_similarity(table: Table, y: Labels, num_classes: int) -> View:
    r"""$\cos(\mu_k - \mu, \mu_l - \mu)$ in [-1, 1], with $\mu_k$ the class means and $\mu$ the mean of these."""
    means = _means(table, y, num_classes)
    means = means - means.mean(0)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return means @ means.T


def class_cka(table: Table, y: Labels, num_classes: int) -> View:
    r"""`linear_cka` of $X_k^\top$ and $X_l^\top$, in [0, 1]: do both classes use the units in the same combinations?"""
    groups = [torch.from_numpy(table[y == k].T) for k in range(num_classes)]
    return np.array([[linear_cka(a, b) for b in groups] for a in groups])


def probe_confusion(table: Table, y: Labels, num_classes: int) -> View:
    """Mean probability, in [0, 1], that a linear probe gives class l on held-out thirds of class k, symmetrised."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    share = _means(cross_val_predict(probe, table, y, cv=3, method="predict_proba"), y, num_classes)
    return (share + share.T) / 2


def neighbour_share(table: Table, y: Labels, num_classes: int) -> View:
    """Share of class l among the ten other images nearest (cosine) to one of class k, symmetrised, in [0, 1]."""
    near = NearestNeighbors(n_neighbors=10, metric="cosine").fit(table).kneighbors(return_distance=False)
    share = confusion_matrix(np.repeat(y, 10), y[near].ravel(), labels=range(num_classes), normalize="true")
    return (share + share.T) / 2


VIEWS = {
    "centroid cosine": centroid_similarity,
    "linear CKA": class_cka,
    "probe confusion": probe_confusion,
    "nearest neighbours": neighbour_share,
}


def plane(table: Table, seed: int = 0) -> Float[np.ndarray, "n 2"]:
    """A map of the features in the plane by t-SNE, for pictures alone: distances in it mean little."""
    reducer = TSNE(random_state=seed, init="pca", perplexity=min(30, (len(table) - 1) / 3))
    return reducer.fit_transform(StandardScaler().fit_transform(table))


def agreement(views: dict[str, View], transition: View) -> pd.DataFrame:
    """How far views of the features order the classes as a guide's transition matrix T does.

    Returns: view; order, mean over the classes k of Spearman's rank correlation of view[k, l] and T[l, k] over l != k;
        low, high, its 95 % t-interval; shuffled, the 97.5 % quantile of 2000 permutations of the guide's class names,
        and p, the share of them that reach the order.
    """
    rng, guide, out = np.random.default_rng(0), _ranks(np.transpose(transition)), []
    shuffles = [np.ix_(order, order) for order in (rng.permutation(len(guide)) for _ in range(2000))]
    for name, view in views.items():
        own = _ranks(view)
        rows = (own * guide).sum(1)
        order, half = rows.mean(), half_width(rows)
        shuffled = np.array([(own * guide[at]).sum(1).mean() for at in shuffles])
        p = (1 + (shuffled >= order).sum()) / (1 + len(shuffled))
        out.append((name, order, order - half, order + half, np.quantile(shuffled, 0.975), p))
    return pd.DataFrame(out, columns=["view", "order", "low", "high", "shuffled", "p"])


def _ranks(matrix):
    """Ranks of each row without its diagonal, centred and of length 1; 0 on the diagonal."""
    matrix = np.array(matrix, float)
    np.fill_diagonal(matrix, np.nan)
    ranks = np.nan_to_num(stats.rankdata(matrix, axis=1, nan_policy="omit") - len(matrix) / 2)
    return ranks / np.maximum(np.linalg.norm(ranks, axis=1, keepdims=True), 1e-12)
