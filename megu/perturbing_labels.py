r"""From a guide's answers to perturbing labels: similarity, transition matrix, the ranked choice (eq. 4-8)."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def similarity(
    scores: Float[np.ndarray, "m K"], of_class: Int[np.ndarray, " m"], num_classes: int, calibration: str = "column"
) -> Float[np.ndarray, "K K"]:
    r"""Similarity of every class to every candidate label: the mean answer over a class's exemplars (eq. 4-5).

    $S_{kl} = \frac{1}{n_k}\sum_{x \in \text{class } k} q(x, l)$, in [0, 1].  ``calibration="column"`` takes $q =
    \sigma(z)$, with $z$ the score less the mean of its label over all exemplars, in standard deviations of all of
    these: the answers of small guides depend on the label more than on the image.

    Args:
        scores: raw answer for each of m exemplars and each candidate label.  of_class: class of each exemplar.
        calibration: ``column``; any other where scores are probabilities already.
    Raises: ValueError for a missing answer, a class without exemplar, or a score outside [0, 1] without ``column``.
    Source: arXiv 2602.17088 eq. 4-5.  Departs: the calibration is ours (the paper's guide is large enough without).
    """
    scores, of_class = np.asarray(scores, float), np.asarray(of_class)
    if not np.isfinite(scores).all():
        raise ValueError(f"{(~np.isfinite(scores)).sum()} of {scores.size} answers are missing: ask the guide again")
    if missing := sorted(set(range(num_classes)) - set(of_class.tolist())):
        raise ValueError(f"no exemplar was asked about for classes {missing}")
    if calibration == "column":
        z = scores - scores.mean(0)
        scores = 1 / (1 + np.exp(-z / max(z.std(), 1e-12)))
    elif scores.min() < 0 or scores.max() > 1:
        reach = f"{scores.min():.3g} to {scores.max():.3g}"
        raise ValueError(f"scores reach from {reach}: without calibration they must be in [0, 1]")
    return np.stack([scores[of_class == k].mean(0) for k in range(num_classes)])


def transition_matrix(sim: Float[np.ndarray, "K K"]) -> Float[np.ndarray, "K K"]:
    r"""Transition matrix: column k says how class k's similarity is shared among the classes (eq. 6).

    $T_{lk} = S_{kl} / \sum_i S_{ki}$.

    Args: sim: non-negative, no row of zeros; else a ValueError is raised.
    Returns: every column sums to 1, the diagonal stays.
    Source: arXiv 2602.17088 eq. 6.

    >>> transition_matrix(np.array([[3.0, 1.0], [1.0, 1.0]]))
    array([[0.75, 0.5 ],
           [0.25, 0.5 ]])
    """
    sim = np.asarray(sim, float)
    if sim.ndim != 2 or sim.shape[0] != sim.shape[1] or not np.isfinite(sim).all() or (sim < 0).any():
        found = f"{sim.shape} with minimum {sim.min():.3g}"
        raise ValueError(f"similarity must be a square matrix of non-negative numbers, not {found}")
    rows = sim.sum(1)
    if not rows.all():
        k = rows.argmin()
        raise ValueError(f"class {k} is similar to nothing: its column of the transition matrix is undefined")
    return (sim / rows[:, None]).T


def association(
    transition: Float[np.ndarray | Tensor, "K K"], posterior: Float[Tensor, "n K"], y: Int[Tensor, " n"]
) -> Float[Tensor, "n K"]:
    r"""How strongly each class is associated with each forget image (eq. 7).

    $R_i = T\,(\tilde I_{y_i} p_i)$, where $\tilde I_y$ sets entry y to zero.

    Args:
        transition: columns sum to 1.  posterior: softmax of the original model, rows sum to 1.  y: true classes.
    Raises: ValueError where a shape, a column sum or a row sum is wrong.
    Source: arXiv 2602.17088 eq. 7.
    """
    n, k = posterior.shape
    transition = torch.as_tensor(transition, dtype=posterior.dtype, device=posterior.device)
    if transition.shape != (k, k) or y.shape != (n,):
        shapes = f"transition {tuple(transition.shape)}, posterior {(n, k)} and y {tuple(y.shape)}"
        raise ValueError(f"{shapes} do not fit together")
    for name, sums in (("column of transition", transition.sum(0)), ("row of posterior", posterior.sum(1))):
        if not torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
            raise ValueError(f"every {name} must sum to 1; the sums reach from {sums.min():.4g} to {sums.max():.4g}")
    others = posterior.scatter(1, y[:, None], 0.0)
    return others @ transition.T


def perturbing_labels(
    transition: Float[np.ndarray | Tensor, "K K"],
    posterior: Float[Tensor, "n K"],
    y: Int[Tensor, " n"],
    *,
    exclude: tuple[int, ...] = (),
    own: bool = False,
    tau: float = 0.3,
    choice: str = "rank",
    gen: torch.Generator | None = None,
) -> Int[Tensor, " n"]:
    r"""Perturbing label of each forget image: the $\lfloor K\tau\rfloor$-th most associated class (eq. 7-8).

    With $R_i$ of `association`, the label is the index of its $\max(1, \lfloor K\tau\rfloor)$-th largest allowed entry.

    Args:
        transition, posterior, y: see `association`.
        exclude: classes that may not be chosen (the forget classes in class-wise forgetting).
        own: whether the image's own class may be chosen, since T mixes it back in (A2, the paper to the letter).
        tau: rank fraction in (0, 1], dimensionless.
        choice: ``rank`` as in the paper; controls: ``nearest`` (first), ``farthest`` (last), ``random`` (uniform, needs
            ``gen``), ``posterior`` (the model's own second guess, without T).
    Raises: ValueError where a shape, a sum or tau is wrong, or no class is left to choose.
    Source: arXiv 2602.17088 eq. 7-8, Algorithm 1.  Departs: A2, A3 of the assumption log.
    """
    if not 0 < tau <= 1:
        raise ValueError(f"tau is {tau}: it must be in (0, 1]")
    scores = association(transition, posterior, y)
    n, k = scores.shape
    barred = torch.zeros(n, k, dtype=torch.bool, device=scores.device)
    barred[:, list(exclude)] = True
    if not own:
        barred.scatter_(1, y[:, None], True)
    allowed = k - barred.sum(1)  # (n,)
    if n and int(allowed.min()) < 1:
        raise ValueError(f"no class is left to choose: {len(exclude)} of {k} are excluded")
    if choice == "random":
        scores = torch.rand(n, k, generator=gen).to(scores.device)
    if choice == "posterior":
        scores = posterior
    order = scores.masked_fill(barred, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = {"rank": max(1, int(k * tau + 1e-9)), "farthest": k}.get(choice, 1)
    position = torch.clamp(allowed, max=rank) - 1
    return order.gather(1, position[:, None])[:, 0]
