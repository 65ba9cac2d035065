r"""The registry of methods, and the settings of each in a run."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from megu.datasets.images import Images
from megu.methods.task import Task
from megu.settings.config import Part
from megu.settings.errors import SettingsError
from megu.settings.values import build, closest, merge, nest

ANY = ("class", "subclass", "random")
WHOLE = ("class", "subclass")  # methods that need a label whose images all go
RATE = {"recipe.lr": (1e-3, 0.3)}


@dataclass(frozen=True)
class Method:
    r"""An unlearning method as data.

    Attributes:
        unlearn: function of (task, settings) to a new model.
        title: for tables and figures.
        guided: whether it needs the transition matrix.
        preset: dotted settings of a variant.
        variant_of: entry whose settings in a run come before the preset.
        search: setting -> (low, high), tried on a logarithmic scale by `megu.runs.tune.tune`.
        published: settings of the publication's code, for ``preset="paper"``.
        reference: what methods are compared with; it has no seed of unlearning.
        fits: function of original and images that raises SettingsError where the method can do nothing with it.
    """

    unlearn: Callable[[Task, Part], nn.Module]
    settings: type[Part]
    title: str
    scenarios: tuple[str, ...] = ANY
    guided: bool = False
    preset: dict = field(default_factory=dict)
    variant_of: str | None = None
    search: dict[str, tuple[float, float]] = field(default_factory=dict)
    published: dict = field(default_factory=dict)
    reference: bool = False
    fits: Callable[[nn.Module, Images], object] = lambda model, images: None


METHODS: dict[str, Method] = {}  # in the order of tables and figures


def register(name: str, title: str, **about) -> Callable:
    r"""Decorator of ``unlearn(task, settings: Part)``, see `Method`; of two on one function the lower comes first in
    tables."""

    def enter(unlearn):
        _, settings = inspect.signature(unlearn, eval_str=True).parameters.values()
        METHODS[name] = Method(unlearn, settings.annotation, title, **about)
        return unlearn

    return enter


def published(epochs: int, lr: float, batch: int, optimiser: str = "sgd", **more) -> dict:
    r"""Settings of a published recipe: constant rate, no Nesterov momentum, decay for SGD, a last batch of the rest."""
    recipe = {"epochs": epochs, "lr": lr, "batch": batch, "optimiser": optimiser, "schedule": "constant", "cut": "rest"}
    return {"recipe": {**recipe, "nesterov": False, "weight_decay": 0.0 if optimiser == "adam" else 5e-4}, **more}


def method(name: str) -> Method:
    r"""The `Method` of a name.  Raises: SettingsError with the nearest name."""
    if name not in METHODS:
        raise SettingsError(closest(name, METHODS, "method"))
    return METHODS[name]


def method_settings(name: str, settings, where: str = "methods.{}") -> Part:
    r"""A method's settings, later ones over earlier: its defaults, the preset, the run's ``methods.<name>`` values.

    A variant's come over those of the entry that it is a variant of.  ``where``: what stands before their names in
    messages.

    Raises: SettingsError for an unknown method or setting, or a scenario that the method does not support.
    """
    entry, scenario = method(name), settings.forget.scenario
    if scenario not in entry.scenarios:
        what = f"method {name!r} does not support forget.scenario {scenario!r}"
        raise SettingsError(f"{what}; it supports {', '.join(entry.scenarios)}")
    values = {}
    for key, preset in ((entry.variant_of, {}), (name, entry.preset)):
        if key:
            published = METHODS[key].published if settings.preset == "paper" else {}
            values = merge(merge(values, nest({**preset, **published})), settings.methods.get(key, {}))
    return build(entry.settings, values, where.format(name))


def check(settings) -> None:
    r"""Raise SettingsError where a method to compare, or a setting of one, does not exist."""
    for name in (*settings.methods, *settings.compare):
        method_settings(name, settings)
