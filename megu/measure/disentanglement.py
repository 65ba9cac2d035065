"""Did unlearning cut the right patterns: the forgotten concept's unique ones, and not those that it shares?"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from megu.core.device import generator
from megu.core.models import collect_features
from megu.measure.patterns import DRAWS, EFFECT, around, moments_of

VIEWS, MEASURES = ("in place", "aligned"), ("suppressed", "kept", "score")
IMAGES = 2000  # of the retained training images


@dataclass(frozen=True)
class Shares:
    r"""Degrees of membership of $P_a \setminus \bigcup_b P_b$ and $P_a \cap P_b$: a is forgotten, b are all others."""

    unique: Float[np.ndarray, "A d"]
    associated: Float[np.ndarray, "A B d"]


def forgotten_concepts(images, split) -> tuple[int, ...]:
    """Indices of the (fine) classes that are forgotten altogether; empty where single images are."""
    gone, left = (set(images.fine[part].unique().tolist()) for part in (split.forget, split.retain))
    return tuple(sorted(gone - left))


def shares(effects: Float[np.ndarray, "K d"], concepts: Sequence[int]) -> Shares:
    r"""Split the patterns of each forgotten concept a in the original into unique and associated ones, as fuzzy sets.

    With $m_{kj} = \max(0, d_{kj} - \delta)$, $\delta$ = `EFFECT`: associated with b is $\min(m_{aj}, m_{bj})$, unique
    is $m_{aj} - \min(m_{aj}, \max_b m_{bj})$.

    Args: effects: $d$, see `megu.measure.patterns.Moments.effects`.
    Source: arXiv 2602.17088 section 3, $P_{tar} \cap P_{per}$ and $P_{tar} \setminus P_{per}$.
    """
    m, gone = np.maximum(effects - EFFECT, 0), list(concepts)
    own, others = m[gone], np.delete(m, gone, 0)
    return Shares(own - np.minimum(own, others.max(0)), np.minimum(own[:, None], others))


def alignment(original: Float[Tensor, "n d"], other: Float[Tensor, "n e"]) -> Float[np.ndarray, "e d"]:
    r"""The linear map that reads the original's units from another model's features of the same images.

    $W = \arg\min_W \sum_x \lVert \phi_0(x) - \mu_0 - W^\top(\phi(x) - \mu)\rVert^2 + 0.01\,n\,\overline{\sigma^2}\lVert
    W\rVert^2$, $\overline{\sigma^2}$ the mean variance of $\phi$.
    """
    a, b = (x.double() - x.double().mean(0) for x in (other, original))
    gram = a.T @ a
    gram.diagonal().add_((0.01 * gram.diagonal().mean()).clamp_min(1e-12))
    return torch.linalg.solve(gram, a.T @ b).cpu().numpy()


def _responses(found, gone):
    """$r$ of `disentanglement` for the forgotten concepts ``(R, A, d)`` and the retained ones ``(R, B, d)``."""
    count, total, _ = found.sums()
    n, s = np.delete(count, gone, 1), np.delete(total, gone, 1)
    all_n, all_s = n.sum(1, keepdims=True), s.sum(1, keepdims=True)
    all_n = np.where(all_n > 0, all_n, np.nan)  # without retained images there is nothing to compare with
    others = (all_s - s) / np.maximum(all_n - n, 1e-12)
    return total[:, gone] / np.maximum(count[:, gone], 1e-12) - all_s / all_n, s / np.maximum(n, 1e-12) - others


def disentanglement(original, unlearned, retrained, images, split, *, draws=DRAWS, seed=0) -> pd.DataFrame:
    r"""Disentanglement score of an unlearned model, with the retrained one beside it as the goal.

    With $U(r) = \sum_j u_{aj} r_{aj} / s_j$, $C(r) = \sum_{b,j} c_{abj} r_{bj} / s_j$: suppressed $1 - U(r') / U(r)$,
    kept $C(r') / C(r)$, the quotients clipped to [0, 1], and score, their product: 0 for the original and for a model
    without features.  u, c are the degrees of unique and associated patterns (`shares`, found on training images),
    $r_{kj}$ the mean activation of unit j on test images of concept k less that of the (other) retained concepts, r'
    of the model in question, s the original's standard deviation.

    View "in place" reads the same units, which the retrained model does not have.  View "aligned" reads them through
    `alignment`: comparable with the retrained model; a pattern that is rotated, not removed, is not suppressed.

    Args:
        retrained: or None.  images: `megu.datasets.images.Images`.  draws: bootstrap samples of the test images.
        split: `megu.core.splits.Split`; where it has no test images of the concept, training images stand in.
    Returns: model (unlearned, retrained), view, measure (suppressed, kept, score), value, low, high (95 % over images);
        NaN where no concept is forgotten as a whole, or it has no such patterns.
    """
    known = bool(forgotten_concepts(images, split))
    before = Before(images, split, partial(collect_features, original, images), draws, seed) if known else None
    out = []
    for name, model in {"unlearned": unlearned, "retrained": retrained}.items():
        if model is not None:
            look, in_place = partial(collect_features, model, images), name == "unlearned"
            out.append(tidy(before.scores(look, in_place) if known else nothing(in_place)).assign(model=name))
    return pd.concat(out, ignore_index=True)


def nothing(in_place=True):
    """NaN in the form of `Before.scores`."""
    return {view: dict.fromkeys(MEASURES, np.full(3, np.nan)) for view in VIEWS[not in_place :]}


def tidy(scores) -> pd.DataFrame:
    """Scores of `Before.scores` as rows: view, measure, value, low, high."""
    out = [
        (view, measure, values[0], *np.clip(around(values[0], values[1:]), 0, 1))
        for view, found in scores.items()
        for measure, values in found.items()
    ]
    return pd.DataFrame(out, columns=["view", "measure", "value", "low", "high"])


class Before:
    """What the original has, computed once for many unlearned models; a concept must be forgotten as a whole.

    Args: look: function of an index ``(n,)`` into the pool to the original's features ``(n, d)``, of any layer.
    """

    def __init__(self, images, split, look, draws=DRAWS, seed=0):
        keep = torch.randperm(len(split.retain), generator=generator(seed, "alignment"))[:IMAGES]
        self.sample = split.retain[keep.to(split.retain.device)]
        first = torch.cat([self.sample, split.forget])
        test = torch.cat([split.test_retain, split.test_forget]) if len(split.test_forget) else first
        gone, k = [*forgotten_concepts(images, split)], len(images.fine_classes)
        self.original = look(self.sample)
        table = torch.cat([self.original, look(split.forget)])
        found = moments_of(table, images.fine[first], k, 0, seed)
        parts, spread = shares(found.effects()[0], gone), found.spread()
        self.weights = parts.unique / spread, parts.associated.sum(0) / spread
        self.see = lambda look: _responses(moments_of(look(test), images.fine[test], k, draws, seed), gone)
        self.seen = self.see(look)

    def scores(self, look, in_place=True):
        """View -> measure -> ``(1 + draws,)``, the data and the bootstrap samples, of the model behind ``look``;
        ``in_place``: it has the original's units."""
        after, read = self.see(look), alignment(self.original, look(self.sample))
        views = {"in place": after, "aligned": [one @ read for one in after]}
        return {view: self._scores(views[view]) for view in VIEWS[not in_place :]}

    def _scores(self, after):
        with np.errstate(invalid="ignore", divide="ignore"):
            gone, kept = (
                np.clip((weights * now).sum((1, 2)) / (weights * then).sum((1, 2)), 0, 1)
                for weights, now, then in zip(self.weights, after, self.seen, strict=True)
            )
        return dict(zip(MEASURES, (1 - gone, kept, (1 - gone) * kept), strict=True))
