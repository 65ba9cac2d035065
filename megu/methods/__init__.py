r"""The registry: every unlearning method is one file and one line here."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from megu.config import Part, SettingsError, build, closest, merge, nest
from megu.methods import finetune, megu, original, random_labels, retrain
from megu.task import Task

ANY = ("class", "subclass", "random")


@dataclass(frozen=True)
class Method:
    r"""An unlearning method as data.

    Attributes:
        unlearn: function of (`megu.task.Task`, settings) to a new model.
        settings: the method's `megu.config.Part`.
        title: for tables and figures.
        scenarios: that it supports.
        guided: whether it needs the transition matrix.
        preset: dotted settings that make this entry a variant.
        variant_of: the entry whose ``methods.<name>`` settings it takes over before its preset.
        search: setting -> (low, high), what `megu.tune.tune` chooses on a logarithmic scale.
    """

    unlearn: Callable[[Task, Part], nn.Module]
    settings: type[Part]
    title: str
    scenarios: tuple[str, ...] = ANY
    guided: bool = False
    preset: dict = field(default_factory=dict)
    variant_of: str | None = None
    search: dict[str, tuple[float, float]] = field(default_factory=dict)


RATE = {"recipe.lr": (1e-3, 0.3)}

# Learning rates and noise weights: chosen on validation images by `python -m megu tune`, see paper_figures/data/tuning.csv.
METHODS = {
    "original": Method(original.unlearn, original.OriginalSettings, "Original"),
    "retrain": Method(retrain.unlearn, retrain.RetrainSettings, "Retrain"),
    "finetune": Method(finetune.unlearn, finetune.FinetuneSettings, "Finetune", search=RATE),
    "random-labels": Method(random_labels.unlearn, random_labels.RandomLabelsSettings, "Random labels", search=RATE),
    "megu-random-labels": Method(
        megu.unlearn, megu.MeguSettings, "MeGU, random labels", guided=True,
        preset={"labels.choice": "random"}, variant_of="megu",
    ),
    "megu-no-noise": Method(
        megu.unlearn, megu.MeguSettings, "MeGU, no noise", guided=True, preset={"noise.kind": "none"}, variant_of="megu",
    ),
    "megu": Method(
        megu.unlearn, megu.MeguSettings, "MeGU", guided=True,
        search={**RATE, "noise.weight_pos": (0.03, 3.0), "noise.weight_neg": (0.03, 3.0)},
    ),
}  # fmt: skip


def method(name):
    r"""The `Method` of a name.  Raises: SettingsError with the nearest name."""
    if name not in METHODS:
        raise SettingsError(closest(name, METHODS, "method"))
    return METHODS[name]


def method_settings(name, settings):
    r"""A method's settings: its defaults, the run's ``methods.<name>`` values, and a variant's preset, in this order.

    Raises: SettingsError for an unknown method or setting, or a scenario that the method does not support.
    """
    entry = method(name)
    if settings.forget.scenario not in entry.scenarios:
        raise SettingsError(f"method {name!r} does not support forget.scenario {settings.forget.scenario!r}; it supports {', '.join(entry.scenarios)}")
    values = merge(settings.methods.get(entry.variant_of or "", {}), nest(entry.preset))
    return build(entry.settings, merge(values, settings.methods.get(name, {})), f"methods.{name}")


def check(settings):
    r"""Raise SettingsError where a method to compare, or a setting of one, does not exist; called before any work."""
    for name in (*settings.methods, *settings.compare):
        method_settings(name, settings)
