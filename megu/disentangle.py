r"""Did unlearning cut the right patterns? How much of a forgotten concept's unique patterns is gone, and how much of the associated ones is left."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from megu.device import generator
from megu.models import features
from megu.patterns import DRAWS, EFFECT, around, moments

VIEWS, MEASURES = ("in place", "aligned"), ("suppressed", "kept", "score")
IMAGES = 2000  # retained training images that patterns are found with, and models aligned on


@dataclass(frozen=True)
class Shares:
    r"""A forgotten concept's patterns in the original, split by whom they serve.

    Attributes:
        concepts: indices a of the forgotten concepts.  retained: indices b of the others.
        unique: ``(A, d)``, degrees of membership of $P_a \setminus \bigcup_b P_b$.
        associated: ``(A, B, d)``, degrees of membership of $P_a \cap P_b$.
    """

    concepts: tuple[int, ...]
    retained: tuple[int, ...]
    unique: np.ndarray
    associated: np.ndarray


def forgotten_concepts(images, split):
    r"""Indices of the (fine) classes that are forgotten altogether; empty where single images are."""
    gone, left = (set(images.fine[part].unique().tolist()) for part in (split.forget, split.retain))
    return tuple(sorted(gone - left))


def shares(effects, concepts, effect=EFFECT):
    r"""Split each forgotten concept's patterns into unique and associated ones, by the rules of fuzzy sets.

    With $m_{kj} = \max(0, d_{kj} - \delta)$: associated with b is $\min(m_{aj}, m_{bj})$, unique is $m_{aj} - \min(m_{aj}, \max_b m_{bj})$.

    Args:
        effects: ``(K, d)``, see `megu.patterns.Moments.effects`.  concepts: the forgotten a.  effect: $\delta$.
    Returns: `Shares`.
    Source: arXiv 2602.17088 section 3, $P_{tar} \cap P_{per}$ and $P_{tar} \setminus P_{per}$.
    """
    retained = tuple(k for k in range(len(effects)) if k not in concepts)
    m = np.maximum(effects - effect, 0)
    own, others = m[list(concepts)], m[list(retained)]
    return Shares(tuple(concepts), retained, own - np.minimum(own, others.max(0)), np.minimum(own[:, None], others))


@torch.no_grad()
def alignment(original, model, images, index, layer=None, ridge=1e-2, batch=500):
    r"""The linear map that reads the original's units from another model's features, fitted on retained images.

    $W = \arg\min_W \sum_x \lVert \phi_0(x) - \mu_0 - W^\top(\phi(x) - \mu)\rVert^2 + \rho\,n\,\overline{\sigma^2}\lVert W\rVert^2$.

    Args:
        index: ``(n,)`` int64, images of what is retained alone: what a model knows of them says which of its directions is which unit.
        layer: see `megu.models.features`.  ridge: $\rho$, relative to the mean variance of the model's features.
    Returns: ``(e, d)`` float64 array.  Equal models give the identity up to the ridge.
    """
    pairs = [[features(m, images.batch(part), layer)[1].double() for m in (model, original)] for part in index.split(batch)]
    a, b = (torch.cat(side) for side in zip(*pairs, strict=True))
    a, b = a - a.mean(0), b - b.mean(0)
    gram = a.T @ a
    gram += (ridge * gram.diagonal().mean()).clamp_min(1e-12) * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(gram, a.T @ b).cpu().numpy()


def _responses(found, parts):
    r"""Mean activation of the forgotten concepts ``(R, A, d)`` and the retained ones ``(R, B, d)``, each less that of the (other) retained ones."""
    count, total = found.count.cpu().numpy()[..., None], found.total.cpu().numpy()
    gone, left = list(parts.concepts), list(parts.retained)
    n, s = count[:, left], total[:, left]
    rest = s.sum(1, keepdims=True) / n.sum(1, keepdims=True)
    others = (s.sum(1, keepdims=True) - s) / np.maximum(n.sum(1, keepdims=True) - n, 1e-12)
    return total[:, gone] / np.maximum(count[:, gone], 1e-12) - rest, s / np.maximum(n, 1e-12) - others


def disentanglement(original, unlearned, retrained, images, split, *, layer=None, draws=DRAWS, seed=0):
    r"""Disentanglement score of an unlearned model, with the retrained one beside it as the goal.

    The original's units are split into the forgotten concept's unique and associated patterns (`shares`, found on training images). On test images, with
    $r_{kj}$ the mean activation of unit j for concept k less that for the (other) retained concepts,

    $\text{suppressed} = 1 - \frac{\sum_j u_{aj}\, r'_{aj}/s_j}{\sum_j u_{aj}\, r_{aj}/s_j}$, $\quad\text{kept} =
    \frac{\sum_{b,j} c_{abj}\, r'_{bj}/s_j}{\sum_{b,j} c_{abj}\, r_{bj}/s_j}$, $\quad\text{score} = \text{suppressed} \cdot \text{kept}$,

    all clipped to [0, 1]; $r'$ is of the model in question, u and c are the degrees of unique and associated patterns, s the original's standard deviation.
    The original scores 0 (nothing suppressed), a model without features 0 (nothing kept).

    View "in place" reads the same units of a model that was made from the original; the retrained model's units have no such counterpart, so it has no row.
    View "aligned" reads them through a linear map fitted on retained images (`alignment`): every model has it, and only its values may be
    compared with the retrained model's. A pattern that is only rotated, not removed, counts as suppressed in place but not aligned.

    Args:
        original, unlearned, retrained: classifiers that return logits; retrained may be None.
        images: `megu.data.Images`.  split: `megu.splits.Split`; its training parts find the patterns, its test parts measure them (where
            it has none of the forgotten concept, the training parts do both).
        layer: name of a sub-module; None for what the head receives.
        draws: bootstrap samples of the test images.  seed: of these.
    Returns: tidy DataFrame: model (unlearned, retrained), view, measure (suppressed, kept, score), value, low, high (95 % over images). Values are
        NaN where nothing was measured: no concept is forgotten as a whole, or it has no such patterns.
    """
    models, before = {"unlearned": unlearned} | ({"retrained": retrained} if retrained is not None else {}), None
    if forgotten_concepts(images, split):
        before = Before(original, images, split, layer, draws, seed)
    rows = []
    for name, model in models.items():
        found = before.scores(model, in_place=name == "unlearned") if before else dict.fromkeys(VIEWS if name == "unlearned" else VIEWS[1:])
        rows += [row for view, values in found.items() for row in _rows(name, view, values)]
    return pd.DataFrame(rows)


class Before:
    r"""What the original has, computed once for many unlearned models; arguments as of `disentanglement`.

    Attributes: parts, the `Shares` of the forgotten concepts; spread ``(d,)`` of its units.
    """

    def __init__(self, original, images, split, layer=None, draws=DRAWS, seed=0):
        self.original, self.images, self.layer, self.draws, self.seed = original, images, layer, draws, seed
        keep = torch.randperm(len(split.retain), generator=generator(seed, "alignment"))[:IMAGES]
        self.sample = split.retain[keep.to(split.retain.device)]
        self.test = torch.cat([split.test_retain, split.test_forget] if len(split.test_forget) else [self.sample, split.forget])
        first = self._moments(original, torch.cat([self.sample, split.forget]), 0)
        self.parts, self.spread = shares(first.effects()[0], forgotten_concepts(images, split)), first.spread()
        self.seen = _responses(self._moments(original, self.test, draws), self.parts)

    def _moments(self, model, index, draws):
        fine = self.images.fine, len(self.images.fine_classes)
        return moments(model, self.images, index, (self.layer,), *fine, boot=draws, null=0, seed=self.seed)[self.layer]

    def scores(self, model, in_place=True):
        r"""View -> measure -> ``(1 + draws,)`` array, the data and the bootstrap samples; without view "in place" for a model of other units."""
        after = _responses(self._moments(model, self.test, self.draws), self.parts)
        read = alignment(self.original, model, self.images, self.sample, self.layer)
        seen = ({"in place": after} if in_place else {}) | {"aligned": tuple(one @ read for one in after)}
        return {view: _scores(self.seen, now, self.parts, self.spread) for view, now in seen.items()}


def _scores(before, after, parts, spread):
    r"""Suppressed, kept and score of every replicate: dictionary of ``(R,)``."""

    def ratio(weights, now, then):
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.clip((weights / spread * now).sum((1, 2)) / (weights / spread * then).sum((1, 2)), 0, 1)

    suppressed = 1 - ratio(parts.unique, after[0], before[0])
    kept = ratio(parts.associated.sum(0), after[1], before[1])
    return {"suppressed": suppressed, "kept": kept, "score": suppressed * kept}


def _rows(name, view, found):
    out = []
    for measure in MEASURES:
        values = np.full(3, np.nan) if found is None else found[measure]
        low, high = np.clip(around(values[0], values[1:]), 0, 1)
        out.append({"model": name, "view": view, "measure": measure, "value": values[0], "low": low, "high": high})
    return out
