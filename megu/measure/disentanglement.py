r"""Did unlearning cut the right patterns? How much of a forgotten concept's unique patterns is gone, and how much of
the associated ones is left."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from megu.core.device import generator
from megu.measure.outputs import collect_features
from megu.measure.patterns import DRAWS, EFFECT, around, moments_of

VIEWS, MEASURES = ("in place", "aligned"), ("suppressed", "kept", "score")
IMAGES = 2000  # retained training images that patterns are found with, and models aligned on


@dataclass(frozen=True)
class Shares:
    r"""A forgotten concept's patterns in the original, split by whom they serve.

    Attributes:
        concepts: indices a of the forgotten concepts.  retained: indices b of the others.
        unique: degrees of membership of $P_a \setminus \bigcup_b P_b$.  associated: of $P_a \cap P_b$.
    """

    concepts: tuple[int, ...]
    retained: tuple[int, ...]
    unique: Float[np.ndarray, "A d"]
    associated: Float[np.ndarray, "A B d"]


def forgotten_concepts(images, split) -> tuple[int, ...]:
    r"""Indices of the (fine) classes that are forgotten altogether; empty where single images are."""
    gone, left = (set(images.fine[part].unique().tolist()) for part in (split.forget, split.retain))
    return tuple(sorted(gone - left))


def shares(effects: Float[np.ndarray, "K d"], concepts: tuple[int, ...], effect: float = EFFECT) -> Shares:
    r"""Split each forgotten concept's patterns into unique and associated ones, by the rules of fuzzy sets.

    With $m_{kj} = \max(0, d_{kj} - \delta)$: associated with b is $\min(m_{aj}, m_{bj})$, unique is $m_{aj} -
    \min(m_{aj}, \max_b m_{bj})$.

    Args:
        effects: see `megu.measure.patterns.Moments.effects`.  concepts: the forgotten a.  effect: $\delta$.
    Source: arXiv 2602.17088 section 3, $P_{tar} \cap P_{per}$ and $P_{tar} \setminus P_{per}$.
    """
    retained = tuple(k for k in range(len(effects)) if k not in concepts)
    m = np.maximum(effects - effect, 0)
    own, others = m[list(concepts)], m[list(retained)]
    return Shares(tuple(concepts), retained, own - np.minimum(own, others.max(0)), np.minimum(own[:, None], others))


def alignment(
    original: Float[Tensor, "n d"], other: Float[Tensor, "n e"], ridge: float = 1e-2
) -> Float[np.ndarray, "e d"]:
    r"""The linear map that reads the original's units from another model's features, fitted on retained images.

    $W = \arg\min_W \sum_x \lVert \phi_0(x) - \mu_0 - W^\top(\phi(x) - \mu)\rVert^2 + \rho\,n\,\overline{\sigma^2}\lVert
    W\rVert^2$.

    Args:
        original, other: features of the same retained images.  ridge: $\rho$, relative to the mean variance of the
            other model's features.
    Returns: the identity up to the ridge for equal models.
    """
    a, b = (x.double() - x.double().mean(0) for x in (other, original))
    gram = a.T @ a
    gram += (ridge * gram.diagonal().mean()).clamp_min(1e-12) * torch.eye(
        len(gram), dtype=gram.dtype, device=gram.device
    )
    return torch.linalg.solve(gram, a.T @ b).cpu().numpy()


def _responses(found, parts):
    r"""Mean activation of the forgotten concepts ``(R, A, d)`` and the retained ones ``(R, B, d)``, each less that of
    the (other) retained ones."""
    count, total = found.count.cpu().numpy()[..., None], found.total.cpu().numpy()
    gone, left = list(parts.concepts), list(parts.retained)
    n, s = count[:, left], total[:, left]
    rest = s.sum(1, keepdims=True) / n.sum(1, keepdims=True)
    others = (s.sum(1, keepdims=True) - s) / np.maximum(n.sum(1, keepdims=True) - n, 1e-12)
    return total[:, gone] / np.maximum(count[:, gone], 1e-12) - rest, s / np.maximum(n, 1e-12) - others


def disentanglement(original, unlearned, retrained, images, split, *, layer=None, draws=DRAWS, seed=0):
    r"""Disentanglement score of an unlearned model, with the retrained one beside it as the goal.

    The original's units are split into the forgotten concept's unique and associated patterns (`shares`, found on
    training images). On test images, with $r_{kj}$ the mean activation of unit j for concept k less that for the
    (other) retained concepts,

    $\text{suppressed} = 1 - \frac{\sum_j u_{aj}\, r'_{aj}/s_j}{\sum_j u_{aj}\, r_{aj}/s_j}$, $\quad\text{kept} =
    \frac{\sum_{b,j} c_{abj}\, r'_{bj}/s_j}{\sum_{b,j} c_{abj}\, r_{bj}/s_j}$, $\quad\text{score} = \text{suppressed}
    \cdot \text{kept}$,

    all clipped to [0, 1]; $r'$ is of the model in question, u and c are the degrees of unique and associated patterns,
    s the original's standard deviation. The original scores 0 (nothing suppressed), a model without features 0 (nothing
    kept).

    View "in place" reads the same units of a model that was made from the original; the retrained model has no such
    units, and no row.  View "aligned" reads them through a linear map fitted on retained images (`alignment`): every
    model has it, and only its values may be compared with the retrained model's.  A pattern that is only rotated, not
    removed, counts as suppressed in place but not aligned.

    Args:
        original, unlearned, retrained: classifiers that return logits; retrained may be None.
        images: `megu.datasets.images.Images`.  split: `megu.core.splits.Split`; its training parts find the patterns,
            its test parts measure them (where it has none of the forgotten concept, the training parts do both).
        layer: name of a sub-module; None for what the head receives.
        draws: bootstrap samples of the test images.  seed: of these.
    Returns: tidy: model (unlearned, retrained), view, measure (suppressed, kept, score), value, low, high (95 % over
        images); NaN where no concept is forgotten as a whole, or it has no such patterns.
    """
    found = {}
    if forgotten_concepts(images, split):
        before = Before(images, split, lambda index: collect_features(original, images, index, layer), draws, seed)
        for name, model in {"unlearned": unlearned, "retrained": retrained}.items():
            if model is not None:
                found[name] = before.scores(
                    lambda index, model=model: collect_features(model, images, index, layer),
                    in_place=name == "unlearned",
                )
    else:
        found = {"unlearned": nothing()} | ({} if retrained is None else {"retrained": nothing(in_place=False)})
    return pd.concat([tidy(scores).assign(model=name) for name, scores in found.items()], ignore_index=True)


def nothing(in_place=True):
    r"""Scores where nothing was measured: NaN, in the form of `Before.scores`."""
    return {view: dict.fromkeys(MEASURES, np.full(3, np.nan)) for view in VIEWS[not in_place :]}


def tidy(scores):
    r"""Scores of `Before.scores` as DataFrame: view, measure, value, low, high."""
    out = []
    for view, found in scores.items():
        for measure, values in found.items():
            low, high = np.clip(around(values[0], values[1:]), 0, 1)
            out.append({"view": view, "measure": measure, "value": values[0], "low": low, "high": high})
    return pd.DataFrame(out)


class Before:
    r"""What the original has, computed once for many unlearned models.

    Args:
        images, split: see `disentanglement`; a concept must be forgotten as a whole.
        look: function of an index ``(n,)`` into the pool to the original's features ``(n, d)``.
        draws, seed: see `disentanglement`.
    Attributes: parts, the `Shares` of the forgotten concepts; spread ``(d,)`` of its units.
    """

    def __init__(self, images, split, look, draws=DRAWS, seed=0):
        keep = torch.randperm(len(split.retain), generator=generator(seed, "alignment"))[:IMAGES]
        self.sample = split.retain[keep.to(split.retain.device)]
        self.test = torch.cat(
            [split.test_retain, split.test_forget] if len(split.test_forget) else [self.sample, split.forget]
        )
        self.fine, self.k, self.draws, self.seed = images.fine, len(images.fine_classes), draws, seed
        self.original = look(self.sample)
        first = self._moments(torch.cat([self.original, look(split.forget)]), torch.cat([self.sample, split.forget]), 0)
        self.parts, self.spread = shares(first.effects()[0], forgotten_concepts(images, split)), first.spread()
        self.seen = _responses(self._moments(look(self.test), self.test, draws), self.parts)

    def _moments(self, table, index, draws):
        return moments_of(table, self.fine[index], self.k, draws, 0, self.seed)

    def scores(self, look, in_place=True):
        r"""View -> measure -> ``(1 + draws,)`` array, the data and the bootstrap samples; ``look`` as of the class, for
        the model in question.

        Without view "in place" for a model of other units, such as the retrained one.
        """
        after = _responses(self._moments(look(self.test), self.test, self.draws), self.parts)
        read = alignment(self.original, look(self.sample))
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
