"""Whether the model's outputs follow the order of the class names, whether it knows what it shall forget, and what is
said of classes that it lost beside that, or still knows."""

import json
import logging
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from megu.core.device import generator
from megu.core.loading import better_prepared
from megu.core.models import about
from megu.core.train import predict
from megu.settings.errors import SettingsError
from megu.settings.files import weights_file
from megu.settings.values import shown

_log = logging.getLogger("megu")
LOST, LEFT = "Single retained classes are lost: ", "What was to be forgotten is still known: "  # also said at work
HIDDEN = "What was to be forgotten may be hidden (a model that never saw a class seldom names it so): "  # this, too
_LITTLE = 0.25  # of the way from chance to all right
_SURELY = 1e-3  # so rarely does a model as good as this one name so few images of any class that it knows


def check_header(path, images):
    r"""What a model that was written here says of its outputs and images, against what is asked.

    Raises: SettingsError where its outputs are the same classes in another order; other moments are said.
    """
    said = header(path)
    names, numbers = said.get("classes") or (), (said.get("mean"), said.get("std"))
    if sorted(names) == sorted(images.classes) and tuple(names) != images.classes:
        raise SettingsError(f"{path.name} says that its outputs are {shown(names)}: give classes in this order")
    given = [part.tolist() for part in (images.mean, images.std)]
    if all(numbers) and not np.allclose(numbers, given, 0, 2e-3):
        numbers = [[round(value, 3) for value in part] for part in (*numbers, *given)]
        _log.warning("%s says that its images have mean %s and deviation %s, and not %s and %s", path.name, *numbers)


def header(path) -> dict:
    r"""What weights say of themselves, see `megu.core.models.about`; else the classes in a config.json of transformers
    beside them."""
    with suppress(SettingsError):
        path = weights_file(path, "model")
    said = {} if path.name.endswith(".json") else about(path)
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        names = json.loads((path.parent / "config.json").read_text())["id2label"]
        said.setdefault("classes", [names[str(k)] for k in range(len(names))])
    return said


def check_class_order(checked, index, kind="training", other=None):
    r"""Refuse a model whose confusion matrix is nearly a permutation.

    Tried are timm's natural order of the names, and the permutation that fits one half of a sample of the images best,
    on the other half.  Of the images whose class it moves, it must name right at least twice as many as the given order
    does, by 2.5 standard deviations; and it must name more right than in any other preparation of the images.

    Args:
        checked: `megu.own.request.CheckedRequest`, with images, split and original.
        index: of training or test images, by ``kind``.
        other: a model, called ``kind``, that is checked on retained images instead.
    Raises: SettingsError with the order found.
    """
    images = checked.images
    if not len(index):
        return
    index = _evenly(images.y, index, _count(images))
    y, named = _named(checked, index, other)
    if (order := _other_order(images.classes, y, named)) is None:
        return
    found, renamed = [images.classes[k] for k in order], torch.tensor(order)[named]
    shares = [(labels == y).double().mean().item() for labels in (named, renamed)]
    given, right = (f"{100 * share:.0f} %" for share in shares)
    if other is not None:
        if shares[1] < (_named(checked, index)[1] == y).double().mean() / 2:
            return  # a model that names so few in any order was hardly trained
        what = f"the outputs of {kind} follow another order: {given} of {len(y)} retained images are named right"
        remedy = "train it with the outputs of the model in their order; that of a class that goes gets no images"
        raise SettingsError(f"{what} in that of the model, {right} in the one found: {remedy}")
    chance = 1 / images.num_classes
    if shares[0] <= chance and shares[1] < chance + _LITTLE * (1 - chance):
        return  # untrained networks, too, tell classes apart a little: `megu.core.loading.check_accuracy` refuses it
    if better := better_prepared(checked.original, images, index, named.to(index.device), above=shares[1]):
        what = f"the model names {given} of {len(y)} {kind} images right, but {better}"
        raise SettingsError(f"{what}: prepare them as those that it was trained on")
    remedy = f"if these are its outputs, give classes={found} (--classes: a file with one a line)"
    if kind == "test":
        remedy = "number the classes of the test images as those of the training images are"
    elif not isinstance(checked.request.data, str | Path):
        remedy = f"number the classes of the images as its outputs are: {found}"
    raise SettingsError(
        f"the model's outputs follow another order of the classes: it names {given} of {len(y)} {kind} images right"
        f" in the given one, {right} in the one found: {remedy}"
    )


