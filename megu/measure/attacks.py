"""Membership inference."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import optimize, special, stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.svm import SVC
from torch import Tensor
from torch.nn import functional as F

Logits, Labels, Scores = Float[Tensor, "n K"], Int[Tensor, " n"], Float[np.ndarray, " n"]
Other, OtherLabels = Float[np.ndarray, " m"], Int[Tensor, " m"]
Sizes = Int[np.ndarray, " c"]  # numbers of images by class
Labelled = tuple[Float[Tensor, "_ K"], Int[Tensor, " _"]]  # logits and classes
SEPARATION = ("auc", "bacc", "tpr")


def per_sample_loss(logits: Logits, y: Labels) -> Scores:
    r"""Cross-entropy of each sample, nats: $\log(1 + e^{-c})$ of the `logit_confidence` c, so that no two images of
    which a model is very sure become alike by rounding."""
    return np.logaddexp(0.0, -logit_confidence(logits, y))


def entropy(logits: Logits) -> Scores:
    """Entropy of each softmax, nats in [0, log K]."""
    log_p = logits.double().log_softmax(1)
    return -(log_p.exp() * log_p).sum(1).cpu().numpy()


def logit_confidence(logits: Logits, y: Labels) -> Scores:
    r"""$\log p_y - \log(1 - p_y)$ of each sample, which is nearly normal over trainings."""
    own = F.one_hot(y, logits.shape[1]).bool()
    logits = logits.double()
    return (logits[own] - logits.masked_fill(own, -np.inf).logsumexp(1)).cpu().numpy()


def class_matched(member: Scores, y_member: Labels, other: Other, y_other: OtherLabels) -> dict[str, float]:
    """`separation` of forget images from unseen ones within each class, averaged with the forget counts as weights; NaN
    where no class has enough of both.

    Args: member, other: scores, higher = more like a training image.
    Source: loss attack of SCRUB (Kurmanji et al. 2023) for bacc; Carlini et al. 2022 for tpr.
    """
    pairs = list(_by_class(member, y_member, other, y_other))
    if not pairs:
        return dict.fromkeys(SEPARATION, float("nan"))
    numbers = np.ma.masked_invalid([list(separation(a, b).values()) for a, b in pairs])
    means = np.ma.average(numbers, axis=0, weights=[len(a) for a, _ in pairs]).filled(np.nan)
    return dict(zip(SEPARATION, map(float, means), strict=True))


def _by_class(member, y_member, other, y_other):
    y_member, y_other = y_member.cpu().numpy(), y_other.cpu().numpy()
    for k in np.intersect1d(y_member, y_other):
        yield member[y_member == k], other[y_other == k]


def _labelled(member, other):
    return np.r_[np.ones(len(member)), np.zeros(len(other))], np.r_[member, other]


def class_matched_roc(member: Scores, y_member: Labels, other: Other, y_other: OtherLabels) -> dict | None:
    """The curve behind `class_matched`: the classes' curves averaged at equal false-positive rates.

    Returns: false (0, 0.01 to 1) and true; auc; members and others, numbers of images by class ``(c,)``.  None where no
        class has both.
    """
    grid, curves = np.linspace(0, 1, 101), []
    for a, b in _by_class(member, y_member, other, y_other):
        false, true, _ = roc_curve(*_labelled(a, b), drop_intermediate=False)
        curves.append((len(a), len(b), np.trapezoid(true, false), np.interp(grid, false, true)))
    if not curves:
        return None
    n, m, auc, curves = map(np.array, zip(*curves, strict=True))
    weights = n / n.sum()
    return {"false": grid, "true": weights @ curves, "auc": float(weights @ auc), "members": n, "others": m}


def auc_variance(members: Sizes, others: Sizes) -> Callable[[float], float]:
    r"""Function of $\theta$: variance of the classes' mean AUC, weighted by their members, if each has AUC $\theta$.

    $\theta(1-\theta)\,(1 + (\bar n - 1)(\frac{1-\theta}{2-\theta} + \frac{\theta}{1+\theta})) / (nm)$ of one class with
    $\bar n = (n + m) / 2$; at 0.5 that of Mann and Whitney's test without ties, which ties only lower.

    Source: Newcombe 2006, Statistics in Medicine 25, method 5.
    """
    each = (members / members.sum()) ** 2 / (members * others)
    once, more = float(each.sum()), float((each * ((members + others) / 2 - 1)).sum())
    return lambda auc: auc * (1 - auc) * (once + more * ((1 - auc) / (2 - auc) + auc / (1 + auc)))


def _half_step(members, others):
    return 0.5 / float(members.sum() * others.min())  # an AUC comes in steps: half of one is its correction


def auc_interval(auc: float, members: Sizes, others: Sizes, level: float) -> tuple[float, float]:
    r"""Ends of the interval that misses the true AUC with probability ``level``: all $\theta$ with $|A - \theta| - c
    \le z \sqrt{V(\theta)}$ of `auc_variance`, c half a step.  It leaves 0.5 out where Mann and Whitney's test does."""
    variance, z, step = auc_variance(members, others), -float(special.ndtri(level / 2)), _half_step(members, others)

    def end(near, far):
        return optimize.brentq(lambda theta: (near - theta) ** 2 - z**2 * variance(theta), near, far)

    low, high = auc - step, auc + step
    return end(low, 0.0) if low > 0 else 0.0, end(high, 1.0) if high < 1 else 1.0


