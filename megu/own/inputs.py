r"""What a request brings, read: the models and the images."""

from pathlib import Path

import torch
from torch import nn

from megu.core import models
from megu.core.loading import channels_of, read_model
from megu.core.tensors import read_tensors
from megu.datasets.folder import ClassFolders, class_names, find_classes
from megu.datasets.user_images import pool_parts, read_dataset
from megu.settings.errors import SettingsError


def read_inputs(request, where):
    r"""(model, reference or None, images on the device ``where``, what each training image is called) of a request.

    Raises: SettingsError where something is missing or does not fit.
    """
    data, test, size = request.data, request.test, request.size
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 2 <= size <= 4096):
        raise SettingsError(f"size is {size!r}: give pixels, an integer from 2 to 4096")
    given = [
        (one, read_tensors(one, "model")) if isinstance(one, Path) else one
        for one in (request.model, request.reference)
    ]
    classes = read_names(request.classes) if isinstance(request.classes, Path) else request.classes
    if isinstance(data, str | Path):
        folders = find_classes(data, classes, size)
        model, reference = (_built(one, request.arch, folders) for one in given)
        mode, test, name = _mode(model), folders.test if test is None else test, Path(data).resolve().name
        train = folders.read(folders.train, mode)
    else:
        if size is not None or any(isinstance(one, tuple) for one in given):
            raise SettingsError("a Dataset gives images of its own size to an nn.Module: leave size and arch out")
        (model, reference), mode, name = given, _mode(given[0]), type(data).__name__
        classes = getattr(data, "classes", None) if classes is None else classes
        classes = (
            map(str, range(count_outputs(model, data, mode))) if classes is None else class_names(classes, "classes")
        )
        classes = tuple(classes)
        train = read_dataset(data, len(classes), mode, "data", request.subclasses)
        folders = ClassFolders(classes, Path(), None, tuple(train.x.shape[2:]))
    if isinstance(test, str | Path):
        test = Path(test).expanduser()
        if not test.is_dir():
            raise SettingsError(f"test {test.name!r} is no folder: give one with a folder of images per class")
        test = folders.read(test, mode)
    elif test is not None:
        test = read_dataset(test, len(folders.classes), mode, "test")
    images = pool_parts(name, folders.classes, train, test, request.normalise, where)
    return model, reference, images, train.ids


def _built(given, arch, folders):
    """A model, built where it was given as (path, tensors)."""
    if not isinstance(given, tuple):
        return given
    if arch is None:
        raise SettingsError(f"model {given[0].name!r} needs arch: name the architecture that its weights are of")
    return read_model(given[0], arch, len(folders.classes), folders.size, given[1])


def _mode(model):
    return "L" if isinstance(model, nn.Module) and channels_of(model) == 1 else "RGB"


def read_names(path):
    r"""Class names from a text file, one a line.  Raises: SettingsError where it cannot be read."""
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"classes {path.name!r} cannot be read ({type(error).__name__}): give a text file with one class name a"
            " line"
        ) from None


def count_outputs(model, data, mode):
    r"""K of a model whose classes nobody named, asked with the first image of a Dataset."""
    if not isinstance(model, nn.Module) or not hasattr(data, "__getitem__") or not len(data):
        raise SettingsError("classes are not known: give classes, names in the order of the model's outputs")
    first = read_dataset([data[0]], 2**62, mode, "data")
    try:
        with torch.no_grad():
            return models.frozen(model)(first.x.float()).shape[1]
    except Exception as error:  # whatever a foreign forward() may raise
        raise SettingsError(
            f"classes are not known and the model cannot be asked ({type(error).__name__}): give classes, names of its"
            " outputs"
        ) from None
