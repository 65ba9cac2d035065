r"""Membership inference, each attack by its name: an attack without one is a number without a direction."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F


def per_sample_loss(logits, y):
    r"""Cross-entropy of each sample: ``(n, K)`` float, ``(n,)`` int64 to ``(n,)`` float64 array, nats."""
    return F.cross_entropy(logits, y, reduction="none").double().cpu().numpy()


def entropy(logits):
    r"""Entropy of each softmax: ``(n, K)`` float to ``(n,)`` float64 array, nats in [0, log K]."""
    log_p = logits.double().log_softmax(1)
    return -(log_p.exp() * log_p).sum(1).cpu().numpy()


def loss_auc(forget_logits, forget_y, unseen_logits, unseen_y):
    r"""Class-matched loss attack: how well a low loss tells forget images from unseen images of the same classes.

    AUC of $-\mathrm{CE}(f(x), y)$, computed within each class and averaged with the forget counts as weights.

    Args:
        forget_logits: ``(n, K)`` float.  forget_y: ``(n,)`` int64.
        unseen_logits: ``(m, K)`` float, images of no training.  unseen_y: ``(m,)`` int64.
    Returns: float in [0, 1]; 0.5 = members cannot be told; the goal is the retrained model's value.  NaN where no class has both.
    Source: loss attack of SCRUB (Kurmanji et al. 2023), as AUC; class matching as PROTOCOL strict mode asks.
    """
    member, other = per_sample_loss(forget_logits, forget_y), per_sample_loss(unseen_logits, unseen_y)
    y_member, y_other = forget_y.cpu().numpy(), unseen_y.cpu().numpy()
    found, weights = [], []
    for k in np.unique(y_member):
        a, b = member[y_member == k], other[y_other == k]
        if len(b):
            found.append(roc_auc_score(np.r_[np.ones(len(a)), np.zeros(len(b))], -np.r_[a, b]))
            weights.append(len(a))
    return float(np.average(found, weights=weights)) if found else float("nan")


def ssd_member_rate(retain_train_logits, test_logits, forget_logits):
    r"""The entropy attack of the SSD code base (compat): share of forget images that it calls members.

    A logistic regression with balanced class weights is fitted on the entropy of all retain training images (members)
    against all test images, those of forgotten classes included, then asked about the forget training images.

    Args:
        retain_train_logits: ``(r, K)`` float.  test_logits: ``(t, K)`` float.  forget_logits: ``(n, K)`` float.
    Returns: percent in [0, 100].  Papers print lower as better; the goal is the retrained model's value.
    Source: Foster et al. 2024, public code; the column "MIA" of arXiv 2602.17088.
    """
    x = np.r_[entropy(retain_train_logits), entropy(test_logits)][:, None]
    member = np.r_[np.ones(len(retain_train_logits)), np.zeros(len(test_logits))]
    judge = LogisticRegression(class_weight="balanced").fit(x, member)
    return float(100 * judge.predict(entropy(forget_logits)[:, None]).mean())
