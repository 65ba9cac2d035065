r"""What a request may name, known before torch, torchvision and timm are imported, which takes seconds."""

import ast
import difflib
import importlib.util
import os
import re
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import get_args

from megu.settings.class_names import TRAIN, UNSEEN
from megu.settings.config import Guide, Settings
from megu.settings.errors import SettingsError
from megu.settings.values import closest, shown

NORMALISE = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0,), (1.0,)),
    "half": ((0.5,), (0.5,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    # Public unlearning code gives these to every CIFAR
    "cifar100": ((0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)),
}
OURS = get_args(Settings.model_fields["arch"].annotation)
# Settings of a request that belong to no method.
SHARED = ("guide", "training", "device", "threads", "autocast", "compile", "deterministic", "tf32")
_METHOD = r'^@register\(\s*"([\w-]+)"'
_MODEL = r"^@register_model(?:\(\))?\n(?:@.*\n|  .*\n|\)\n)*def (\w+)"


def read_pair(text: str) -> tuple:
    r"""(Mean, std) in [0, 1] as people write them.  Raises: ValueError, TypeError or SyntaxError for anything else.

    >>> read_pair("0.5, 0.4, 0.3; 1, 1, 1") == read_pair("((0.5, 0.4, 0.3), (1, 1, 1))")
    True
    """
    pair = ast.literal_eval("(" + "), (".join(text.split(";")) + ")" if ";" in text else text)
    if not in_range(pair):
        raise ValueError
    return pair


def in_range(pair) -> bool:
    r"""Whether means lie in [0, 1], and deviations in it and above 0."""
    mean, std = ([*value] if isinstance(value, list | tuple) else [value] for value in pair)
    return all(0 <= value <= 1 for value in mean) and all(0 < value <= 1 for value in std)


def is_normalisation(text: str) -> bool:
    r"""Whether text names a normalisation, or is a pair as `read_pair` reads it."""
    try:
        return text in (*NORMALISE, "data") or bool(read_pair(text))
    except (SyntaxError, TypeError, ValueError):
        return False


def _source(package, folder):
    """Text of the files in a folder of a package, which is not imported; empty where it is not installed."""
    found = importlib.util.find_spec(package)
    files = sorted(Path(found.submodule_search_locations[0], folder).glob("*.py")) if found else []
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def registered(package: str, folder: str, pattern: str = _MODEL) -> list[str]:
    r"""Names that the files of a package register by a decorator."""
    return re.findall(pattern, _source(package, folder), re.MULTILINE)


def method_names() -> dict[str, bool]:
    r"""Name of each of our methods -> whether it is what methods are compared with."""
    reference = registered("megu", "methods", _METHOD + "(?=.*reference=True)")
    return {name: name in reference for name in registered("megu", "methods", _METHOD)}


def check_method(name, known: dict[str, bool]):
    r"""Raises SettingsError where a method is none to unlearn by; ``known``: as `method_names` gives it."""
    if not isinstance(name, str):
        raise SettingsError(f"method is {shown(name)}: give one name, or compare several (megu compare)")
    if known.get(name):
        raise SettingsError(f"method {name!r} is what unlearning is compared with: choose e.g. megu")
    if name not in known:
        raise SettingsError(closest(name, [one for one, reference in known.items() if not reference], "method"))


def check_shared(settings: dict | None):
    r"""Raises SettingsError where one of a comparison's settings is of one method, or of none."""
    if wrong := [name for name in settings or {} if name.partition(".")[0] not in SHARED]:
        what = f"setting {wrong[0]!r} is of one method"
        raise SettingsError(f"{what}: a comparison takes those of guide, training and device only")


def check_arch(arch: str):
    r"""Raises SettingsError where torchvision, timm or we have no such architecture, or its file is not there."""
    library, _, name = arch.partition(":")
    if library == "timm" and name:
        plain, known = name.partition(".")[0], registered("timm", "models")  # weights may be named behind a dot
        if timm := sys.modules.get("timm"):  # the user's own may be registered
            there = timm.is_model(name)
        else:  # names of earlier versions stand in a table
            there = not known or plain in known or f"'{name}'" in _source("timm", "models")
        if not there:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            did = f"did you mean {' or '.join(map(repr, near))}?" if near else "see timm.list_models()"
            raise SettingsError(f"timm has no model {name!r}; {did}")
    elif library.endswith(".py") and name:
        _check_function(arch, Path(library).expanduser(), name)
    elif arch.endswith(".py"):
        raise SettingsError(
            f"arch {shown(arch)} is a file: name the function that builds the network, {arch[:80]}:NAME"
        )
    elif not name and arch not in (known := [*OURS, *registered("torchvision", "models")]):
        near = difflib.get_close_matches(arch[:200], dict.fromkeys(known), n=3, cutoff=0.4) or OURS
        raise SettingsError(
            f"arch {shown(arch)} does not exist; did you mean {' or '.join(map(repr, near))}? choose from"
            f" torchvision.models, ours ({', '.join(OURS)}), timm:NAME, hf:NAME, or give module:function or"
            " file.py:function"
        )


def _check_function(arch, path, function):
    """Reads the file, which is not run: that waits for torch."""
    remedy = "check file.py:function"
    if not path.is_file():
        raise SettingsError(f"arch {arch!r}: there is no file {path.name!r}: {remedy}")
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        why = getattr(error, "strerror", None) or getattr(error, "msg", None) or error
        raise SettingsError(f"arch {arch!r}: {path.name}{where} cannot be read as Python ({why}): {remedy}") from None
    named = {getattr(node, what, None) for node in ast.walk(tree) for what in ("name", "asname", "id")}
    if not named & {function, "*", "__getattr__", "globals"}:  # these may make any name
        known = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        raise SettingsError(closest(function, known, f"arch: in {path.name} the function"))


def check_names(given: dict):
    r"""Raises SettingsError for a name to be forgotten that no folder has; the readers check it all, and what may be a
    file: an image, or a list of some."""
    forget, root = given.get("forget"), Path(given.get("data", "")).expanduser()
    names = [forget] if isinstance(forget, str) else forget or []
    if "data" not in given or "classes" in given or not root.is_dir() or not all(isinstance(n, str) for n in names):
        return
    depth = 3 if any("/" in name for name in names) else 2  # data/train/class/sub-class
    there, level = {}, [root]
    for _ in range(depth):
        with suppress(OSError):  # what cannot be listed is for the readers
            level = [path for folder in level for path in sorted(folder.iterdir()) if path.is_dir()]
        there |= dict.fromkeys(unicodedata.normalize("NFC", path.name).strip() for path in level)
    for name in names:
        last = unicodedata.normalize("NFC", name).strip().rpartition("/")[2]
        if last not in there and "." not in last and not os.path.isfile(name):
            known = [one for one in there if one.lower() not in (*TRAIN, *UNSEEN) and not one.startswith(".")]
            if not known:
                raise SettingsError(f"data {root.name!r} holds no folder of a class: put the images of each into one")
            raise SettingsError(closest(name, known, f"forget: in {root.name!r} the class"))


def guide_lacks(source: str | None, guide: Guide) -> str | None:
    r"""What a guide that needs a model cannot be asked without, in words."""
    if source == "mllm" and not (guide.model or guide.path):
        return "mllm needs guide.model (an id on the hub) or guide.path (a folder)"
    if source == "clip" and not (guide.model and (guide.revision or guide.path)):
        return "clip needs guide.model, e.g. ViT-B-32, and guide.revision, e.g. laion2b_s34b_b79k"
    if source == "served" and not guide.model:
        return "served needs guide.model, the name that the server gives its model"
    return None
