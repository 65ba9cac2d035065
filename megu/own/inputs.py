"""What a request brings: the models, the images, and which of these are to be forgotten."""

import logging
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.utils.data import Subset

from megu.core.adapted import adapted
from megu.core.architectures import read_model
from megu.core.loading import copied
from megu.core.models import channels_of
from megu.core.splits import Split, known_unseen, of_classes, split_of
from megu.datasets.folder import ClassFolders, ImagePart, find_classes, room
from megu.datasets.images import same_pixels
from megu.datasets.listing import Listing, class_name, class_names, in_order, list_images, read_names
from megu.datasets.pairs import as_pairs, check_names, names_of, read_dataset
from megu.datasets.selection import an_image, has_positions, listed, of_mask, positions_of, read_selection
from megu.datasets.table import list_csv
from megu.datasets.user_images import pool_parts
from megu.own.class_order import check_header
from megu.settings.config import Forget
from megu.settings.errors import SettingsError, why
from megu.settings.values import closest, shown

_log = logging.getLogger("megu")


def read_inputs(request, where):
    """(model, reference or None, images on the device ``where``, what each training image is called) of a request.
    Raises: SettingsError where something does not fit."""
    data, test, model, reference = request.data, request.test, request.model, request.reference
    classes = request.classes
    if request.arch is not None and not isinstance(model, Path) and not isinstance(reference, Path):
        raise SettingsError(f"arch {shown(request.arch)} belongs to a file of weights, but model is none: leave it out")
    if isinstance(classes, Path):
        classes = read_names(classes)
    classes, named = in_order(classes, "classes"), True
    if isinstance(data, str | Path):
        found = find_classes(data, classes, request.size, unseen=test is None)
        model, reference = (_built(one, request.arch, found) for one in (model, reference))
        mode, name, names = _mode(model, found.size), Path(data).resolve().name, found.classes
        if (counts := found.train.uncounted) and has_positions(request.forget, found.train.ids):
            what = f"{name!r} {counts}, so positions would mean other images"
            raise SettingsError(f"{what}: remove them, or give names (or a file of names)")
        if request.subclasses is not None:
            raise SettingsError("subclasses belong to a Dataset: folders below those of the classes name them")
        test, train = found.test if test is None else test, None
    else:
        name, data = type(data).__name__, as_pairs(data, "data")
        if request.size is not None or isinstance(model, Path) or isinstance(reference, Path):
            raise SettingsError("to a Dataset belongs an nn.Module: give one, and neither size nor arch")
        mode, names = _mode(model, _size(data)), None
        if classes is None:
            classes = names = names_of(data)
        else:
            with suppress(SettingsError):  # of two that do not agree, the names that are given decide
                names = names_of(data)
        classes = class_names(_numbered(model, data, mode) if classes is None else classes, "classes")
        train = read_dataset(data, len(classes), mode, "data", request.subclasses)
        named = names and request.classes is None
        names = check_names(data, train.y, classes, names, "classes", "data", named)
        found = ClassFolders(classes, Listing(Path(), []), None, tuple(train.x.shape[2:]))
    if isinstance(test, str | Path):
        test = _list_unseen(Path(test).expanduser(), found.classes)
    train, test, whole = _read_files(found, train, test, mode)
    if not (test is None or isinstance(test, ImagePart)):
        given, whole = as_pairs(test, "test"), None
        test = read_dataset(given, len(found.classes), mode, "test")
        check_names(given, test.y, names or found.classes, names_of(given), "data", "test", named)
    images = pool_parts(name, found.classes, train, test, request.normalise, where, whole)
    for file in (one for one in (request.model, request.reference) if isinstance(one, Path)):
        check_header(file, images)
    return model, reference, images, train.ids


def _read_files(found, train, test, mode):
    """Training images, where they are None, and test images, where they are a listing: read into one tensor."""
    listed = ([found.train] if train is None else []) + ([test] if isinstance(test, Listing) else [])
    if not listed:
        return train, test, None
    whole, parts, at = room(found.shape_of(mode, *listed)), [], 0
    for listing in listed:
        parts.append(found.read(listing, mode, whole[at : at + len(listing.files)]))
        at += len(listing.files)
    if train is not None:
        return train, parts[0], None
    return parts[0], parts[1] if isinstance(test, Listing) else test, whole


def _list_unseen(path, classes):
    if path.suffix.lower() == ".csv" and not path.is_dir():
        _, train, test = list_csv(path, classes)
        return test or train
    if not path.is_dir():
        raise SettingsError(f"test {path.name!r} is no folder: give one with a folder per class, or a .csv")
    return list_images(path, classes)


def _built(model, arch, found):
    if not isinstance(model, Path):
        return model
    if arch is None:
        raise SettingsError(f"model {model.name!r} needs arch: name the architecture of its weights")
    try:
        return read_model(model, arch, len(found.classes), found.size)
    except SettingsError as error:  # ImageFolder counts .ipynb_checkpoints as a class
        more = f"; the folder {found.train.uncounted}" if found.train.hidden else ""
        raise SettingsError(f"{error}{more}") from None


def _mode(model, size):
    return "L" if isinstance(model, nn.Module) and channels_of(model, size) == 1 else "RGB"


def _size(data):
    """(height, width) of a Dataset's first picture, if it is one."""
    with suppress(Exception):  # of whatever kind it is, that is said where all are read
        return data[0][0].size[::-1]


def _numbered(model, data, mode):
    first = read_dataset(Subset(data, [0, 0] if len(data) else []), None, mode, "data").x
    try:
        with torch.no_grad():
            return range(adapted(copied(model, "model"), first.float(), None)(first.float()).shape[1])
    except SettingsError:
        raise
    except Exception as error:  # whatever a foreign forward() may raise
        asked = f"the model takes no images of shape {tuple(first.shape[1:])} ({why(error)})"
        raise SettingsError(f"{asked}: check size and channels") from None


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
        return asked, known_unseen(images, split) if asked.scenario == "subclass" else split
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
            what = f"{asked} all {count} training images of {(name := images.classes[k])!r}"
            remedy = f"to forget the class, with a verdict on it, give its name (--forget {name!r})"
            _log.warning(f"{what}, which are forgotten {how}: {remedy}")


def _copies(split, images, ids, said):
    """Retained images with the pixels of forgotten ones, which is ``said``, or refused where nothing is."""
    gone, kept = split.forget.tolist(), split.retain.tolist()
    pairs = same_pixels(images.hashes(split.forget), images.hashes(split.retain))
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
    names, every = tuple(dict.fromkeys(map(class_name, names))), images.classes + images.fine_classes
    for name in names:
        if name not in every:
            hint = f"; of images give {an_image(ids)}, of a file of them a pathlib.Path (--forget-list)" * ("." in name)
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
            remedy = f"give integers from 0 to {last}, or names of classes only"
            if isinstance(one, str | Path):
                remedy = f"beside single images give {an_image(ids)}; for classes make another request"
            raise SettingsError(f"forget has {str(one)[:50]!r}: {remedy}")
        if goes[one]:
            called = f" ({ids[one]})" * (ids[one] != str(one))
            raise SettingsError(f"forget has position {one}{called} twice: list it once")
        goes[one] = True
    return goes.to(images.y.device)
