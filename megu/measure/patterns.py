"""Associated and unique patterns: which units of a layer serve which concept."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from megu.core.device import generator
from megu.core.models import activations, features, pooled
from megu.datasets.images import Images

EFFECT = 0.5  # a unit serves a class where its effect is shown to be larger; 0.5 is "medium" by Cohen's convention
LEVEL = 0.05  # false discovery rate of a layer's pattern sets
DRAWS = 100  # bootstrap samples and permutations

Profiles, PerUnit = Float[np.ndarray, "R K d"], Float[np.ndarray, " d"]


class Moments:
    """Streamed statistics of each unit for each class, of R = 1 + boot + null replicates: the data; bootstrap samples
    (Poisson weights); permutations of the labels.

    count ``(R, K)``, total, square ``(R, K, d)``: weighted sums of 1, a - shift and its square; shift: the mean of the
    first batch, for accuracy.
    """

    def __init__(self, first: Float[Tensor, "n d"], num_classes: int, boot: int, null: int):
        self.count = torch.zeros(1 + boot + null, num_classes, dtype=torch.float64, device=first.device)
        self.total, self.square = self.count.new_zeros((2, *self.count.shape, first.shape[1]))
        self.shift, self.boot = first.double().mean(0), boot

    def add(self, batch: Float[Tensor, "n d"], weights: Float[Tensor, "R K n"]) -> None:
        """Put the activations of a batch in."""
        centred, flat = batch.double() - self.shift, weights.flatten(0, 1)
        self.count += weights.sum(2)
        self.total += (flat @ centred).view_as(self.total)
        self.square += (flat @ centred.square()).view_as(self.square)

    def sums(self):
        """(count ``(R, K, 1)``, total, square) as arrays."""
        return [x.cpu().numpy() for x in (self.count[..., None], self.total, self.square)]

    def _against_rest(self):
        """n, mean and variance of each class and of all others together ``(2, R, K, ...)``; pooled deviation."""
        n, total, square = (np.stack([x, x.sum(1, keepdims=True) - x]) for x in self.sums())
        mean = total / np.maximum(n, 1e-12)
        var = np.maximum(square - n * mean**2, 0) / np.maximum(n - 1, 1e-12)
        return n, mean, var, np.sqrt(np.maximum(((n - 1) * var).sum(0) / np.maximum(n.sum(0) - 2, 1), 1e-24))

    def effects(self) -> Profiles:
        r"""Selectivity profiles: $d_{kj} = (\bar a_{j|k} - \bar a_{j|\neg k}) / s_{kj}$, $s$ pooled."""
        _, mean, _, deviation = self._against_rest()
        return (mean[0] - mean[1]) / deviation

    def mean(self) -> PerUnit:
        """Mean of each unit over all images, of the data."""
        return (self.shift + self.total[0].sum(0) / self.count[0].sum()).cpu().numpy()

    def spread(self) -> PerUnit:
        """Standard deviation of each unit within the classes, of the data."""
        count, total, square = (x[0] for x in self.sums())
        inside = np.maximum(square - total**2 / np.maximum(count, 1e-12), 0).sum(0)
        return np.sqrt(np.maximum(inside / (count.sum() - len(count)), 1e-24))

    def p_values(self, effect: float = EFFECT) -> Profiles:
        r"""One-sided Welch test that the effect is larger than $\delta$ = ``effect``; 1 for a unit that never changes.

        $t = (\bar a_k - \bar a_{\neg k} - \delta s) / \sqrt{v_k / n_k + v_{\neg k} / n_{\neg k}}$ with Welch's degrees
        of freedom; s is taken as known.
        """
        n, mean, var, deviation = self._against_rest()
        error = var / np.maximum(n, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (mean[0] - mean[1] - effect * deviation) / np.sqrt(error.sum(0))
            free = error.sum(0) ** 2 / (error**2 / np.maximum(n - 1, 1)).sum(0)
            return np.nan_to_num(stats.t.sf(t, free), nan=1.0)


@dataclass(frozen=True)
class Patterns:
    """Row k of ``serves`` is $P_k$, the units shown to serve class k; effects of the data, of bootstrap samples and of
    permuted labels; units that these give, all classes together."""

    serves: Bool[np.ndarray, "K d"]
    effects: Float[np.ndarray, "K d"]
    boot: Float[np.ndarray, "boot K d"]
    null: Float[np.ndarray, "null K d"]
    null_served: Int[np.ndarray, " null"]


@torch.no_grad()
def moments(
    model: nn.Module, images: Images, index: Int[Tensor, " n"], layers=(None,), y: Int[Tensor, " N"] | None = None,
    boot=DRAWS, null=DRAWS, seed=0
) -> dict[str | None, Moments]:  # fmt: skip
    """`Moments` of several layers by name, from one forward pass of any classifier, in eval mode afterwards.

    Args:
        layers: see `megu.core.models.activations`.  y: labels over the pool, None for the images' own.
        seed: of the order, in whose batches labels are permuted; the same for several models pairs the replicates.
    """
    model.eval()

    def look(part):
        seen = activations(model, images.batch(part), layers)[1]
        return {layer: pooled(units).float() for layer, units in seen.items()}

    k, y = (images.num_classes, images.y) if y is None else (int(y.max()) + 1, y)
    return _streamed(look, index, y, k, boot, null, seed)


def moments_of(table: Float[Tensor, "n d"], y: Int[Tensor, " n"], num_classes: int, boot=DRAWS, seed=0) -> Moments:
    """`Moments` of features that are already there, without permutations."""
    index = torch.arange(len(table), device=table.device)
    return _streamed(lambda part: {None: table[part]}, index, y, num_classes, boot, 0, seed)[None]


def _streamed(look, index, y, k, boot, null, seed):
    gen, out = generator(seed, "patterns"), {}
    for part in index[torch.randperm(len(index), generator=gen).to(index.device)].split(256):
        labels = y[part].cpu()
        one_hot = F.one_hot(labels, k).T.double()  # (K, b)
        poisson = torch.poisson(torch.ones(boot, 1, len(labels)), generator=gen).double()
        order = torch.rand(null, len(labels), generator=gen).argsort(1)
        permuted = F.one_hot(labels[order], k).transpose(1, 2).double()
        weights = torch.cat([one_hot[None], one_hot * poisson, permuted]).to(index.device)
        for layer, units in look(part).items():
            out.setdefault(layer, Moments(units, k, boot, null)).add(units, weights)
    return out


def patterns(found: Moments) -> Patterns:
    """Units whose effect for a class is shown to exceed `EFFECT`: tests of all classes and units of the layer are one
    family, with a false discovery rate of `LEVEL` (Benjamini and Hochberg).

    Source: arXiv 2602.17088 section 3, patterns $P_k$.
    """
    effects, p, null = found.effects(), found.p_values(), 1 + found.boot
    tested = np.r_[p[:1], p[null:]]
    rate = stats.false_discovery_control(tested.reshape(len(tested), -1), axis=1)
    serves = rate.reshape(tested.shape) <= LEVEL
    return Patterns(serves[0], effects[0], effects[1:null], effects[null:], serves[1:].sum((1, 2)))


def entanglement_index(
    effects: Float[np.ndarray, "*b K d"], of: Float[np.ndarray, "... K d"] | None = None
) -> Float[np.ndarray, "*b K K"]:
    r"""Cosine of the selectivity profiles of every two classes, in [-1, 1].

    $E_{ab} = \sum_j d_{aj} d_{bj} / (\lVert d_a\rVert \lVert d_b\rVert)$: about -1 / (K - 1) where classes have nothing
    in common, since the profiles sum to about zero.

    Args: of: effects whose norms are taken; for permuted labels those of the data: noise has a direction, no length.
    """
    norm = np.maximum(np.linalg.norm(effects if of is None else of, axis=-1), 1e-12)
    return effects @ np.swapaxes(effects, -1, -2) / (norm[..., :, None] * norm[..., None, :])


def entanglement(found: Patterns, names) -> pd.DataFrame:
    r"""Every pair of classes: class_a, class_b, index, low, high (95 % over images), null_low, null_high (95 % of
    permuted labels), p (share of permutations that reach the index), shared $|P_a \cap P_b|$, only_a
    $|P_a \setminus P_b|$, only_b."""
    value, null = entanglement_index(found.effects), entanglement_index(found.null, found.effects)
    low, high = np.clip(around(value, entanglement_index(found.boot)), -1, 1)
    null_low, null_high = np.quantile(null, (0.025, 0.975), axis=0)
    p = (1 + (null >= value).sum(0)) / (1 + len(null))
    numbers = {"index": value, "low": low, "high": high, "null_low": null_low, "null_high": null_high, "p": p}
    serves = found.serves.astype(int)
    only = serves @ (1 - serves).T  # (K, K): units of a that b lacks
    numbers |= {"shared": serves @ serves.T, "only_a": only, "only_b": only.T}
    pair, names = np.nonzero(~np.eye(len(names), dtype=bool)), np.array(names, object)
    about = {"class_a": names[pair[0]], "class_b": names[pair[1]]}
    return pd.DataFrame(about | {key: of[pair] for key, of in numbers.items()})


@torch.no_grad()
def response(model: nn.Module, x: Float[Tensor, "n C H W"], weights, found: Moments) -> Float[np.ndarray, " n"]:
    r"""How strongly each image activates a set of patterns: $\sum_j w_j (a_j - \bar a_j) / s_j / \sum_j w_j$.

    Args: weights: ``(d,)``, the set (bool), or degrees of membership.
    Returns: in standard deviations of the ordinary images behind ``found``; NaN for an empty set.
    """
    units = features(model, x)[1].double().cpu().numpy()
    weights = np.asarray(weights, float)
    with np.errstate(invalid="ignore"):
        return (units - found.mean()) / found.spread() @ (weights / weights.sum())


def around(value, replicates):
    """95 % interval by the replicates' spread (first axis): percentiles would inherit the bias of resampling."""
    half = stats.norm.ppf(0.975) * replicates.std(0, ddof=1)
    return value - half, value + half
