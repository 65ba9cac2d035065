r"""Files that appear whole or not at all, directories of one process, hashes."""

import errno
import hashlib
import json
import os
import stat
import zipfile
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from megu.settings.errors import SettingsError, StageError
from megu.settings.values import shown

_UMASK = os.umask(0)
os.umask(_UMASK)


@contextmanager
def writing(path, called=None):
    r"""An error of the disk is a StageError; ``called``: a folder, where people know it and not the file."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or str(error)
        what = f"{called or path.name} could not be written to {'' if called else repr(path.parent.name)}".rstrip()
        full = any(n == getattr(error, "errno", None) or f"os error {n})" in why for n in (errno.ENOSPC, errno.EDQUOT))
        remedy = f"{'free some space or ' * full}choose another directory"
        raise StageError(f"{what} ({why}): {remedy}; what was finished is kept") from error


@contextmanager
def atomic(path, locked=False):
    r"""A temporary path whose file replaces ``path``, on the disk, when the block ends without an error.

    Args: locked: nobody else writes this file: what a killed process left half-written goes.
    """
    path = Path(path)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            for half in path.parent.glob(f".{path.stem}.*.part{path.suffix}") if locked else ():
                half.unlink()
            yield part
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.chmod(part, 0o666 & ~_UMASK)  # safetensors writes for the owner alone
            os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def alone(directory, called=None):
    r"""The block has a directory, perhaps ``called`` otherwise, to itself.  Raises: StageError where a living process
    has it."""
    directory = Path(directory)
    path, called = directory / ".locks" / "alone.lock", called or repr(directory.name)
    with writing(path, called):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(path).acquire(timeout=0)
        except Timeout:
            what = f"another run is at work in {called}"
            raise StageError(f"{what}: wait, or use another directory") from None
    with lock:
        yield


def write_json(path, content, locked=False):
    r"""Write ``content`` as JSON, see `atomic`."""
    with atomic(path, locked) as part:
        part.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def project_root(start="."):
    r"""The nearest folder upwards with a ``pyproject.toml``, for runs; else ``start``."""
    start = Path(start).resolve()
    return next((folder for folder in (start, *start.parents) if (folder / "pyproject.toml").exists()), start)


def ordinary(path):
    r"""A path, there or not, that nobody waits for who opens it; ``~`` is the home directory.

    Raises: SettingsError for a pipe, a socket or a device, and for what can be no path.
    """
    odd = False
    if isinstance(path, str) and not path:
        raise SettingsError("'' can be no path (is a variable unset?): name a file or folder, or give none")
    try:
        path = Path(path).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            odd = not (stat.S_ISREG(kind := path.stat().st_mode) or stat.S_ISDIR(kind))
    except (OSError, ValueError, RuntimeError) as error:  # a null byte, a name too long, a home of nobody
        why = getattr(error, "strerror", None) or error
        raise SettingsError(f"{shown(str(path))} can be no path ({why}): name another") from None
    if odd:
        remedy = "save what it gives as a file, and name that"
        raise SettingsError(f"{path.name!r} is a pipe, a socket or a device: {remedy}")
    return path


def in_utf8(path, what):
    r"""The path.  Raises: SettingsError where its name is not UTF-8, as safetensors and config files need it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="replace").decode()
        raise SettingsError(f"{what} '{shown}' is not UTF-8: rename the folder or file, or name another") from None
    return path


def shipped(name):
    r"""The folder ``notebooks`` or ``paper_figures``.  Raises: SettingsError without it."""
    package = Path(__file__).parents[1]
    for folder in (package / "cli" / "assets" / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise SettingsError(f"this installation has no {name}/: install megu from a wheel or a clone")


def weights_file(path, what):
    r"""The safetensors file, or the index of several, that a path or a folder names; it is not read.

    Raises: SettingsError where it is missing or of another kind; ``what``: for the message, e.g. ``model``.
    """
    path, names = in_utf8(ordinary(path), what), ("model.safetensors", "model.safetensors.index.json")
    if path.is_dir():  # as save_pretrained writes it
        path = next((path / name for name in names if (path / name).is_file()), path)
    if (path / "adapter_config.json").is_file():
        remedy = "merge it into its model (peft: merge_and_unload()), save that by save_pretrained, and give its folder"
        raise SettingsError(f"{what} {path.name!r} is an adapter of peft alone: {remedy}")
    if not path.is_file():
        lacks = f"is a folder without {names[0]}" if path.is_dir() else "does not exist"
        raise SettingsError(f"{what} {path.name!r} {lacks}: give a .safetensors file")
    if path.name.endswith(".index.json"):
        return path
    with open(path, "rb") as file:
        head = file.read(9)
    if lacks := unfetched(path):
        raise SettingsError(f"{what} {path.name!r} is {lacks}")
    if path.suffix != ".safetensors" or head[8:] != b"{":
        kind = "is TorchScript" if _is_torchscript(path) else "is not a safetensors file"
        state = "torch.jit.load(file).state_dict()" if "Script" in kind else "torch.load(file, weights_only=True)"
        raise SettingsError(
            f"{what} {path.name!r} {kind}, and only safetensors are opened, since a pickle can run code:"
            " use safetensors.torch.save_file(state, 'model.safetensors'), where state is model.state_dict() or, of a"
            f" file that you trust, {state}"
        )
    return path


def unfetched(path):
    r"""What to say of a file that Git LFS has not brought yet; else None."""
    with open(path, "rb") as file:
        found = file.read(30).startswith(b"version https://git-lfs")
    return "a pointer of Git LFS, not the file: fetch it by `git lfs pull`" if found else None


def _is_torchscript(path):
    with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as file:
        return any(name.endswith("/constants.pkl") for name in file.namelist())
    return False


def hash_file(path, kind="sha256"):
    r"""Hash of a file in hex: SHA-256, or the MD5 that hosts publish, which shows damage only."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


@cache
def _hash_of_version(path, size, changed):
    return hash_file(path)


def hash_weights(path):
    r"""`hash_file`, computed again where size or time of change differ."""
    about = os.stat(path)
    return _hash_of_version(path, about.st_size, about.st_mtime_ns)


def hash_bytes(*parts):
    r"""SHA-256 in hex of strings, bytes and arrays, one after the other."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode(errors="surrogateescape") if isinstance(part, str) else part)  # any file name
    return total.hexdigest()


def hash_json(about):
    r"""Twelve hex digits of SHA-256 over a JSON-like dictionary."""
    return hash_bytes(json.dumps(about, sort_keys=True))[:12]
