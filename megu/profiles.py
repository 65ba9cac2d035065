r"""Profiles: named sets of values, never a code path; and the settings of a run made from one."""

from megu.classes import known_names
from megu.config import Settings
from megu.values import SettingsError, build, check_class_names, closest, merge, nest

_CIFAR_TRAINING = {
    "training.batch": 64, "training.lr": 0.1, "training.schedule": "multistep", "training.nesterov": False, "training.warmup_epochs": 1.0,
    "training.augment.crop": 4, "training.augment.rotate": 15.0,
}  # fmt: skip

PROFILES = {
    # Embedded Fashion images, small ResNet, two CPU cores.  MeGU's values were chosen on validation images: README, "Tuning".
    "quick": {},
    # Real CIFAR-10 from the user's copy, one small GPU or a patient CPU.
    "small": {
        "data.name": "cifar10", "forget.classes": ["cat"], "training.epochs": 20,
        "training.augment.crop": 4, "retain_images": 8000,
    },
    # The paper's first cell: CIFAR-100, ResNet-18, rocket; recipe of the public SSD code (A13).
    "paper": {
        "data.name": "cifar100", "arch": "resnet18", "forget.classes": ["rocket"], **_CIFAR_TRAINING,
        "training.epochs": 200, "training.milestones": [60, 120, 160], "retain_images": 10_000,
        "guide.exemplars": 8, "methods.megu.recipe.epochs": 3,
    },
}  # fmt: skip


def resolve(profile="quick", seed=0, overrides=None):
    r"""The settings of a run from a profile's name, a seed and the values that the user wants otherwise.

    Args:
        profile: ``quick``, ``small`` or ``paper``.
        seed: non-negative integer; the repetitions use seed, seed + 1, ...
        overrides: dictionary, dotted or nested, e.g. ``{"forget.classes": ["sandal"], "methods.megu.noise.lam": 0.2}``.
    Raises: SettingsError for an unknown profile, setting or class name, or a value out of range.
    """
    if profile not in PROFILES:
        raise SettingsError(closest(profile, PROFILES, "profile"))
    if not isinstance(overrides, dict | None):
        raise SettingsError(f"overrides is {overrides!r}: give a dictionary such as {{'forget.classes': ['sandal']}}")
    for name in ("profile", "seed"):
        if name in (overrides or {}):
            raise SettingsError(f"overrides has {name!r}, which is a parameter of its own: give it as {name}={overrides[name]!r} instead")
    chosen = merge(nest(PROFILES[profile]), nest(overrides or {}))
    settings = build(Settings, merge(chosen, {"profile": profile, "seed": seed}))
    names, coarse = known_names(settings.data.name)
    known = tuple(dict.fromkeys(coarse)) if settings.data.name == "cifar20" and settings.forget.scenario == "class" else names
    if known and settings.forget.scenario != "random":
        check_class_names(settings.forget.classes, known, settings.data.name)
    return settings
