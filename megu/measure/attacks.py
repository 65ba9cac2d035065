r"""Membership inference, each attack by its name: an attack without one is a number without a direction."""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.svm import SVC
from torch import Tensor
from torch.nn import functional as F

Logits, Labels, Scores = Float[Tensor, "n K"], Int[Tensor, " n"], Float[np.ndarray, " n"]


def per_sample_loss(logits: Logits, y: Labels) -> Scores:
    r"""Cross-entropy of each sample, nats."""
    return F.cross_entropy(logits, y, reduction="none").double().cpu().numpy()


def entropy(logits: Logits) -> Scores:
    r"""Entropy of each softmax, nats in [0, log K]."""
    log_p = logits.double().log_softmax(1)
    return -(log_p.exp() * log_p).sum(1).cpu().numpy()


def logit_confidence(logits: Logits, y: Labels) -> Scores:
    r"""$\log p_y - \log(1 - p_y)$ of each sample, which is nearly normal over trainings."""
    own = F.one_hot(y, logits.shape[1]).bool()
    logits = logits.double()
    return (logits[own] - logits.masked_fill(own, -np.inf).logsumexp(1)).cpu().numpy()


def class_matched(
    member: Float[np.ndarray, " n"],
    y_member: Int[Tensor, " n"],
    other: Float[np.ndarray, " m"],
    y_other: Int[Tensor, " m"],
) -> dict[str, float]:
    r"""How well a score tells forget images from unseen images of the same classes.

    Each number is computed within every class and averaged with the forget counts as weights.

    Args:
        member: score of the forget images; higher = more like a training image.  other: of images of no training.
    Returns: auc and bacc in [0, 1], 0.5 = cannot be told; tpr, share of members found at a false-positive
        rate of 1 %.  bacc is that of a logistic regression, balanced, on held-out fifths.  NaN where no class has
        enough of both.
    Source: loss attack of SCRUB (Kurmanji et al. 2023) for bacc; Carlini et al. 2022 for tpr; classes matched as the
        strict mode asks.
    """
    pairs = list(_by_class(member, y_member, other, y_other))
    if not pairs:
        return dict.fromkeys(("auc", "bacc", "tpr"), float("nan"))
    numbers = np.ma.masked_invalid([list(separation(a, b).values()) for a, b in pairs])
    weights = np.broadcast_to(np.array([len(a) for a, _ in pairs])[:, None], numbers.shape)
    means = np.ma.average(numbers, axis=0, weights=weights).filled(np.nan)
    return dict(zip(("auc", "bacc", "tpr"), map(float, means), strict=True))


def _by_class(member, y_member, other, y_other):
    y_member, y_other = y_member.cpu().numpy(), y_other.cpu().numpy()
    for k in np.unique(y_member):
        if (y_other == k).any():
            yield member[y_member == k], other[y_other == k]


def class_matched_roc(member, y_member, other, y_other, points: int = 101) -> dict | None:
    r"""The curve behind `class_matched`: the classes' curves averaged at equal false-positive rates, so that its area
    is their mean AUC.

    Args: as of `class_matched`; ``points`` on the axis of false-positive rates.
    Returns: false, true, arrays of points; auc; error, its standard error; members, others, images compared.  None
        where no class has both.
    Source: Hanley and McNeil 1982, Radiology 143.
    """
    grid, curves = np.linspace(0, 1, points), []
    for a, b in _by_class(member, y_member, other, y_other):
        n, m = len(a), len(b)
        false, true, _ = roc_curve(np.r_[np.ones(n), np.zeros(m)], np.r_[a, b], drop_intermediate=False)
        auc = np.trapezoid(true, false)
        q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
        variance = (auc * (1 - auc) + (n - 1) * (q1 - auc**2) + (m - 1) * (q2 - auc**2)) / (n * m)
        curves.append((n, m, auc, variance, np.interp(grid, false, true)))
    if not curves:
        return None
    counts, others, aucs, variances, curves = map(np.array, zip(*curves, strict=True))
    weights = counts / counts.sum()
    return {
        "false": grid,
        "true": weights @ curves,
        "auc": float(weights @ aucs),
        "error": float(np.sqrt(weights**2 @ np.maximum(variances, 0))),
        "members": int(counts.sum()),
        "others": int(others.sum()),
    }


