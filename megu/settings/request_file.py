r"""A request in words: a TOML or YAML file, the options of the command line, or both."""

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, Field, StrictInt, StrictStr, field_validator

from megu.settings.config import Part, Settings, Source
from megu.settings.errors import SettingsError
from megu.settings.files import atomic, in_utf8, ordinary, weights_file
from megu.settings.known import NORMALISE, check_arch, check_names, guide_lacks, in_range, is_normalisation
from megu.settings.values import build, check_once, closest, merge, nest, shown

FILES = {  # what must be there, and what to give
    "model": "give the weights as a .safetensors file",
    "reference": "give the weights as a .safetensors file",
    "data": "give a folder of images by class",
    "test": "give a folder of images by class",
    "classes": "give a text file with one name a line",
    "forget_list": "give a text file with a file name or a position a line",
}
OBJECTS = {"model", "reference", "data", "test", "forget", "classes", "guide", "normalise", "out"}  # others check
GUIDES = [name for name in get_args(Source) if name not in ("posterior", "confusion", "own-features")] + ["model"]
KINDS = ".toml", ".yaml", ".yml"
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]+:")  # no path: hf:name, https://...


def _either(holds, wanted):
    def checked(value):
        if not holds(value):
            raise ValueError(wanted)
        return value

    return Annotated[Any, AfterValidator(checked)]


def _all(kind, values):
    return isinstance(values, list | tuple) and all(type(value) in kind for value in values)


def _are_moments(value):
    pair = isinstance(value, list | tuple) and len(value) == 2 and all(_all((int, float), part) for part in value)
    return pair and in_range(value)


Forget = _either(
    lambda value: isinstance(value, str) or _all((str,), value) or _all((int,), value),
    "give names of classes in quotes, or a list of positions of images as integers",
)
Names = _either(
    lambda value: isinstance(value, str | Path) or _all((str,), value), "give names in quotes, or a text file of them"
)
Methods = _either(lambda x: isinstance(x, str) or (_all((str,), x) and len(x)), "give a name, to compare a list")
Truth = _either(lambda value: isinstance(value, bool), "give True or False")
Normalise = _either(
    lambda value: is_normalisation(value) if isinstance(value, str) else _are_moments(value),
    f"choose from {', '.join(NORMALISE)}, data, or give mean and deviation, e.g. '0.5,0.5,0.5; 0.2,0.2,0.2'",
)


class RequestFile(Part):
    """What `megu.unlearn` and `megu.compare` can be told in words; for defaults see `megu.own.request.Request`.

    A string in ``forget`` is a name, also of an image, an integer in a list a position; ``forget_list`` is a file of
    them instead.  A string in ``classes`` is a file of names.  ``method``: of a comparison, a list.  ``settings``:
    nested or dotted.  ``out``: folder for what is written.
    """

    model: Path | None = None
    arch: StrictStr | None = None
    data: StrictStr | None = None
    forget: Forget | None = None
    forget_list: Path | None = None
    test: StrictStr | None = None
    reference: Path | None = None
    retrain: Truth | None = None
    classes: Names | None = None
    duplicates: Literal["forget", "keep"] | None = None
    method: Methods | None = None
    guide: StrictStr | None = None
    normalise: Normalise | None = None
    size: Annotated[StrictInt, Field(ge=2, le=4096)] | None = None
    retain_images: Annotated[StrictInt, Field(ge=1)] | None = None
    trained_on: Annotated[StrictInt, Field(ge=1)] | None = None
    tune: Annotated[StrictInt, Field(ge=0, le=10_000)] | None = None
    seed: Annotated[StrictInt, Field(ge=0)] | None = None
    settings: dict[str, Any] | None = None
    out: Path | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _said_once(cls, value):
        if isinstance(value, str) and not value:
            raise ValueError("give a value, or leave it out")
        if isinstance(value, dict):
            check_once(value)
        return value

    def arguments(self) -> dict[str, Any]:
        """What is given, as arguments of `megu.unlearn`.  Raises: SettingsError for a file that is not there."""
        given = {name: value for name, value in self if value is not None}
        for name, remedy in FILES.items():
            if _is_path(path := given.get(name)) and not ordinary(path).exists():
                raise SettingsError(f"{name} {Path(path).name!r} does not exist: {remedy}")
        if isinstance(given.get("classes"), str):
            given["classes"] = Path(given["classes"])
        if not str(guide := given.get("guide", "model")).endswith((".csv", ".npy")) and guide not in GUIDES:
            raise SettingsError(closest(guide, GUIDES, "guide") + "; or give a matrix, or its .csv or .npy")
        if "arch" in given:
            check_arch(given["arch"])
        check_names(given)
        for name in given.keys() & {"model", "reference"}:
            weights_file(given[name], name)
        settings = build(Settings, {"guide": nest(given.get("settings") or {}).get("guide", {})})
        if lacking := guide_lacks(given.get("guide"), settings.guide):
            raise SettingsError(lacking)
        if "forget_list" in given:
            given["forget"] = given.pop("forget_list")
        return given


