r"""Associated and unique patterns: which units of a layer serve which concept, tested, with sizes and confidence.

Statistics are streamed: memory depends on classes, units and replicates, never on the number of images.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from megu.core.device import generator
from megu.core.models import activations, pooled
from megu.datasets.images import Images

EFFECT = 0.5  # a unit serves a class where its effect is shown to be larger; 0.5 is "medium" by Cohen's convention
LEVEL = 0.05  # false discovery rate of a layer's pattern sets
DRAWS = 100  # bootstrap samples and permutations


@dataclass
class Moments:
    r"""Streamed statistics of each unit for each class, for the labels as they are and for replicates of them.

    Attributes:
        count: sum of the images' weights.  total, square: weighted sums of (a - shift) and its square.
        shift: mean of the first batch, for accuracy.
    """

    count: Float[Tensor, "R K"]
    total: Float[Tensor, "R K d"]
    square: Float[Tensor, "R K d"]
    shift: Float[Tensor, " d"]

    @classmethod
    def of(cls, first: Float[Tensor, "n d"], replicates: int, num_classes: int) -> "Moments":
        """Of no image yet, for units like those of the batch ``first``."""
        zeros = first.new_zeros((replicates, num_classes, first.shape[1]), dtype=torch.float64)
        return cls(zeros[..., 0].clone(), zeros, zeros.clone(), first.double().mean(0))

    def add(self, batch: Float[Tensor, "n d"], weights: Float[Tensor, "R K n"]) -> None:
        r"""Put the activations of a batch in."""
        centred, flat = batch.double() - self.shift, weights.flatten(0, 1)
        self.count += weights.sum(2)
        self.total += (flat @ centred).view_as(self.total)
        self.square += (flat @ centred.square()).view_as(self.square)

    def against_rest(self):
        r"""(n, mean, var) of each class and of all other classes together: ``(R, K, 1)`` and ``(R, K, d)``."""
        count, total, square = (x.cpu().numpy() for x in (self.count[..., None], self.total, self.square))

        def of(n, s, q):
            mean = s / np.maximum(n, 1e-12)
            return n, mean, np.maximum(q - n * mean**2, 0) / np.maximum(n - 1, 1e-12)

        return of(count, total, square), of(*(x.sum(1, keepdims=True) - x for x in (count, total, square)))

    def effects(self) -> Float[np.ndarray, "R K d"]:
        r"""Standardised effects $d_{kj} = (\bar a_{j|k} - \bar a_{j|\neg k}) / s_{kj}$, $s$ pooled: the
        selectivity profiles."""
        one, rest = self.against_rest()
        return (one[1] - rest[1]) / _pooled(one, rest)

    def mean(self) -> Float[np.ndarray, " d"]:
        r"""Mean of each unit over all images, of the data."""
        return (self.shift + self.total[0].sum(0) / self.count[0].sum()).cpu().numpy()

    def spread(self) -> Float[np.ndarray, " d"]:
        r"""Standard deviation of each unit within the classes, of the data."""
        count, total, square = (x[0].cpu().numpy() for x in (self.count[..., None], self.total, self.square))
        inside = np.maximum(square - total**2 / np.maximum(count, 1e-12), 0).sum(0)
        return np.sqrt(np.maximum(inside / (count.sum() - len(count)), 1e-24))

    def p_values(self, effect: float = EFFECT) -> Float[np.ndarray, "R K d"]:
        r"""One-sided Welch test of each unit for each class: is the effect larger than ``effect``?

        $t = (\bar a_k - \bar a_{\neg k} - \delta s) / \sqrt{v_k / n_k + v_{\neg k} / n_{\neg k}}$ with Welch's degrees
        of freedom; s is taken as known.

        Returns: 1 for a unit that never changes.
        """
        one, rest = self.against_rest()
        a, b = (var / np.maximum(n, 1) for n, _, var in (one, rest))
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (one[1] - rest[1] - effect * _pooled(one, rest)) / np.sqrt(a + b)
            free = (a + b) ** 2 / (a**2 / np.maximum(one[0] - 1, 1) + b**2 / np.maximum(rest[0] - 1, 1))
            return np.nan_to_num(stats.t.sf(t, free), nan=1.0)


def _pooled(one, rest):
    (n, _, v), (m, _, w) = one, rest
    return np.sqrt(np.maximum(((n - 1) * v + (m - 1) * w) / np.maximum(n + m - 2, 1), 1e-24))


@dataclass(frozen=True)
class Patterns:
    r"""Pattern sets of one layer, with their uncertainty.

    Attributes:
        serves: row k is $P_k$: units shown to serve class k, false discoveries of the layer at most `LEVEL`.
        effects: the selectivity profiles.
        boot, null: the same of bootstrap samples of the images and of permuted labels.
        null_served: units that permuted labels give, all classes together.
    """

    serves: Bool[np.ndarray, "K d"]
    effects: Float[np.ndarray, "K d"]
    boot: Float[np.ndarray, "boot K d"]
    null: Float[np.ndarray, "null K d"]
    null_served: Int[np.ndarray, " null"]


@torch.no_grad()
def moments(
    model: nn.Module, images: Images, index: Int[Tensor, " n"], layers=(None,), y: Int[Tensor, " N"] | None = None,
    num_classes=None, boot=DRAWS, null=DRAWS, seed=0, batch=256
) -> dict[str | None, Moments]:  # fmt: skip
    r"""Class-conditional statistics of several layers from one forward pass over the images, with replicates.

    Args:
        model: any classifier, in eval mode afterwards.
        index: into the pool; visited in an order drawn from ``seed``.
        layers: see `megu.core.models.activations`.
        y: labels over the pool, or None for the images' own.  num_classes: of these labels.
        boot, null: numbers of replicates.  seed: of the replicates; the same for several models pairs them.
    Returns: by layer, of R = 1 + boot + null replicates: the data; bootstrap samples (Poisson weights) and permutations
        of the labels (within batches of the drawn order), so that both can be streamed.
    """
    model.eval()
    gen, out, y = generator(seed, "patterns"), {}, images.y if y is None else y
    k = num_classes or images.num_classes
    for part in index[torch.randperm(len(index), generator=gen).to(index.device)].split(batch):
        outputs = activations(model, images.batch(part), layers)[1]
        weights = _weights(y[part].cpu(), k, boot, null, gen).to(index.device)
        for layer in layers:
            units = pooled(outputs[layer]).float()
            out.setdefault(layer, Moments.of(units, len(weights), k)).add(units, weights)
    return out


def moments_of(
    table: Float[Tensor, "n d"], y: Int[Tensor, " n"], num_classes: int, boot=DRAWS, null=DRAWS, seed=0, batch=256
) -> Moments:
    r"""`moments` of features that are already there."""
    gen, out = generator(seed, "patterns"), None
    for part in torch.randperm(len(table), generator=gen).to(table.device).split(batch):
        weights = _weights(y[part].cpu(), num_classes, boot, null, gen).to(table.device)
        out = out or Moments.of(table[part], len(weights), num_classes)
        out.add(table[part], weights)
    return out


def _weights(labels, k, boot, null, gen):
    one_hot = F.one_hot(labels, k).T.double()  # (K, b)
    poisson = torch.poisson(torch.ones(boot, 1, len(labels)), generator=gen).double()
    order = torch.rand(null, len(labels), generator=gen).argsort(1)
    return torch.cat([one_hot[None], one_hot * poisson, F.one_hot(labels[order], k).transpose(1, 2).double()])


def patterns(found: Moments, boot: int = DRAWS, effect: float = EFFECT, level: float = LEVEL) -> Patterns:
    r"""The pattern sets of a layer: units whose effect for a class is shown to exceed ``effect``.

    The one-sided Welch tests of all classes and units of the layer are one family; Benjamini and Hochberg's procedure
    keeps the expected share of false members at most ``level``.

    Args:
        found: of the layer.  boot: how many of its replicates are bootstrap samples.
        effect: pooled standard deviations.  level: false discovery rate.
    Source: arXiv 2602.17088 section 3, patterns $P_k$.
    """
    effects, p = found.effects(), found.p_values(effect)
    serves = [stats.false_discovery_control(one.ravel()).reshape(one.shape) <= level for one in (p[0], *p[1 + boot :])]
    null_served = np.array([one.sum() for one in serves[1:]], int)
    return Patterns(serves[0], effects[0], effects[1 : 1 + boot], effects[1 + boot :], null_served)


def entanglement_index(
    effects: Float[np.ndarray, "*b K d"], of: Float[np.ndarray, "... K d"] | None = None
) -> Float[np.ndarray, "*b K K"]:
    r"""Entanglement index of every two classes: the cosine of their selectivity profiles.

    $E_{ab} = \sum_j d_{aj} d_{bj} / (\lVert d_a\rVert \lVert d_b\rVert)$.

    Args:
        effects: from `Moments.effects`.
        of: effects whose norms are taken, None for ``effects`` themselves.  For permuted labels these are the data's:
            two profiles of noise, which have a direction but no length, then count as nothing.
    Returns: in [-1, 1]; 1: the same units in the same measure.  The profiles of K classes sum to about zero: with
        nothing in common they have about -1 / (K - 1) each, and 0 is what labels without meaning give.
    """
    norm = np.maximum(np.linalg.norm(effects if of is None else of, axis=-1), 1e-12)
    return effects @ np.swapaxes(effects, -1, -2) / (norm[..., :, None] * norm[..., None, :])


def entanglement(found: Patterns, names) -> pd.DataFrame:
    r"""Every pair of classes with its index, interval, null distribution and pattern sets.

    Args:
        names: K class names.
    Returns: tidy: class_a, class_b, index, low, high (95 % over images), null_low, null_high (95 % of
        permuted labels), p (share of permutations that reach the index), and the sizes shared $|P_a \cap P_b|$, only_a
        $|P_a \setminus P_b|$, only_b.
    """
    value, boot = entanglement_index(found.effects), entanglement_index(found.boot)
    null = entanglement_index(found.null, found.effects)
    low, high = np.clip(around(value, boot), -1, 1)
    null_low, null_high = np.quantile(null, (0.025, 0.975), axis=0)
    p = (1 + (null >= value).sum(0)) / (1 + len(null))
    out = []
    for a, b in [(a, b) for a in range(len(names)) for b in range(len(names)) if a != b]:
        one, two = found.serves[a], found.serves[b]
        out.append({
            "class_a": names[a], "class_b": names[b], "index": value[a, b], "low": low[a, b], "high": high[a, b],
            "null_low": null_low[a, b], "null_high": null_high[a, b], "p": p[a, b],
            "shared": int((one & two).sum()), "only_a": int((one & ~two).sum()), "only_b": int((two & ~one).sum()),
        })  # fmt: skip
    return pd.DataFrame(out)


@torch.no_grad()
def response(
    model: nn.Module, x: Float[Tensor, "n C H W"], weights, found: Moments, layer: str | None = None
) -> Float[np.ndarray, " n"]:
    r"""How strongly each image activates a set of patterns: $\sum_j w_j (a_j - \bar a_j) / s_j / \sum_j w_j$.

    Args:
        x: normalised; noise as well as images.
        weights: ``(d,)`` bool or float, the set, or degrees of membership.  found: of ordinary images.
        layer: see `megu.core.models.activations`.
    Returns: in standard deviations of the ordinary images; NaN for an empty set.
    """
    units = pooled(activations(model, x, (layer,))[1][layer]).double().cpu().numpy()
    weights = np.asarray(weights, float)
    with np.errstate(invalid="ignore"):
        return (units - found.mean()) / found.spread() @ (weights / weights.sum())


def around(value, replicates, level=0.95):
    r"""(low, high) by the replicates' spread about ``value``; percentiles would inherit the bias of resampling.  First
    axis of replicates: samples."""
    half = stats.norm.ppf(0.5 + level / 2) * replicates.std(0, ddof=1)
    return value - half, value + half
