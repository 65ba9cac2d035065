r"""The registry: every unlearning method is one file and one line here."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from megu.methods import (
    amnesiac,
    bad_teacher,
    boundary_shrink,
    finetune,
    l1_sparse,
    megu,
    neggrad,
    original,
    projection,
    retrain,
    retrain_head,
    salun,
    scrub,
    ssd,
    unsir,
)
from megu.methods.task import Task
from megu.settings.config import Part
from megu.settings.errors import SettingsError
from megu.settings.values import build, closest, merge, nest

ANY = ("class", "subclass", "random")


@dataclass(frozen=True)
class Method:
    r"""An unlearning method as data.

    Attributes:
        unlearn: function of (`megu.methods.task.Task`, settings) to a new model.
        settings: the method's `megu.settings.config.Part`.
        title: for tables and figures.
        scenarios: that it supports.
        guided: whether it needs the transition matrix.
        preset: dotted settings that make this entry a variant.
        variant_of: the entry whose ``methods.<name>`` settings it takes over before its preset.
        search: setting -> (low, high), what `megu.runs.tune.tune` chooses on a logarithmic scale.
        published: dotted settings that repeat the publication's code, taken with ``preset="paper"``.
        reference: not an unlearning method but what one is compared with; it has no seed of unlearning.
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


RATE = {"recipe.lr": (1e-3, 0.3)}
WHOLE = ("class", "subclass")  # methods that need a label whose images all go


def _published(epochs, lr, batch, optimiser="sgd", **more):
    constant = {"schedule": "constant", "nesterov": False, "weight_decay": 0.0 if optimiser == "adam" else 5e-4}
    return {
        f"recipe.{k}": v
        for k, v in {"epochs": epochs, "lr": lr, "batch": batch, "optimiser": optimiser, **constant}.items()
    } | more


# Defaults: chosen on validation images by `python -m megu tune`, see paper_figures/data/tuning.csv.
METHODS = {
    "original": Method(original.unlearn, original.OriginalSettings, "Original", reference=True),
    "retrain": Method(retrain.unlearn, retrain.RetrainSettings, "Retrain", reference=True),
    "retrain-head": Method(
        retrain_head.unlearn, retrain_head.RetrainHeadSettings, "Retrain, head reset (compat)", reference=True
    ),
    "finetune": Method(
        finetune.unlearn, finetune.FinetuneSettings, "Finetune", search=RATE, published=_published(5, 0.02, 64)
    ),
    "neggrad-plus": Method(
        neggrad.unlearn,
        neggrad.NegGradSettings,
        "NegGrad+",
        search=RATE,
        published=_published(10, 0.01, 128, retain_weight=0.95),
    ),
    "amnesiac": Method(
        amnesiac.unlearn,
        amnesiac.AmnesiacSettings,
        "Amnesiac (random labels)",
        search=RATE,
        published=_published(3, 1e-4, 128, "adam"),
    ),
    "bad-teacher": Method(
        bad_teacher.unlearn,
        bad_teacher.BadTeacherSettings,
        "Bad teacher",
        search=RATE,
        published=_published(1, 1e-4, 256, "adam"),
    ),
    "unsir": Method(
        unsir.unlearn,
        unsir.UnsirSettings,
        "UNSIR",
        WHOLE,
        search={"impair.lr": (1e-4, 0.1), "repair.lr": (1e-4, 0.1)},
        published={"noises": 256, "impair.lr": 0.02, "repair.lr": 0.01},
    ),
    "unsir-ssd": Method(
        unsir.unlearn,
        unsir.UnsirSettings,
        "UNSIR, setting of the SSD code",
        WHOLE,
        preset={
            "noises": 32,
            "copies": 80,
            "noise.steps": 25,
            "impair.lr": 1e-4,
            "impair.batch": 32,
            "repair.lr": 1e-4,
            "repair.batch": 128,
        },
    ),
    "ssd": Method(
        ssd.unlearn,
        ssd.SsdSettings,
        "SSD",
        search={"alpha": (0.5, 100.0), "lam": (0.05, 2.0)},
        published={"alpha": 10.0, "lam": 1.0},
    ),
    "ssd-code": Method(
        ssd.unlearn,
        ssd.SsdSettings,
        "SSD, importance as in the public code (compat)",
        preset={"importance": "batch", "alpha": 7.8, "lam": 0.073},
        search={"alpha": (0.5, 100.0), "lam": (0.05, 2.0)},
        published={"alpha": 10.0, "lam": 1.0},
    ),
    "scrub": Method(
        scrub.unlearn,
        scrub.ScrubSettings,
        "SCRUB + rewind",
        search={"recipe.lr": (1e-4, 0.1), "alpha": (1e-3, 1.0)},
        published={"recipe.lr": 5e-4, "alpha": 0.001},
    ),
    "salun": Method(salun.unlearn, salun.SalunSettings, "SalUn", search=RATE, published=_published(10, 0.013, 256)),
    "projection": Method(
        projection.unlearn,
        projection.ProjectionSettings,
        "Gradient-free projection",
        ("class",),
        search={"alpha_r": (10.0, 3000.0), "alpha_f": (0.3, 100.0)},
        published={"alpha_r": 100.0, "alpha_f": 3.0},
    ),
    "boundary-shrink": Method(
        boundary_shrink.unlearn,
        boundary_shrink.BoundaryShrinkSettings,
        "Boundary shrink",
        search={"recipe.lr": (1e-5, 0.03)},
        published=_published(10, 1e-5, 64),
    ),
    "l1-sparse": Method(
        l1_sparse.unlearn,
        l1_sparse.L1SparseSettings,
        "l1-sparse",
        search={**RATE, "alpha": (1e-6, 1e-3)},
        published=_published(10, 0.01, 256),
    ),
    "megu-random-labels": Method(
        megu.unlearn,
        megu.MeguSettings,
        "MeGU, random labels",
        guided=True,
        preset={"labels.choice": "random"},
        variant_of="megu",
    ),
    "megu-no-noise": Method(
        megu.unlearn, megu.MeguSettings, "MeGU, no noise", guided=True, preset={"noise.kind": "none"}, variant_of="megu"
    ),
    "megu": Method(
        megu.unlearn,
        megu.MeguSettings,
        "MeGU",
        guided=True,
        search={**RATE, "noise.weight_pos": (0.03, 3.0), "noise.weight_neg": (0.03, 3.0)},
    ),
}


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
        raise SettingsError(
            f"method {name!r} does not support forget.scenario {settings.forget.scenario!r}; it supports"
            f" {', '.join(entry.scenarios)}"
        )
    values = merge(
        settings.methods.get(entry.variant_of or "", {}),
        nest({**entry.preset, **(entry.published if settings.preset == "paper" else {})}),
    )
    return build(entry.settings, merge(values, settings.methods.get(name, {})), f"methods.{name}")


def check(settings):
    r"""Raise SettingsError where a method to compare, or a setting of one, does not exist; called before any work."""
    for name in (*settings.methods, *settings.compare):
        method_settings(name, settings)
