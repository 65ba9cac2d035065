r"""Nested values: named with dots, laid over each other, checked."""

import difflib
import re

from pydantic import ValidationError

from megu.settings.errors import SettingsError

_LISTED = 30  # names in a message, at most


def shown(value, most=100):
    r"""A foreign value in a message: on one line, and not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[:most]}..."


def closest(name, known, what):
    r"""What to say of an unknown name: the nearest known one, and all or the first of many."""
    known = [*map(str, known)]
    plain = {one.casefold(): one for one in known}
    asked = str(name)[:200].casefold()
    near = [one for one in difflib.get_close_matches(asked, plain, n=1) if not asked.strip("/").startswith(f"{one}/")]
    hint = f"did you mean {plain[near[0]]!r}? " if near else ""  # by what lies in a class that class is not meant
    if {one.strip() for one in str(name).split(",")} <= {*known}:
        hint = "these are several: give one by one; "
    more = f", ... ({len(known)} in all)" if len(known) > _LISTED else ""
    choice = f"choose from: {', '.join(known[:_LISTED])}{more}" if known else "there is none to choose from"
    return f"{what} {shown(name)} does not exist; {hint}{choice}"


def nest(values):
    r"""Dotted names as nested dictionaries; later values win.

    >>> nest({"a.b": 1, "a": {"c": 2}})
    {'a': {'b': 1, 'c': 2}}
    """
    out = {}
    for dotted, value in values.items():
        value = nest(value) if isinstance(value, dict) else value
        for group in reversed(str(dotted).split(".")):
            value = {group: value}
        out = merge(out, value)
    return out


def check_once(values: dict, before="", found=None):
    r"""Raises SettingsError where nested and dotted names name one setting twice."""
    found = set() if found is None else found
    for name, value in values.items():
        if isinstance(value, dict):
            check_once(value, f"{before}{name}.", found)
        elif (whole := f"{before}{name}") in found:
            raise SettingsError(f"{whole} is there twice, nested and with a dot: give it once")
        else:
            found.add(whole)


def dotted(values: dict, before: str = "") -> dict:
    r"""Nested or dotted values, flat, by dotted name; lists become tuples.

    >>> dotted({"noise": {"per": "image"}, "noise.kinds": ["pos"]})
    {'noise.per': 'image', 'noise.kinds': ('pos',)}
    """
    flat = {}
    for name, value in nest(values).items():
        if isinstance(value, dict):
            flat |= dotted(value, f"{before}{name}.")
        else:
            flat[before + name] = tuple(value) if isinstance(value, list) else value
    return flat


def merge(base, change):
    r"""``change`` over ``base``, group by group; neither is altered."""
    out = dict(base)
    for key, value in change.items():
        both_groups = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merge(out[key], value) if both_groups else value
    return out


def build(part, values, where="", over=None):
    r"""An instance of ``part``, a subclass of `Part`, from nested values.

    Args: where: prefix for messages, e.g. ``methods.megu``.  over: instance whose values are the defaults.
    Raises: SettingsError with each wrong setting, its value and the remedy.
    """
    base = {}
    try:
        base = (over or part()).model_dump()  # a default may be a wrong $MEGU_*
        return part.model_validate(merge(base, values))
    except ValidationError as error:
        lines = []
        for item in error.errors():
            name = ".".join(map(str, (where, *item["loc"]))).strip(".")
            if item["type"] == "extra_forbidden":
                group = base
                for key in item["loc"][:-1]:
                    group = group.get(key) or {}
                own = name.rpartition(".")[2]
                inner = [f"{part}.{own}" for part, kept in group.items() if isinstance(kept, dict) and own in kept]
                hint = f" ({' or '.join(inner)}?)" if inner else ""
                lines.append(closest(own, group, f"setting {name!r}{hint}: the name"))
            else:
                why = item["msg"].removeprefix("Value error, ")
                lines.append(f"setting {name!r} is {shown(item['input'])}: {why}")
        raise SettingsError("; ".join(lines)) from None


def check_class_names(classes, known, data_name):
    r"""Raises SettingsError where one of ``classes`` is not ``known``, or they are none or all."""
    for name in classes:
        if name not in known:
            raise SettingsError(closest(name, known, f"forget.classes: in {data_name} the class"))
    if not 0 < len(set(classes)) < len(known):
        raise SettingsError(f"forget.classes has {len(set(classes))} of {len(known)} classes: name some, but not all")


def check_parameters(names):
    r"""Refuse what papermill at most warns of: in the cell below a notebook's parameters, ``names`` are its `globals`.

    Raises: SettingsError where papermill set a parameter that the notebook has not, or one has another type.
    """
    asked = names.get("In", [])  # what the kernel was given; a plain script has none

    def found(first, line):
        newest = next((cell for cell in reversed(asked) if re.match(first, cell)), "")
        return dict(re.findall(line, newest, re.M))

    declared, injected = found(r"\w+: \w+ =", r"^(\w+): (\w+) ="), found("# Parameters\n", r"^(\w+) =(.*)")
    for name in injected:
        if name not in declared:
            raise SettingsError(closest(name, declared, "parameter"))
    for name, kind in declared.items():
        if type(names[name]).__name__ != kind:
            raise SettingsError(f"parameter {name!r} is {names[name]!r}: give {kind}")
