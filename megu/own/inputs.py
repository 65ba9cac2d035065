"""What a request brings: the models, the images, and which of these are to be forgotten."""

import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from megu.core.loading import channels_of, count_classes, read_model
from megu.core.splits import Split, of_classes, split_of
from megu.datasets.folder import ClassFolders, class_name, class_names, find_classes
from megu.datasets.user_images import pool_parts, read_dataset
from megu.settings.config import Forget
from megu.settings.errors import SettingsError
from megu.settings.values import closest


def read_inputs(request, where):
    """(model, reference or None, images on the device ``where``, what each training image is called) of a request.
    Raises: SettingsError where something does not fit."""
    data, test, model, reference = request.data, request.test, request.model, request.reference
    classes = request.classes
    if request.arch is not None and not isinstance(model, Path) and not isinstance(reference, Path):
        raise SettingsError(f"arch {request.arch!r} belongs to a file of weights, but model is none: leave arch out")
    if isinstance(classes, Path):
        classes = list(filter(None, _read_lines(classes)))
    if isinstance(data, str | Path):
        found = find_classes(data, classes, request.size)
        model, reference = (_built(one, request.arch, found) for one in (model, reference))
        mode, name = _mode(model), Path(data).resolve().name
        train, test = found.read(found.train, mode), found.test if test is None else test
    else:
        if request.size is not None or isinstance(model, Path) or isinstance(reference, Path):
            raise SettingsError("to a Dataset belongs an nn.Module: give one, and neither size nor arch")
        mode, name = _mode(model), type(data).__name__
        if classes is None:
            classes = getattr(data, "classes", None)
        classes = class_names(_numbered(model, data, mode) if classes is None else classes, "classes")
        train = read_dataset(data, len(classes), mode, "data", request.subclasses)
        found = ClassFolders(classes, Path(), None, tuple(train.x.shape[2:]))
    if isinstance(test, str | Path):
        test = Path(test).expanduser()
        if not test.is_dir():
            raise SettingsError(f"test {test.name!r} is no folder: give one with a folder per class")
        test = found.read(test, mode)
    elif test is not None:
        test = read_dataset(test, len(found.classes), mode, "test")
    return model, reference, pool_parts(name, found.classes, train, test, request.normalise, where), train.ids


def _built(model, arch, found):
    if not isinstance(model, Path):
        return model
    if arch is None:
        raise SettingsError(f"model {model.name!r} needs arch: name the architecture of its weights")
    return read_model(model, arch, len(found.classes), found.size)


def _mode(model):
    return "L" if isinstance(model, nn.Module) and channels_of(model) == 1 else "RGB"


def _numbered(model, data, mode):
    try:
        first = read_dataset([data[0]] * 2, 2**62, mode, "data").x.float()
        return range(count_classes(model, first))
    except SettingsError:
        raise
    except Exception as error:  # whatever a foreign Dataset or forward() may raise
        raise SettingsError(f"the model cannot be asked ({type(error).__name__}): give classes") from None


def _read_lines(path):
    try:
        if (size := path.stat().st_size) > 50_000_000:
            raise SettingsError(f"{path.name} has {size} bytes: give one name or number a line")
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise SettingsError(f"{path.name} cannot be read ({why}): give a text file") from None


def forget_set(forget, images, ids) -> tuple[Forget, Split]:
    """What ``forget`` means, and the split that follows.

    Args:
        forget: names of classes or of sub-classes (``"tops/shirt"``); or positions of training images; or a
            `pathlib.Path` of a text file with one position, or one of ``ids``, a line.
        images, ids: see `read_inputs`.
    Raises: SettingsError where a name or position does not exist, or nothing would be forgotten or retained.
    """
    if isinstance(forget, Path):
        forget = _read_positions(forget, ids)
    elif isinstance(forget, str):
        forget = [forget]
    elif isinstance(forget, np.ndarray | Tensor):
        forget = forget.tolist()
    if not isinstance(forget, list | tuple | range) or not len(forget):
        raise SettingsError(f"forget is {str(forget)[:50]!r}: give names, positions or a pathlib.Path of them")
    if all(isinstance(one, str) for one in forget):
        asked = _check_names(forget, images)
        return asked, split_of(images, of_classes(images, asked.scenario, asked.classes))
    return Forget(scenario="random", classes=()), split_of(images, _at_positions(forget, images))


def _check_names(names, images) -> Forget:
    names, every = tuple(dict.fromkeys(map(class_name, names))), images.classes + images.fine_classes
    for name in names:
        if name not in every:
            raise SettingsError(closest(name, dict.fromkeys(every), f"forget: in {images.name!r} the class"))
    whole = {name in images.classes for name in names}
    if len(whole) > 1:
        raise SettingsError(f"forget names classes and sub-classes ({', '.join(names)}): ask for one kind")
    scenario, known = ("class", images.classes) if True in whole else ("subclass", images.fine_classes)
    if len(names) == len(known):
        raise SettingsError(f"forget names all {len(known)} classes: keep at least one")
    return Forget(scenario=scenario, classes=names)


def _at_positions(positions, images) -> Bool[Tensor, " N"]:
    last, goes = images.num_train - 1, torch.zeros(len(images.y), dtype=torch.bool)
    for one in positions:
        if isinstance(one, bool) or not isinstance(one, int | np.integer) or not 0 <= one <= last:
            raise SettingsError(f"forget has {str(one)[:50]!r}: give integers from 0 to {last}, or names only")
        if goes[one]:
            raise SettingsError(f"forget has position {one} twice: list it once")
        goes[one] = True
    return goes.to(images.y.device)


def _read_positions(path, ids):
    position, out = {name: i for i, name in enumerate(ids)}, []
    for number, line in enumerate(_read_lines(path), 1):
        if line in position:
            out.append(position[line])
        elif re.fullmatch(r"[+-]?[0-9]{1,18}", line):
            out.append(int(line))
        elif line and not line.startswith("#"):
            raise SettingsError(f"{path.name} has {line[:50]!r} in line {number}: give a position or an image's name")
    if not out:
        raise SettingsError(f"{path.name} lists no image: give one position or file name a line")
    return out
