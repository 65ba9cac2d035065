"""Which images a request forgets."""

import logging
import os
import shlex
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from megu.core.splits import Split, of_classes, split_of
from megu.datasets.images import same_pixels
from megu.datasets.listing import class_name, is_image
from megu.datasets.selection import listed, of_mask, positions_of, read_selection
from megu.settings.config import Forget
from megu.settings.errors import SettingsError
from megu.settings.values import closest, shown

_log = logging.getLogger("megu")


def forget_set(request, images, ids) -> tuple[Forget, Split]:
    """What ``request.forget`` means, and the split that follows.

    It is names of classes or of sub-classes (``"tops/shirt"``), or paths of image files, see `read_selection`; or
    positions of training images, of a folder as torchvision's ImageFolder counts them, or a truth value for each; or a
    `pathlib.Path` of a list of them.
    Retained images with the pixels of single forgotten ones: ``request.duplicates``; of classes they are said.

    Args: images, ids: see `read_inputs`.
    Raises: SettingsError where a name or position does not exist, or nothing would be forgotten or retained.
    """
    forget, data = request.forget, request.data
    if isinstance(forget, Path):
        forget = read_selection(forget, ids, data if isinstance(data, str | Path) else None)
    forget = listed(forget)
    if not isinstance(forget, list | tuple | range) or not len(forget):
        raise SettingsError(f"forget is {shown(forget, 50)}: give names, positions or a pathlib.Path of them")
    if request.duplicates not in (None, "forget", "keep"):
        raise SettingsError(f"duplicates is {request.duplicates!r}: choose forget or keep")
    forget = of_mask(forget, ids, "forget")
    if isinstance(data, str | Path):
        forget = positions_of(forget, {*images.classes, *images.fine_classes}, ids, data)
    if all(isinstance(one, str) for one in forget):
        asked = _check_names(forget, images, ids)
        split = split_of(images, of_classes(images, asked.scenario, asked.classes))
        named = {*asked.classes} if request.subclasses is not None else set()
        for name in named & {*images.classes} & {*images.fine_classes}:
            kinds = (of_classes(images, scenario, [name]) for scenario in ("class", "subclass"))
            if not torch.equal(*kinds):
                said = "is a class and a sub-class: the class is forgotten; rename one to tell them apart"
                _log.warning(f"{name!r} {said}")
        if asked.scenario == "subclass":
            _say_whole(images, split.forget, "the sub-classes that are named hold", "as sub-classes")
        _copies(split, images, ids, "these were not asked for, and stay")
        return asked, split
    asked, goes = Forget(scenario="random", classes=()), _at_positions(forget, images, ids)
    split = split_of(images, goes)
    _say_positions(images, ids, split.forget, data)
    copies = _copies(split, images, ids, {"keep": "these stay", "forget": "these go, too"}.get(request.duplicates))
    if copies and request.duplicates == "forget":
        goes[copies] = True
        split = split_of(images, goes)
    return asked, split


def _say_positions(images, ids, gone, data):
    files, order = isinstance(data, str | Path), "in the Dataset"
    if files:
        order = "in the .csv's order" if str(data).lower().endswith(".csv") else "as torchvision's ImageFolder does"
    elif hasattr(data, "indices"):
        order = "in the Subset that was given, not in the Dataset below it"
    kinds = [images.classes[k] for k in images.y[gone].tolist()]
    first = [*zip(gone.tolist(), kinds, strict=True)][:5]
    said = (f"{i} is {ids[i] if files else f'an image of {kind!r}'}" for i, kind in first)
    text = f"positions count from 0, {order}: {', '.join(said)}{', ...' * (len(gone) > 5)}"
    _log.warning(text, extra={"report": f"positions count from 0, {order}"})
    _say_whole(images, gone, "positions name", "one by one")


def _say_whole(images, gone, asked, how):
    """Of which classes all training images go, though they were ``asked`` for otherwise."""
    known = images.y[: images.num_train].bincount().tolist()
    for k, count in enumerate(images.y[gone].bincount().tolist()):
        if count == known[k] > 1:
            name = images.classes[k]
            what, shell = f"{asked} all {count} training images of {name!r}", f"--forget {shlex.quote(name)}"
            remedy = f"to forget the class, with a verdict on it, give its name ({shell})"
            _log.warning(f"{what}, which are forgotten {how}: {remedy}")


def _copies(split, images, ids, said):
    """Retained images with the pixels of forgotten ones, which is ``said``, or refused where nothing is."""
    gone, kept = split.forget.tolist(), split.retain.tolist()
    pairs = same_pixels((images.x[i] for i in gone), (images.x[i] for i in kept))
    if pairs:
        names = ", ".join(f"{ids[kept[at]]} = {ids[gone[of]]}" for at, of in [*pairs.items()][:8])
        many = f"{len(pairs)} retained images have the pixels of forgotten ones"
        what = f"{many} ({names}{', ...' * (len(pairs) > 8)})"
        if said is None:
            remedy = "add them to what is forgotten, or give duplicates='forget' to have them added, 'keep' to keep"
            raise SettingsError(f"{what}: {remedy}")
        _log.warning(f"{what}: {said}", extra={"report": f"{many}: {said}"})
    return [kept[at] for at in pairs]


def _check_names(names, images, ids) -> Forget:
    if files := [name for name in names if is_image(name) and name not in images.classes + images.fine_classes]:
        kind = "positions of images" if ids[0] == "0" else f"names of such, as {ids[0]!r}"
        raise SettingsError(f"forget has {shown(files[0])}, and no training image is called so: give {kind}")
    names, every = tuple(dict.fromkeys(map(class_name, names))), images.classes + images.fine_classes
    for name in names:
        if name not in every:
            hint = "; a file of images is a pathlib.Path (--forget-list)" if os.path.isfile(name) else ""
            raise SettingsError(closest(name, dict.fromkeys(every), f"forget: in {images.name!r} the class") + hint)
    whole = {name in images.classes for name in names}
    if len(whole) > 1:
        raise SettingsError(f"forget names classes and sub-classes ({', '.join(names)}): ask for one kind")
    scenario, known = ("class", images.classes) if True in whole else ("subclass", images.fine_classes)
    if len(names) == len(known):
        raise SettingsError(f"forget names all {len(known)} classes: keep at least one")
    return Forget(scenario=scenario, classes=names)


def _at_positions(positions, images, ids) -> Bool[Tensor, " N"]:
    last, goes = images.num_train - 1, torch.zeros(len(images.y), dtype=torch.bool)
    for one in positions:
        if isinstance(one, bool) or not isinstance(one, int | np.integer) or not 0 <= one <= last:
            remedy = f"give integers from 0 to {last}, or names only"
            if isinstance(one, str) and ids[0] != "0":
                remedy = f"beside single images give names of such, as {ids[0]!r}; for classes make another request"
            raise SettingsError(f"forget has {str(one)[:50]!r}: {remedy}")
        if goes[one]:
            called = f" ({ids[one]})" * (ids[one] != str(one))
            raise SettingsError(f"forget has position {one}{called} twice: list it once")
        goes[one] = True
    return goes.to(images.y.device)