def check_known(checked):
    r"""Refuse to forget classes of which the model does not know anything, as their images are given their name no more
    often than a sample of the others are, by two standard deviations.  Beside one that it knows, such a class may have
    been forgotten before: it stays forgotten, which is said; and of such classes that stay, that they are learnt.

    Args: see `check_class_order`.  Raises: SettingsError with the class.
    """
    images, asked, split = checked.images, checked.settings.forget, checked.split
    y, named = _named(checked, _evenly(images.y, split.train, _count(images)))
    wrong, seen = (named != y).double().mean().item(), _hits(y, named, range(images.num_classes))
    usual = {k: (named[y != k] == k).double().mean().item() for k in seen}
    for _ in range(2):  # with ever more images of each class that is left
        unknown = [k for k, (hits, n) in seen.items() if _no_more(hits, n, usual[k])]
        stay = split.retain[torch.isin(images.y[split.retain], torch.tensor(unknown).to(images.y))]
        seen = _hits(*_named(checked, _evenly(images.y, stay, min(_count(images), 300 * len(unknown)))), unknown)
    if learnt := [
        k for k, one in seen.items() if _no_more(*one, usual[k]) and _rare(*one, wrong) < _SURELY / len(usual)
    ]:
        again = f"ask for it again beside what is to be forgotten now (forget=[..., {images.classes[learnt[0]]!r}])"
        cut = "cut off its output first (`The next request` in megu/own/README.md)"
        counts = ", ".join(f"{seen[k][0]} of {seen[k][1]} of {images.classes[k]!r}" for k in learnt)
        _log.warning(
            f"the model names {counts} right, no more than chance would, of retained training images, which are trained"
            f" on and learnt; if it was to forget them before, {again if asked.scenario == 'class' else cut}"
        )
    if asked.scenario != "class":
        return
    _, others = _named(checked, _evenly(images.y, split.retain, 200))
    unknown = {}
    for k in map(images.classes.index, asked.classes):
        of_class = _evenly(images.y, split.forget[images.y[split.forget] == k], 200)
        hits, n = int((_named(checked, of_class)[1] == k).sum()), len(of_class)
        usual = (others == k).double().mean().item()
        if _no_more(hits, n, usual):
            unknown[images.classes[k]] = f"{hits} of {n} of its training images and {100 * usual:.0f} % of the others"
    for name, what in unknown.items():
        said = f"the model gives the name {name!r} to {what}: it does not know the class, "
        if len(unknown) == len(asked.classes):
            remedy = "check the order of the classes, or give positions to forget single images"
            raise SettingsError(f"{said}and cannot forget it; {remedy}")
        _log.warning(f"{said}as if it had forgotten it before; it stays among what is forgotten")


def check_whole_class(checked):
    """Refuse a reference that knows hardly any of the images that stay in a class of which others are forgotten; of
    less than half as many as stay of other classes this is only said, as a right reference may know none of so few.

    Args: see `check_class_order`.  Raises: SettingsError with the class.
    """
    images, split = checked.images, checked.split
    stay = images.y[split.retain].bincount(minlength=images.num_classes).cpu()
    for k in images.y[split.forget].unique().tolist():
        index = _evenly(images.y, split.retain[images.y[split.retain] == k], 200)
        right = [int((_named(checked, index, one)[1] == k).sum()) for one in (checked.reference, checked.original)]
        hits, before, n = *right, len(index)
        if n and hits <= 0.05 * n and (1 - before / n / 2) ** n < _SURELY:
            what = f"reference names {hits} of {n} retained training images of {images.classes[k]!r} right, the model"
            what += f" {before}, as if the class had been left out of its training, or as if that was too short: "
            others = [count for j, count in enumerate(stay.tolist()) if j != k and count]
            if not others or stay[k] >= np.median(others) / 2:
                raise SettingsError(f"{what}give one that was retrained with all images that stay, or none")
            _log.warning(f"{what}if it was, it is no measure; if not, they are few beside those of other classes")


