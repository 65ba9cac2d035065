r"""Lists of single images, as people write them: positions or names, in text, .npy or .json."""

import re
import unicodedata
from os.path import normpath
from pathlib import Path

import numpy as np

from megu.datasets.listing import is_image, read_json, read_lines
from megu.settings.class_names import TRAIN
from megu.settings.errors import SettingsError
from megu.settings.files import ordinary
from megu.settings.values import shown

_POSITION = re.compile(r"-?(0|[1-9][0-9]{0,17})")


def listed(forget):
    r"""What is to be forgotten as a list, where it is one name, or of numpy, torch or pandas.

    Raises: SettingsError for truth values of pandas whose index is in no order, as it may not mean their places.
    """
    if not getattr(getattr(forget, "index", None), "is_monotonic_increasing", True) and forget.dtype == bool:
        remedy = ".sort_index() of it, if that counts the training images, or .to_numpy(), if its rows are in order"
        raise SettingsError(f"forget has truth values whose index is not in order: give {remedy}")
    forget = forget.tolist() if hasattr(forget, "tolist") else forget
    return [forget] if isinstance(forget, str) else forget


def has_positions(forget, ids) -> bool:
    r"""Whether what is to be forgotten of the images ``ids``, or the file that lists it, see `read_selection`, has
    numbers, which may be positions, or truth values, see `of_mask`."""
    written = isinstance(forget, Path)
    found = _entries(ordinary(forget)) if written else listed(forget)
    return isinstance(found, list | tuple | range) and any(
        not isinstance(one, str | Path) or (written and _POSITION.fullmatch(_bare(one)))
        for one in of_mask(found, ids, forget.name if written else "forget")
    )


def of_mask(values, ids, what) -> list:
    r"""Positions of the true ones where ``values`` are truth values, one for each of the images ``ids``; else they.

    Raises: SettingsError where there are more or fewer, or none is true.
    """
    if not len(values) or not all(isinstance(one, bool | np.bool_) for one in values):
        return values
    many = f"{what} has {len(values)} truth values"
    if len(values) != len(ids):
        others = "positions" if ids[0] == "0" else f"names, as {ids[0]!r}"
        raise SettingsError(f"{many} for {len(ids)} training images: give {others}, or one for each of these alone")
    if not any(values):
        raise SettingsError(f"{many}, and none is true: mark at least one image")
    return [i for i, one in enumerate(values) if one]


def read_selection(path, ids, root=None) -> list[int]:
    r"""Positions of the images that a file lists.

    It is text with one a line (``#``: a comment), or a JSON list or a .npy, which may also hold truth values.  A name
    is one of ``ids``, the end of just one of them (``0001.png``), or a path to it from ``root`` or from above it;
    ``\\`` counts as ``/``.

    Args: root: folder of the images, or their .csv; None for a Dataset.
    Raises: SettingsError naming the line that is no image, or several.
    """
    path, out = ordinary(Path(path)), []
    text = path.suffix not in (".npy", ".json")
    find = _finder(ids, root)
    for number, entry in enumerate(of_mask(_entries(path), ids, path.name), 1):
        if isinstance(entry, int) and not isinstance(entry, bool):
            out.append(entry)
            continue
        entry = _bare(entry) if isinstance(entry, str) else repr(entry)
        found = find(entry)
        if not entry or (text and entry.startswith("#") and not found):
            continue
        if len(found) != 1:
            what = f"{path.name} has {entry[:80]!r} in line {number}"
            if not found and _POSITION.fullmatch(entry):
                if other := next((name for i, name in enumerate(ids) if Path(name).stem == entry != str(i)), None):
                    raise SettingsError(f"{what}, a position, but also the name of {other}: write names with endings")
                out.append(int(entry))
                continue
            _refuse_several(found, what, ids)
            raise SettingsError(f"{what}: give {an_image(ids)}")
        out += found
    if not out:
        raise SettingsError(f"{path.name} lists no image: give one a line, by {an_image(ids)}")
    return out


def an_image(ids) -> str:
    r"""How a training image is asked for."""
    if ids[0] == "0":
        return "a position; images of a Dataset have no names"
    return f"a position or the name of a training image, as in {ids[0]!r}"


def positions_of(names, known, ids, root) -> list:
    r"""``names`` with positions for those that are paths or names of images, as in `read_selection`; what is ``known``
    as a class stays.  Raises: SettingsError where several images are called so, or none by the name of a file."""
    find, out = _finder(ids, root), []
    for name in names:
        name = str(name) if isinstance(name, Path) else name
        found = find(name) if isinstance(name, str) and name not in known else []
        _refuse_several(found, f"forget has {name!r}", ids)
        if isinstance(name, str) and is_image(name) and not found and name not in known:  # else a class may be meant
            raise SettingsError(f"forget has {shown(name)}, and no training image is called so: give e.g. {ids[0]!r}")
        out.append(found[0] if found else name)
    return out


def _refuse_several(found, what, ids):
    if len(found) > 1:
        several = ", ".join(ids[i] for i in found[:3])
        raise SettingsError(f"{what}, which {len(found)} images are called: say which, e.g. {several}")


def _bare(entry):
    return entry.strip().strip("\"'")


def _entries(path):
    if path.suffix not in (".npy", ".json"):
        return read_lines(path)
    if path.suffix == ".json":
        found = read_json(path)
    else:
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            why = getattr(error, "strerror", None) or str(error).splitlines()[0][:100]
            raise SettingsError(f"{path.name} cannot be read ({why}): give a list of positions or names") from None
        found = array.tolist() if array.ndim == 1 and array.dtype.kind in "biuU" else None
    if not isinstance(found, list):
        raise SettingsError(f"{path.name} is no list: give positions, names, or a truth value for each training image")
    return found


def _finder(ids, root):
    """A function from a name to the positions of the images that it may mean."""
    exact, by_last = {}, {}
    for i, name in enumerate(ids):
        parts = _parts(name)
        exact.setdefault(parts, []).append(i)
        by_last.setdefault(parts[-1], []).append((parts, i))
    tops = set()
    if root is not None:
        top = Path(root).expanduser()
        top = top.parent if top.is_file() else top
        inner = [one for one in top.iterdir() if one.name.lower() in TRAIN]
        tops = {one for top in (top, *inner) for one in (top.absolute(), top.resolve())}

    def ends(name, parts):  # whether the whole path of an image does
        return any(_parts(normpath(top / name))[-len(parts) :] == parts for top in tops)

    def find(name):
        parts = _parts(name)
        if not parts or parts in exact:  # two files may have one name in two forms of Unicode
            same = exact.get(parts, [])
            return [i for i in same if ids[i] == str(name)] or same
        found = []
        for own, i in by_last.get(parts[-1], ()):
            if own[-len(parts) :] == parts or ends(ids[i], parts):
                found.append((len(own) if len(parts) > len(own) else 0, i))
        return [i for length, i in found if length == max(found)[0]]

    return find


def _parts(name):
    text = unicodedata.normalize("NFC", str(name)).replace("\\", "/")
    return tuple(part for at, part in enumerate(text.split("/")) if part != "." and (part or at == 0))