def separation(member: Float[np.ndarray, " n"], other: Float[np.ndarray, " m"]) -> dict[str, float]:
    r"""auc, bacc and tpr of two sets of scores, see `class_matched`."""
    is_member, score = np.r_[np.ones(len(member)), np.zeros(len(other))], np.r_[member, other]
    false, true, _ = roc_curve(is_member, score)
    folds, bacc = min(5, len(member), len(other)), float("nan")
    if folds > 1:
        judge, fold = LogisticRegression(class_weight="balanced"), StratifiedKFold(folds, shuffle=True, random_state=0)
        scaled = (score - score.mean()) / max(score.std(), 1e-12)
        bacc = balanced_accuracy_score(is_member, cross_val_predict(judge, scaled[:, None], is_member, cv=fold))
    return {"auc": roc_auc_score(is_member, score), "bacc": bacc, "tpr": true[false <= 0.01].max()}


def ssd_member_rate(
    retain_train_logits: Float[Tensor, "r K"], test_logits: Float[Tensor, "t K"], forget_logits: Float[Tensor, "n K"]
) -> float:
    r"""The entropy attack of the SSD code base (compat): share of forget images that it calls members.

    A logistic regression with balanced class weights is fitted on the entropy of all retain training images (members)
    against all test images, those of forgotten classes included, then asked about the forget training images.

    Returns: percent in [0, 100].  Papers print lower as better; the goal is the retrained model's value.
    Source: Foster et al. 2024, public code; the column "MIA" of arXiv 2602.17088.
    """
    x = np.r_[entropy(retain_train_logits), entropy(test_logits)][:, None]
    member = np.r_[np.ones(len(retain_train_logits)), np.zeros(len(test_logits))]
    judge = LogisticRegression(class_weight="balanced").fit(x, member)
    return float(100 * judge.predict(entropy(forget_logits)[:, None]).mean())


def salun_nonmember_rate(
    retain: Float[Tensor, "r K"],
    y_retain: Int[Tensor, " r"],
    test: Float[Tensor, "t K"],
    y_test: Int[Tensor, " t"],
    forget: Float[Tensor, "n K"],
    y_forget: Int[Tensor, " n"],
    images: int = 1000,
) -> float:
    r"""The confidence attack of the SalUn code base (compat): share of forget images that it calls NON-members.

    A support vector machine (C = 3, radial kernel, gamma auto) on the probability of the true class, retain training
    images against test images, then asked about the forget training images.

    Args:
        retain, test, forget: logits.  y_*: their labels.
        images: of each of the two sets at most; the fit takes cubic time.  The public code takes 10,000.
    Returns: percent in [0, 100].  Papers print higher as better, the opposite of `ssd_member_rate`; the goal is the
        retrained model's value.
    Source: Fan et al. 2024, public code.
    """

    def confidence(logits, y, step=1):
        return np.exp(-per_sample_loss(logits[::step], y[::step]))[:, None]

    member, other = (confidence(x, y, -(-len(y) // images)) for x, y in ((retain, y_retain), (test, y_test)))
    size = min(len(member), len(other))
    judge = SVC(C=3, gamma="auto").fit(np.r_[member[:size], other[:size]], np.r_[np.ones(size), np.zeros(size)])
    return float(100 * (1 - judge.predict(confidence(forget, y_forget)).mean()))


def lira_scores(
    target: Scores, shadows: Float[np.ndarray, "S n"], inside: Bool[np.ndarray, "S n"], variant: str
) -> Scores:
    r"""Likelihood-ratio attack: how much likelier the target's confidence is if the image was trained on.

    online: $\log\mathcal N(\phi; \mu_{in}, \sigma_{in}) - \log\mathcal N(\phi; \mu_{out}, \sigma_{out})$;
    offline: $\Phi((\phi - \mu_{out}) / \sigma_{out})$.  The sigmas are shared by all images, as Carlini et al. do for
        few shadows.

    Args:
        target, shadows: `logit_confidence` of the model under attack and of the shadow models.
        inside: whether a shadow was trained on the image.
        variant: ``online`` or ``offline``.
    Returns: higher = more like a member; NaN where no shadow was inside (online) or outside.
    Source: Carlini et al. 2022, arXiv 2112.03570.
    """
    shadows = np.clip(shadows, -30, 30)  # a confidence of 1 - 1e-13: beyond it is rounding

    def fitted(mask):
        count = mask.sum(0)
        mean = np.where(count > 0, (shadows * mask).sum(0) / np.maximum(count, 1), np.nan)
        deviations = np.where(mask, shadows - mean, 0.0)
        return mean, np.sqrt((deviations**2).sum() / max((count - 1).clip(0).sum(), 1)) + 1e-6

    out = stats.norm(*fitted(~inside))
    phi = np.clip(target, -30, 30)
    return stats.norm(*fitted(inside)).logpdf(phi) - out.logpdf(phi) if variant == "online" else out.cdf(phi)