def said_of_classes(lost, left, parts):
    """A sentence on the first of `lost_classes`, two on those of `left_classes`; ``parts``: what people call these."""
    out, hidden = [], [row for row in left if row.get("prepared")]
    who = {"before": "model before", "reference": "retrained reference"}
    for begin, rows in ((LOST, lost), (LEFT, [row for row in left if row not in hidden]), (HIDDEN, hidden)):
        said = [
            f"of {row['class']!r} {row['right']} of {row['images']} {parts[row['part']]} are named right"
            + f" {row.get('prepared') or ''}".rstrip()
            + f" ({row['right_by_other']} by the {who[row['than']]})"
            for row in rows
        ]
        out += [f"{begin}{', '.join(said[:6])}{', ...' * (len(said) > 6)}."] * bool(said)
    return out


def _count(images):
    return min(2000, max(500, 10 * images.num_classes))


def _named(checked, index, model=None):
    logits = predict(checked.original if model is None else model, checked.images, index)
    return checked.images.y[index].cpu(), logits.argmax(1).cpu()


def _hits(y, named, classes):
    return {k: (int((named[y == k] == k).sum()), int((y == k).sum())) for k in classes}


def _no_more(hits, n, share):
    # Whether by two standard deviations no more of n images are hit than by chance.
    return hits <= n * share + 2 * (n * share * (1 - share)) ** 0.5


def _rare(hits, n, wrong):
    # So often a model that is wrong as often as this one hits no more of n images.
    from scipy import stats  # noqa: PLC0415  (half a second, before any refusal)

    return stats.binom.cdf(hits, n, 1 - wrong)


def _evenly(y, index, count):
    """At most ``count`` of ``index``, as many of each class as there are."""
    index = index[torch.randperm(len(index), generator=generator(0, "class order")).to(index.device)]
    sorted_y, order = y[index].sort(stable=True)
    rank = torch.arange(len(index), device=index.device) - torch.searchsorted(sorted_y, sorted_y)
    return index[order][rank.argsort(stable=True)[:count]]


def natural(name):
    """Sort key without case and with numbers by value, as timm's reader of folders sorts."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name.lower())]


def _other_order(classes, y, named):
    """The class that each output stands for in an order that fits far better than the given one, or None."""
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415  (half a second, before any refusal)

    held_out = torch.randperm(len(y), generator=generator(0, "other half")) % 2 == 0
    counts, fitted = torch.zeros(len(classes), len(classes)), ~held_out
    counts.index_put_((named[fitted], y[fitted]), torch.ones(()), accumulate=True)
    timms = sorted(range(len(classes)), key=lambda k: natural(classes[k]))
    best, most = None, 0
    for order in (timms, linear_sum_assignment(-counts)[1].tolist()):
        order = torch.tensor(order)
        moved = held_out & (order != torch.arange(len(order)))[y]
        given, other = ((labels == y)[moved].sum().item() for labels in (named, order[named]))
        usual = (named == y)[held_out & ~moved].double().mean().item()  # NaN where all are moved
        if given <= 0.02 * moved.sum() and other < 0.8 * usual * moved.sum():
            continue  # classes that the model was made to forget, some of which are named as others of them
        if other >= 2 * given and other - given > max(most, 2.5 * (other + given) ** 0.5):
            best, most = order.tolist(), other - given
    return best