def detectable_auc(members: Sizes, others: Sizes, level: float, goal: float | None = None) -> float | None:
    r"""The least AUC that a test of this size tells with 80 % power from a coin, or from a reference's AUC ``goal``
    that is as uncertain; None where there is none."""
    variance, z, power = auc_variance(members, others), -special.ndtri(level / 2), special.ndtri(0.8)
    null, more = (0.5, 0.0) if goal is None else (goal, variance(goal))
    reach = _half_step(members, others) + z * math.sqrt(variance(null) + more)

    def room(theta):
        return theta - null - reach - power * math.sqrt(variance(theta) + more)

    return optimize.brentq(room, null, 1.0) if room(1.0) > 0 else None


def separation(member: Scores, other: Other) -> dict[str, float]:
    """How well scores are told apart: auc and bacc, balanced accuracy of a logistic regression on held-out fifths, 0.5
    = not at all; tpr, share of members found at a false-positive rate of 1 %."""
    is_member, score = _labelled(member, other)
    false, true, _ = roc_curve(is_member, score)
    folds, bacc = min(5, len(member), len(other)), float("nan")
    if folds > 1:
        judge, fold = LogisticRegression(class_weight="balanced"), StratifiedKFold(folds, shuffle=True, random_state=0)
        scaled = (score - score.mean()) / max(score.std(), 1e-12)
        bacc = balanced_accuracy_score(is_member, cross_val_predict(judge, scaled[:, None], is_member, cv=fold))
    return {"auc": roc_auc_score(is_member, score), "bacc": bacc, "tpr": true[false <= 0.01].max()}


def _called_members(judge, member, other, asked):
    """The share of ``asked`` that a judge fitted on the others calls so."""
    is_member, score = _labelled(member, other)
    return judge.fit(score[:, None], is_member).predict(asked[:, None]).mean()


def ssd_member_rate(retain: Float[Tensor, "r K"], test: Float[Tensor, "t K"], forget: Logits) -> float:
    """The entropy attack of the SSD code base (compat): percent of forget images that it calls members.

    A balanced logistic regression on the entropy of the logits: retain training images against all test images.
    Papers print lower as better.

    Source: Foster et al. 2024, public code; the column "MIA" of arXiv 2602.17088.
    """
    judge = LogisticRegression(class_weight="balanced")
    return float(100 * _called_members(judge, entropy(retain), entropy(test), entropy(forget)))


def salun_nonmember_rate(retain: Labelled, test: Labelled, forget: Labelled) -> float:
    """The confidence attack of the SalUn code base (compat): percent of forget images that it calls NON-members.

    A support vector machine (radial kernel) on the probability of the true class: retain training images against test
    images.  Papers print higher as better, the opposite of `ssd_member_rate`.

    Source: Fan et al. 2024, public code.  Departs: at most 1000 images of each set, not 10,000: the time is cubic.
    """

    def confidence(logits, y, most=1000):
        step = -(-len(y) // most)
        return np.exp(-per_sample_loss(logits[::step], y[::step]))

    member, other = confidence(*retain), confidence(*test)
    size, asked = min(len(member), len(other)), confidence(*forget, most=len(forget[1]))
    return float(100 * (1 - _called_members(SVC(C=3, gamma="auto"), member[:size], other[:size], asked)))


def lira_scores(
    target: Scores, shadows: Float[np.ndarray, "S n"], inside: Bool[np.ndarray, "S n"], variant: str
) -> Scores:
    r"""Likelihood-ratio attack: how much likelier the target's confidence is if the image was trained on.

    online: $\log\mathcal N(\phi; \mu_{in}, \sigma_{in}) - \log\mathcal N(\phi; \mu_{out}, \sigma_{out})$, offline:
    $\Phi((\phi - \mu_{out}) / \sigma_{out})$; all images share the sigmas, as in the source for few shadows.

    Args: target, shadows: `logit_confidence`.  inside: whether a shadow was trained on the image.
    Returns: higher = more like a member; NaN where no shadow was inside (online) or outside.
    Source: Carlini et al. 2022, arXiv 2112.03570.
    """
    shadows = np.clip(shadows, -30, 30)  # a confidence of 1 - 1e-13: beyond it is rounding

    def normal(mask):
        count = mask.sum(0)
        mean = np.where(count > 0, (shadows * mask).sum(0) / np.maximum(count, 1), np.nan)
        deviations = np.where(mask, shadows - mean, 0.0)
        return stats.norm(mean, np.sqrt((deviations**2).sum() / max((count - 1).clip(0).sum(), 1)) + 1e-6)

    out, phi = normal(~inside), np.clip(target, -30, 30)
    return normal(inside).logpdf(phi) - out.logpdf(phi) if variant == "online" else out.cdf(phi)
