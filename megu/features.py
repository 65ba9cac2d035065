r"""Entanglement of concepts in a classifier's features: which classes lie close, which units serve which class."""

import numpy as np
import torch

from megu.models import features


@torch.no_grad()
def feature_table(model, images, index, layer=None, batch=500):
    r"""Features of many images, in eval mode.

    Args:
        model: images to logits.
        images: `megu.data.Images`.
        index: ``(n,)`` int64 into the pool.
        layer: see `megu.models.features`.
    Returns: ``(n, d)`` float64 array.
    """
    model.eval()
    parts = [features(model, images.batch(part), layer)[1].double().cpu() for part in index.split(batch)]
    return torch.cat(parts).numpy()


def centroid_similarity(table, y, num_classes):
    r"""Cosine between the centred class means.

    $s_{kl} = \cos(\mu_k - \mu, \mu_l - \mu)$ with $\mu$ the mean of the $\mu_k$.

    Args:
        table: ``(n, d)`` float.  y: ``(n,)`` integer, each of the K classes present.  num_classes: K.
    Returns: ``(K, K)`` float in [-1, 1], symmetric, ones on the diagonal.
    Source: the entanglement that arXiv 2602.17088 section 3 argues from.
    """
    means = np.stack([table[y == k].mean(0) for k in range(num_classes)])
    means = means - means.mean(0)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return means @ means.T


def serving_units(table, y, num_classes, effect=0.8):
    r"""Which units serve which class: those that are clearly more active for it than for the others.

    Unit j serves class k where Cohen's $d = (\bar a_{j|k} - \bar a_{j|\neg k}) / s_j \ge$ ``effect``.

    Args:
        table: ``(n, d)`` float.  y: ``(n,)`` integer.  num_classes: K.
        effect: threshold in pooled standard deviations; 0.8 is a "large" effect by Cohen's convention.
    Returns: ``(K, d)`` bool: row k is the pattern set $P_k$ of arXiv 2602.17088 section 3, as far as single units show it.
    """
    out = np.zeros((num_classes, table.shape[1]), bool)
    for k in range(num_classes):
        inside, outside = table[y == k], table[y != k]
        pooled = (len(inside) - 1) * inside.var(0, ddof=1) + (len(outside) - 1) * outside.var(0, ddof=1)
        spread = np.sqrt(pooled / (len(table) - 2))
        out[k] = inside.mean(0) - outside.mean(0) >= effect * np.maximum(spread, 1e-12)
    return out


def shared_and_unique(serving, a, b):
    r"""Sizes of the associated and the unique patterns of two classes.

    Args:
        serving: ``(K, d)`` bool from `serving_units`.
        a, b: class indices.
    Returns: dictionary: shared $|P_a \cap P_b|$, only_a $|P_a \setminus P_b|$, only_b $|P_b \setminus P_a|$, and
        jaccard, shared over the union, in [0, 1].
    """
    one, two = serving[a], serving[b]
    shared, union = int((one & two).sum()), int((one | two).sum())
    return {"shared": shared, "only_a": int((one & ~two).sum()), "only_b": int((two & ~one).sum()), "jaccard": shared / max(union, 1)}
