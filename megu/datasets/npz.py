r"""Arrays of images and labels in one ``.npz``: read without pickled objects, and only where they fit."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import psutil

from megu.settings.errors import SettingsError


def existing_path(data, what):
    r"""``data.path``.  Raises: SettingsError where nothing is there: ``what`` belongs there."""
    path = Path(data.path or "")
    if not data.path or not path.exists():
        raise SettingsError(f"data.path is {data.path!r}, which does not exist: set it to {what}")
    return path


def read_npz(data):
    r"""Training and test images with labels, class names and the superclass of each (or none).

    Raises: SettingsError where the file is damaged, too large, or lacks something.
    """
    path = existing_path(data, "an .npz with x_train, y_train, x_test, y_test, class_names")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            fits_memory(1, size, f"{path.name} is damaged, or too large for this machine")
        with np.load(path, allow_pickle=False) as arrays:
            parts = dict(arrays)
    except SettingsError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        remedy = "give a complete .npz without pickled objects"
        raise SettingsError(f"{path.name} cannot be read ({error}): {remedy}") from None
    if missing := {"x_train", "y_train", "x_test", "y_test", "class_names"} - set(parts):
        raise SettingsError(f"{path.name} lacks {', '.join(sorted(missing))}")
    names, coarse = _names(parts, "class_names", path.name), ()
    if {"fine_to_coarse", "coarse_names"} <= set(parts):
        supers, of = _names(parts, "coarse_names", path.name), parts["fine_to_coarse"]
        if of.shape != (len(names),) or of.dtype.kind not in "iu" or of.min() < 0 or of.max() >= len(supers):
            held = f"{of.min()} to {of.max()}, {of.dtype}" if of.size and of.dtype.kind in "iuf" else of.dtype
            raise SettingsError(
                f"{path.name}: fine_to_coarse is {held} of shape {of.shape}; give {len(names)} integers from 0 to"
                f" {len(supers) - 1}, for each of class_names its position in coarse_names"
            )
        coarse = tuple(supers[k] for k in of)
    return *((parts[f"x_{part}"], parts[f"y_{part}"]) for part in ("train", "test")), names, coarse


def _names(parts, key, file):
    names = parts[key]
    if names.ndim != 1 or len(names) < 2 or names.dtype.kind not in "Uiu":
        what = f"{names.dtype} of shape {names.shape}"
        raise SettingsError(f"{file}: {key} is {what}; give at least two names, strings of shape (K,)")
    return tuple(str(name).replace("_", " ") for name in names)


def fits_memory(count, size, what):
    r"""Raise SettingsError where ``count`` times ``size`` bytes do not fit into memory; ``what`` to do instead."""
    need, free = count * size / 1e9, psutil.virtual_memory().available / 1e9
    if need > 0.9 * free:
        raise SettingsError(
            f"{need:.1f} GB of images do not fit into the {free:.1f} GB of memory that are free: {what}"
        )
