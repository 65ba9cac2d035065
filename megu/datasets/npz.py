r"""Arrays of images and labels in one ``.npz``: read without pickled objects, and only where they fit."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import psutil

from megu.settings.errors import SettingsError


def existing_path(data, what):
    r"""``data.path``.  Raises: SettingsError where there is nothing, saying ``what`` belongs there."""
    path = Path(data.path or "")
    if not data.path or not path.exists():
        raise SettingsError(f"data.path is {data.path!r}, which does not exist: set it to {what}")
    return path


def read_npz(data):
    r"""Training and test images with labels, class names and the superclass of each (or none) of ``data.path``.

    Raises: SettingsError where it is damaged, too large, or lacks something.
    """
    path = existing_path(data, "an .npz with x_train, y_train, x_test, y_test, class_names")
    try:
        with zipfile.ZipFile(path) as archive:
            fits_memory(
                1,
                sum(member.file_size for member in archive.infolist()),
                f"{path.name} is damaged, or too large for this machine",
            )
        with np.load(path, allow_pickle=False) as arrays:
            parts = {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SettingsError(
            f"{path.name} cannot be read ({error}): give a complete .npz without pickled objects"
        ) from None
    missing = {"x_train", "y_train", "x_test", "y_test", "class_names"} - set(parts)
    if missing:
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
    return (parts["x_train"], parts["y_train"]), (parts["x_test"], parts["y_test"]), names, coarse


def _names(parts, key, file):
    names = parts[key]
    if names.ndim != 1 or len(names) < 2 or names.dtype.kind not in "Uiu":
        raise SettingsError(
            f"{file}: {key} is {names.dtype} of shape {names.shape}; give at least two names, strings of shape (K,)"
        )
    return tuple(str(name).replace("_", " ") for name in names)


def fits_memory(count, size, what):
    r"""Raise SettingsError where ``count`` times ``size`` bytes are more than this machine has left; ``what`` says what
    to do instead."""
    free = psutil.virtual_memory().available
    if count * size > 0.9 * free:
        raise SettingsError(
            f"{count * size / 1e9:.1f} GB of images do not fit into the {free / 1e9:.1f} GB of memory that are free:"
            f" {what}"
        )
