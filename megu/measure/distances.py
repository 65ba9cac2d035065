r"""How far two models are from each other: outputs, features, accuracies."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

Logits = Float[Tensor, "n K"]


def js(p_logits: Logits, q_logits: Logits) -> float:
    r"""Jensen-Shannon divergence, mean over images.

    $\tfrac12\mathrm{KL}(p \Vert m) + \tfrac12\mathrm{KL}(q \Vert m)$, $m = (p + q) / 2$.

    Returns: nats in [0, log 2]; NaN for no images.
    """
    p, q = p_logits.double().softmax(1), q_logits.double().softmax(1)
    m = ((p + q) / 2).clamp_min(1e-300).log()
    return 0.5 * sum((torch.special.xlogy(x, x) - x * m).sum(1) for x in (p, q)).mean().item()


def zrf(logits: Logits, blank_logits: Logits) -> float:
    r"""Zero-retrain forgetting score: 1 - `js` to an untrained network, on forgotten images.

    Returns: in [1 - log 2, 1]; near 1 = as ignorant as the untrained network; the goal is the retrained model's value.
    Source: Chundawat et al. 2023.
    """
    return 1 - js(logits, blank_logits)


def zrf_reversed(logits: Logits, blank_logits: Logits) -> float:
    r"""The same as the public code computes it (compat): divergences the wrong way round, divided by the classes as
    well.

    $1 - \frac{1}{2K}(\mathrm{KL}(m \Vert p) + \mathrm{KL}(m \Vert q))$.  For (.9, .1) against (.1, .9) the divergence
    is 0.255, the true one 0.368.

    Source: public code of Foster et al. 2024 and Chundawat et al. 2023.
    """
    if not len(logits):
        return float("nan")
    p, q = (x.double().log_softmax(1) for x in (logits, blank_logits))
    m = (p.exp() + q.exp()) / 2
    return 1 - 0.5 * sum(F.kl_div(x, m, reduction="sum") for x in (p, q)).item() / p.numel()


def activation_distance(p_logits: Logits, q_logits: Logits) -> float:
    r"""Mean Euclidean distance of the softmax vectors, in [0, sqrt 2].  Source: Golatkar et al. 2021."""
    return (p_logits.double().softmax(1) - q_logits.double().softmax(1)).norm(dim=1).mean().item()


def linear_cka(a: Float[Tensor, "n d"], b: Float[Tensor, "n e"]) -> float:
    r"""Linear centred kernel alignment of two models' features of the same images.

    $\lVert A^\top B\rVert_F^2 / (\lVert A^\top A\rVert_F \lVert B^\top B\rVert_F)$ with centred columns.

    Returns: in [0, 1]; 1 = equal up to rotation and scale.  NaN where a model gives every image the same features.
    Source: Kornblith et al. 2019.
    """
    a, b = ((x.double() - x.double().mean(0)) for x in (a, b))
    return ((a.T @ b).square().sum() / ((a.T @ a).norm() * (b.T @ b).norm())).item()


def probe(
    train_features: Float[Tensor, "n d"],
    y_train: Int[Tensor, " n"],
    features: Float[Tensor, "m d"],
    y: Int[Tensor, " m"],
    num_classes: int,
    ridge: float = 1e-3,
) -> float:
    r"""Accuracy of a linear head that is refitted on frozen features of all classes, forgotten ones included.

    Ridge regression on one-hot labels in closed form; standardised features.

    Args: features, y: on which the accuracy is taken.  num_classes: K.  ridge: relative to n.
    Returns: percent; high = the body still tells the forgotten classes apart.  The goal is the retrained model's value.
    """
    if not len(y):
        return float("nan")
    mean, std = train_features.double().mean(0), train_features.double().std(0).clamp_min(1e-6)
    x, z = ((f.double() - mean) / std for f in (train_features, features))
    x, z = (F.pad(f, (0, 1), value=1.0) for f in (x, z))
    gram = x.T @ x + ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    weights = torch.linalg.solve(gram, x.T @ F.one_hot(y_train, num_classes).double())
    return 100 * ((z @ weights).argmax(1) == y).double().mean().item()


def tug_of_war(values: list[float], goals: list[float]) -> float:
    r"""Product of 1 - |gap|: 1 = as the retrained model in everything.

    $\prod_i (1 - |v_i - g_i|)$.

    Args: shares in [0, 1], equally many; a pair with a NaN is left out.
    Source: Zhao et al. 2024 (RUM), ToW and ToW-MIA.
    """
    out = 1.0
    for value, goal in zip(values, goals, strict=True):
        out *= 1 - abs(value - goal) if value == value and goal == goal else 1.0
    return out
