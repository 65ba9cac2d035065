"""What a request brings: the models and the images."""

import logging
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Subset

from megu.core.adapted import adapted, why
from megu.core.loading import copied, read_model
from megu.core.models import channels_of
from megu.datasets.folder import ClassFolders, ImagePart, find_classes, room
from megu.datasets.listing import Listing, class_names, in_order, list_images, read_names
from megu.datasets.pairs import as_pairs, check_names, names_of, read_dataset
from megu.datasets.selection import has_positions
from megu.datasets.table import list_csv
from megu.datasets.user_images import pool_parts
from megu.own.class_order import check_header
from megu.settings.errors import SettingsError
from megu.settings.values import shown

_log = logging.getLogger("megu")


def read_inputs(request, where):
    """(model, reference or None, images on the device ``where``, what each training image is called) of a request.
    Raises: SettingsError where something does not fit."""
    data, test, model, reference = request.data, request.test, request.model, request.reference
    classes = request.classes
    if request.arch is not None and not isinstance(model, Path) and not isinstance(reference, Path):
        raise SettingsError(
            f"arch {shown(request.arch)} belongs to a file of weights, but model is none: leave arch out"
        )
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
    if isinstance(request.model, Path):
        check_header(request.model, images)
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
    return read_model(model, arch, len(found.classes), found.size)


def _mode(model, size):
    return "L" if isinstance(model, nn.Module) and channels_of(model, size) == 1 else "RGB"


def _size(data):
    """(height, width) of a Dataset's first picture, if it is one."""
    try:
        return data[0][0].size[::-1]
    except Exception:  # of whatever kind it is, that is said where all are read
        return None


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