def read(path: Path | str) -> dict[str, Any]:
    """The values of a request's file; relative paths in it are relative to it.

    Raises: SettingsError where it cannot be read, or has a key or a value that no request has.
    """
    if not isinstance(path, str | Path):
        raise SettingsError(f"config is {shown(path)}: name a file that ends in {', '.join(KINDS)}")
    path = ordinary(path)
    if path.suffix not in KINDS:
        raise SettingsError(f"config {path.name!r} is of another kind: name a file that ends in {', '.join(KINDS)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = tomllib.loads(text) if path.suffix == ".toml" else yaml.load(text, _NoKeyTwice)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:150]
        raise SettingsError(f"config {path.name!r} cannot be read ({why}): correct it") from None
    if not isinstance(values, dict):
        raise SettingsError(f"config {path.name!r} is a {type(values).__name__}: write e.g. forget: trouser")
    try:
        return _moved(dict(_checked(values)), lambda place: str(path.parent.absolute() / place))
    except SettingsError as error:
        raise SettingsError(f"config {path.name!r}: {error}") from None


def _is_path(value):
    return isinstance(value, str | Path) and not _ELSEWHERE.match(str(value))


class _NoKeyTwice(yaml.SafeLoader):
    """As in TOML, a key that stands twice is an error."""

    def construct_mapping(self, node, deep=False):
        """A mapping.  Raises: ValueError for a key twice."""
        merged = "tag:yaml.org,2002:merge"  # <<: what stands there may be said again
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != merged]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(f"{twice[0]!r} stands in it twice")
        return super().construct_mapping(node, deep)


def _moved(values, move):
    """The values that are given, with ``move`` of every path."""
    out = {name: value for name, value in values.items() if value is not None}

    def change(group, names):
        for name in names:
            if _is_path(place := group.get(name)):
                group[name] = move(os.path.expanduser(place))

    change(out, (*FILES, "out"))
    if code := re.fullmatch(r"(hf:)?(.+?)((?<=\.py):\w+)?", out.get("arch", "")):
        library, place, function = code.groups("")
        there = move(os.path.expanduser(place))
        if function or (library and any(map(os.path.isdir, (place, there)))):
            out["arch"] = f"{library}{there}{function}"
    if str(out.get("guide")).endswith((".csv", ".npy")):
        change(out, ["guide"])
    if "settings" in out:
        out["settings"] = nest(out["settings"])
        if isinstance(guide := out["settings"].get("guide"), dict):
            out["settings"]["guide"] = guide = dict(guide)
            change(guide, ("answers", "path"))
    return out


def overlay(base: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """``options`` over what a file says: settings one by one, everything else as a whole.

    >>> overlay({"seed": 1, "forget_list": "a.txt", "settings": {"recipe": {"lr": 1, "batch": 2}}},
    ...         {"forget": "ape", "settings": {"recipe.lr": 3}})
    {'seed': 1, 'settings': {'recipe': {'lr': 3, 'batch': 2}}, 'forget': 'ape'}
    """
    if options.keys() & {"forget", "forget_list"}:
        base = {name: value for name, value in base.items() if name not in ("forget", "forget_list")}
    out = base | options
    if "settings" in base.keys() & options.keys():
        out["settings"] = merge(nest(base["settings"]), nest(options["settings"]))
    return out


def arguments_of(config: Path | str | None, **given) -> dict[str, Any]:
    """Arguments of `megu.unlearn` or `megu.compare`, None where one is not given, over a file of them, if any."""
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if getattr(value, "ndim", None) == 0:  # of numpy
            given[name] = value.item()
        if isinstance(value, Path) or (isinstance(value, str) and name in (*FILES, "out")):
            ordinary(value)
    build(RequestFile, {name: given[name] for name in given.keys() & RequestFile.model_fields.keys() - OBJECTS})
    return given if config is None else overlay(request_of({}, config).arguments(), given)


def request_of(options: dict[str, Any], config: Path | None = None) -> RequestFile:
    """Options of the command line, None where one is not given, over a file.  Raises: SettingsError."""
    given = {name: value for name, value in options.items() if value is not None}
    return _checked(overlay({} if config is None else read(config), given))


def _checked(values):
    request = build(RequestFile, values)
    if request.forget is not None and request.forget_list is not None:
        raise SettingsError("forget and forget_list are both given: choose one")
    return request


def write(request: RequestFile, path: Path):
    """Write a request for `read`; its paths are written relative to the file.  Raises: SettingsError, StageError."""
    path = Path(path)
    if path.suffix not in KINDS:
        raise SettingsError(closest(path.suffix, KINDS, f"--save-config {path.name!r}: the ending"))
    try:
        if path.exists():
            read(path)
    except SettingsError:
        raise SettingsError(f"--save-config {path.name!r} is there and is no request: choose another name") from None
    folder, values = path.parent.absolute(), request.model_dump()
    values = _moved(values, lambda place: Path(os.path.relpath(in_utf8(place, "path"), folder)).as_posix())
    if path.suffix == ".toml":
        import tomlkit  # noqa: PLC0415  (nobody else needs it)

        text = tomlkit.dumps(values)
    else:
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
