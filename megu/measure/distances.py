"""How right a model is, and how far from another: accuracies, classes lost or left, outputs, features."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from math import isnan, nan, sqrt

import torch
from jaxtyping import Bool, Float, Int
from scipy import special
from torch import Tensor
from torch.nn import functional as F

from megu.core.models import share_ends
from megu.core.train import predict
from megu.datasets.images import Images
from megu.datasets.preparations import other_preparations

Logits, Labels = Float[Tensor, "n K"], Int[Tensor, " n"]
_ODD = ("from 0 to 255", "as negatives")  # in which what a model says is hardly about images
HIDDEN, PREPARATIONS = 200, 25  # images that are looked at in other preparations, of which there are about so many


def paired_difference(right: Bool[Tensor, " n"], other: Bool[Tensor, " n"], level: float) -> tuple[float, float, float]:
    """Difference of two models' accuracies on the same images, and the ends of the interval that misses it with
    probability ``level``, shares.

    Half an image is added to each cell of their table.  Source: Agresti and Min 2005, Statistics in Medicine 24.
    """
    more, fewer = (int((one & ~two).sum()) for one, two in ((right, other), (other, right)))
    n, middle = len(right) + 2, (more - fewer) / (len(right) + 2)
    reach = -special.ndtri(level / 2) * sqrt(max(0, more + fewer + 1 - n * middle**2)) / n
    return (more - fewer) / len(right), max(-1.0, middle - reach), min(1.0, middle + reach)


def _by_class(found, parts, level):
    """Of each class in parts of the images and each other model: a row on the model after, and ends of the interval of
    the difference; those of a part miss together with probability ``level``."""
    for than, part in product(("before", "reference"), parts):
        y, kinds = found.labels[part], found.labels[part].unique().tolist()
        for k in kinds if than in found.outputs else ():
            after, other = (found.right(model, part)[y == k] for model in ("after", than))
            row = {"than": than, "part": part, "class": found.images.classes[k], "images": len(after)}
            row |= {"right": int(after.sum()), "right_by_other": int(other.sum())}
            yield row, *paired_difference(after, other, level / len(kinds))[1:]


def lost_classes(found, level):
    """Retained classes of which fewer than half as many images are named right after as by another model: surely, by
    the intervals, which together miss with probability ``level``, or none of several."""
    rows = [{**row, "surely": bool(high < 0)} for row, _, high in _by_class(found, ("retain", "test_retain"), level)]
    few = (row for row in rows if row["right"] < row["right_by_other"] / 2)
    return [row for row in few if row["surely"] or (not row["right"] and row["right_by_other"] > 1)]


def left_classes(found, level, limit):
    """Forgotten classes of which surely more than ``limit`` percent of the test images, or of the training images of
    one of several, are named right, by the lower end of the 95 % interval; beside a reference: more than by it, by the
    intervals, and by over ``limit`` points.  And those of which, in another preparation (``prepared``, the one of
    `other_preparations` with most), surely more than that of at most `HIDDEN` training images are.  A model that never
    saw a class may give its name to an image so, too, mostly where few classes are left."""
    out, several = [], len(found.labels["forget"].unique()) > 1  # of one the verdict says it anyway
    for row, low, _ in _by_class(found, ("forget",) * several + ("test_forget",), level):
        right, n, other = row["right"], row["images"], row["right_by_other"]
        if row["than"] == "before":
            low, other = share_ends(right, n)[0] - limit / 100, 0
        out += [row | {"prepared": None}] * bool(low > 0 and right - other > n * limit / 100)
    return out + _hidden(found, level, limit)


def _hidden(found, level, limit):
    # Of classes that are not surely known as given: the other preparation in which most of a sample are.
    out, y, kinds = [], found.labels["forget"], found.labels["forget"].unique().tolist()
    if found.images.num_classes - len(kinds) < 2:  # a network that knows one class alone gives others any name
        return out
    most, retained = max(1, HIDDEN // len(kinds)), found.images.only(sample(found.split.retain, HIDDEN))
    rare = level / (PREPARATIONS * len(kinds))

    def surely(right):  # more than the limit
        return right.any() and special.bdtrc(int(right.sum()) - 1, len(right), limit / 100) <= rare

    for k in kinds:
        few, best = found.images.only(sample(found.split.forget[y == k], most)), None
        if surely(_hits(found, "after", few, k)):
            continue
        usual = _hits(found, "before", few, k).sum()
        for how, other, right in otherwise(found.models["after"], few):
            if not surely(right) or (best and right.sum() <= best[1].sum()):
                continue
            alike = next((images for name, images in _ways(retained) if name == how), retained)
            before, stray = _hits(found, "before", other, k), _hits(found, "after", alike, k)
            # Where the model before knows half as much, and fewer other images get the name.
            if 2 * before.sum() >= usual and (right.double().mean() - stray.double().mean()) > limit / 100:
                best = how, right, before, other
        if best is None:
            continue
        how, right, before, other = best
        row = {"part": "forget", "class": found.images.classes[k], "images": len(right), "right": int(right.sum())}
        out.append(row | {"than": "before", "right_by_other": int(before.sum()), "prepared": how})
        if "reference" in found.outputs:
            theirs = _hits(found, "reference", other, k)
            more = paired_difference(right, theirs, level)
            if more[0] > limit / 100 and more[1] > 0:
                out.append(row | {"than": "reference", "right_by_other": int(theirs.sum()), "prepared": how})
    return out


def _named(model, images):
    return predict(model, images, torch.arange(len(images.y), device=images.y.device)).argmax(1)


def _hits(found, model, images, k):
    # Which of these images a model names so.
    return _named(found.models[model], images) == k


def sample(index, most: int = HIDDEN):
    """At most so many of an index, at equal distances."""
    return index[torch.linspace(0, len(index) - 1, min(most, len(index))).round().long().to(index.device)]


def otherwise(model, images) -> Iterator[tuple[str, Images, Bool[Tensor, " n"]]]:
    """(Preparation, images, which are named right), as given and in each usual other way that a network takes."""
    for how, other in _ways(images):
        with suppress(Exception):  # it may take one size only
            yield how, other, _named(model, other) == other.y


def _ways(images):
    yield "as given", images
    yield from ((how.partition(" (")[0], other) for how, other in other_preparations(images) if how not in _ODD)


def js(p_logits: Logits, q_logits: Logits) -> float:
    r"""Jensen-Shannon divergence, mean over images, nats in [0, log 2]; NaN for no images.

    $\tfrac12\mathrm{KL}(p \Vert m) + \tfrac12\mathrm{KL}(q \Vert m)$, $m = (p + q) / 2$.
    """
    p, q = p_logits.double().softmax(1), q_logits.double().softmax(1)
    m = ((p + q) / 2).clamp_min(1e-300).log()
    return 0.5 * sum((torch.special.xlogy(x, x) - x * m).sum(1) for x in (p, q)).mean().item()


def rf_jsd(logits: Logits, y: Labels, unseen: Float[Tensor, "m K"], y_unseen: Int[Tensor, " m"]) -> float:
    r"""How far a model's mean answer on forgotten images of a class is from the original's on unseen ones, without a
    retrained model: `js` of the mean softmax vectors, mean over the classes that both have, nats; NaN where none is.

    Args: logits: of the model.  unseen: of the original.
    Source: Spartalis et al. 2025 (LoTUS), RF-JSD.  Departs: the public code divides the sum by the classes once more.
    """
    both = set(y.tolist()) & set(y_unseen.tolist())
    means = [
        [x.double()[of == k].softmax(1).mean(0, keepdim=True).log() for x, of in ((logits, y), (unseen, y_unseen))]
        for k in sorted(both)
    ]
    return sum(js(*pair) for pair in means) / len(means) if means else nan


def zrf(logits: Logits, blank_logits: Logits) -> float:
    """1 - `js` to an untrained network (zero-retrain forgetting), in [1 - log 2, 1].  Source: Chundawat et al. 2023."""
    return 1 - js(logits, blank_logits)


def zrf_reversed(logits: Logits, blank_logits: Logits) -> float:
    r"""`zrf` as the public code has it (compat), KL the wrong way round and divided by the classes as well:
    $1 - \frac{1}{2K}(\mathrm{KL}(m \Vert p) + \mathrm{KL}(m \Vert q))$.

    Source: public code of Foster et al. 2024 and Chundawat et al. 2023.
    """
    if not len(logits):
        return nan
    p, q = (x.double().log_softmax(1) for x in (logits, blank_logits))
    m = (p.exp() + q.exp()) / 2
    return 1 - 0.5 * sum(F.kl_div(x, m, reduction="sum") for x in (p, q)).item() / p.numel()


def activation_distance(p_logits: Logits, q_logits: Logits) -> float:
    r"""Mean Euclidean distance of the softmax vectors, in [0, sqrt 2].  Source: Golatkar et al. 2021."""
    return (p_logits.double().softmax(1) - q_logits.double().softmax(1)).norm(dim=1).mean().item()


def linear_cka(a: Float[Tensor, "n d"], b: Float[Tensor, "n e"]) -> float:
    r"""Linear centred kernel alignment of two models' features of the same images.

    $\lVert A^\top B\rVert_F^2 / (\lVert A^\top A\rVert_F \lVert B^\top B\rVert_F)$ with centred columns, in [0, 1], 1 =
    equal up to rotation and scale; NaN for constant features.

    Source: Kornblith et al. 2019.
    """
    a, b = ((x.double() - x.double().mean(0)) for x in (a, b))
    return ((a.T @ b).square().sum() / ((a.T @ a).norm() * (b.T @ b).norm())).item()


def two_errors(percent: float | int, images: int) -> float:
    r"""Points by which chance moves a share of so many images: $2 \sqrt{p (1 - p) / n}$, p within 2 to 98 percent."""
    share = min(max(percent / 100, 0.02), 0.98)
    return 200 * sqrt(share * (1 - share) / images)


def tug_of_war(values: list[float], goals: list[float]) -> float:
    r"""$\prod_i (1 - |v_i - g_i|)$ of shares in [0, 1]: 1 = as the retrained model; a pair with a NaN is left out.

    Source: Zhao et al. 2024 (RUM), ToW and ToW-MIA.
    """
    out = 1.0
    for value, goal in zip(values, goals, strict=True):
        out *= 1.0 if isnan(value) or isnan(goal) else 1 - abs(value - goal)
    return out
