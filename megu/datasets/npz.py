r"""Arrays of images and labels in one ``.npz``, without pickled objects."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import psutil

from megu.datasets.images import both_parts
from megu.settings.errors import SettingsError
from megu.settings.files import ordinary


def existing_path(given, what):
    r"""``data.path``.  Raises: SettingsError where ``what`` belongs and nothing is."""
    path = Path(given or "")
    if not given or not path.exists():
        raise SettingsError(f"data.path is {given!r}, which does not exist: set it to {what}")
    return ordinary(path)


def read_npz(given):
    r"""(Images, labels) of training and test, class names, the superclass of each or ``()``.  Raises: SettingsError for
    a file that is damaged, too large, or lacks something."""
    path = existing_path(given, "an .npz with x_train, y_train, x_test, y_test, class_names")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            fits_memory(size, f"{path.name} is damaged, or too large for this machine")
        with np.load(path, allow_pickle=False) as arrays:
            parts = dict(arrays)
    except SettingsError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SettingsError(f"{path.name} cannot be read ({error}): give one whole, without pickled objects") from None
    if missing := {"x_train", "y_train", "x_test", "y_test", "class_names"} - set(parts):
        raise SettingsError(f"{path.name} lacks {', '.join(sorted(missing))}")
    names, coarse = _names(parts, "class_names", path.name), ()
    if {"fine_to_coarse", "coarse_names"} <= set(parts):
        supers, of = _names(parts, "coarse_names", path.name), parts["fine_to_coarse"]
        if of.shape != (len(names),) or of.dtype.kind not in "iu" or of.min() < 0 or of.max() >= len(supers):
            held = f"{of.min()} to {of.max()}, {of.dtype}" if of.size and of.dtype.kind in "iuf" else of.dtype
            remedy = f"give {len(names)} integers from 0 to {len(supers) - 1}, positions in coarse_names"
            raise SettingsError(f"{path.name}: fine_to_coarse is {held} of shape {of.shape}; {remedy}")
        coarse = tuple(supers[k] for k in of)
    return *both_parts(parts), names, coarse


def _names(parts, key, file):
    names = parts[key]
    if names.ndim != 1 or len(names) < 2 or names.dtype.kind not in "Uiu":
        remedy = "give at least two names, strings of shape (K,)"
        raise SettingsError(f"{file}: {key} is {names.dtype} of shape {names.shape}; {remedy}")
    return tuple(str(name).replace("_", " ") for name in names)


def fits_memory(size, what):
    r"""Raises SettingsError, with ``what`` to do, where ``size`` bytes do not fit into memory."""
    need, free = size / 1e9, psutil.virtual_memory().available / 1e9
    if need > 0.9 * free:
        raise SettingsError(f"{need:.1f} GB of images do not fit into {free:.1f} GB of free memory: {what}")
