r"""The models of the paper's grid, and a selection of them."""

from collections.abc import Sequence

from megu.runs.models import REFERENCES
from megu.runs.spec import Spec, dotted, specs_of
from megu.settings.cells import CELLS
from megu.settings.errors import SettingsError
from megu.settings.values import closest

FIELDS = ("data", "arch", "scenario", "forget", "method", "seed", "repeat")
# Settings that the paper's grid itself gives
CELL = ("data.name", "arch", "forget.", "compare", "seeds", "repeats", "shadows")


def paper_grid(
    profile: str = "paper", only: Sequence[str] = (), seeds: int = 2, repeats: int = 1, changes: dict | None = None
) -> list[Spec]:
    r"""The specs of a profile's grid in `megu.settings.cells.CELLS`, references of a cell first.

    Args:
        only: selections such as ``"data=cifar10,method=megu|ssd"``: all conditions of any of them; none selects
            everything.  `REFERENCES` of what is selected come along.
        seeds, repeats: of pre-training, and of unlearning for each.
        changes: see `specs_of`.
    Raises: SettingsError for an unknown field, value or setting, or where nothing is selected.
    """
    if profile not in CELLS:
        raise SettingsError(closest(profile, CELLS, "profile"))
    for name in dotted(changes or {}):
        if name.startswith(CELL):
            how = "choose a grid's cells and seeds by --only, --seeds and --repeats, or use `megu run`"
            raise SettingsError(f"--set {name}: {how}")
    specs = [s for c in CELLS[profile] for s in specs_of(profile, c, c.methods, range(seeds), repeats, changes)]
    wanted = [_conditions(text, specs) for text in only]
    chosen = {s for s in specs if not only or any(all(_value(s, n) in v for n, v in one.items()) for one in wanted)}
    if not chosen:
        raise SettingsError(f"--only {' --only '.join(only)} selects nothing of the grid of profile {profile!r}")
    cells = {(spec.cell, spec.seed) for spec in chosen}
    return [s for s in specs if s in chosen or (s.method in REFERENCES and (s.cell, s.seed) in cells)]


def _conditions(text, specs):
    # field -> values
    out = {}
    for part in text.split(","):
        name, equals, values = part.strip().partition("=")
        if not equals:
            raise SettingsError(f"--only {text!r}: {name!r} has no '=': write field=value or field=value|value,...")
        name = name.strip()
        if name not in FIELDS:
            raise SettingsError(closest(name, FIELDS, f"--only {text!r}: the field"))
        known = dict.fromkeys(_value(spec, name) for spec in specs)
        for value in (values := [one.strip() for one in values.split("|")]):
            if value not in known:
                raise SettingsError(closest(value, known, f"--only {text!r}: the {name}"))
        out[name] = [value for value in values if value in out.get(name, values)]
    return out


def _value(spec, name):
    return str(spec.about["dataset" if name == "data" else name])
