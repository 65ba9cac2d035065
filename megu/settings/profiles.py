r"""Profiles: named sets of values, never a code path; and the settings of a run made from one."""

from megu.settings.class_names import known_names
from megu.settings.config import Settings
from megu.settings.errors import SettingsError
from megu.settings.values import build, check_class_names, closest, merge, nest

# Pre-training as in the public code that the paper follows (A13).
_CIFAR_TRAINING = {
    "training.batch": 64,
    "training.lr": 0.1,
    "training.schedule": "multistep",
    "training.nesterov": False,
    "training.warmup_epochs": 1.0,
    "training.augment.crop": 4,
    "training.augment.rotate": 15.0,
}

PROFILES = {
    # Embedded Fashion images, small ResNet, two CPU cores; MeGU's values were chosen on validation images.  One thread
    # in each process: a run, the comparison and the ablation give the same bits whatever the number of cores.
    "quick": {"threads": 1},
    # Real CIFAR from the user's copy, whole or a subset; one small GPU or a patient CPU.
    "small": {
        "data.name": "cifar10",
        "forget.classes": ["cat"],
        "training.epochs": 20,
        "training.augment.crop": 4,
        "retain_images": 8000,
        "guide.exemplars": 8,
    },
    # The paper's first cell: CIFAR-100, ResNet-18, rocket; baselines as published.
    "paper": {
        "data.name": "cifar100",
        "arch": "resnet18",
        "forget.classes": ["rocket"],
        **_CIFAR_TRAINING,
        "retain_images": 10_000,
        "guide.exemplars": 8,
        "methods.megu.recipe.epochs": 3,
        "preset": "paper",
        "methods.retrain-head.recipe.schedule": "multistep",
        "methods.retrain-head.recipe.batch": 64,
    },
}


def _multistep(epochs, *milestones):
    # The public code's "retrain" takes the epochs and milestones of its pre-training, but counts from 0 as we do; its
    # pre-training counts from 1.
    recipes = {"training": [epoch - 1 for epoch in milestones], "methods.retrain-head.recipe": list(milestones)}
    return {
        f"{recipe}.{name}": value
        for recipe, drops in recipes.items()
        for name, value in (("epochs", epochs), ("milestones", drops))
    }


def _dampening(alpha):
    return {"methods.ssd.alpha": alpha, "methods.ssd-code.alpha": alpha}


_TINY_VIT = {
    "training.optimiser": "adam",
    "training.lr": 1e-3,
    "training.weight_decay": 0.0,
    "methods.megu.recipe.lr": 0.005,
}
RECIPES = (  # (profile, data, network, scenario), None for any -> what differs from the profile there
    (("small", "cifar20", "resnet-small", None), {"training.epochs": 12}),
    (("small", "cifar100", "resnet-small", None), {"training.epochs": 12}),
    (("small", None, "vit-tiny", None), {**_TINY_VIT, "training.epochs": 5}),
    (("small", "cifar10", "vit-tiny", None), {"training.epochs": 8}),
    (("paper", "cifar10", "resnet18", None), _multistep(20, 8, 12, 16)),
    (("paper", "cifar20", "resnet18", None), _multistep(40, 15, 30, 35)),
    (("paper", "cifar100", "resnet18", None), _multistep(200, 60, 120, 160)),
    # The public code leaves a ViT's rate to its user: 0.01 is ours, for a pretrained net (A13).
    (("paper", None, "vit-b16", None), {**_multistep(8, 7), "training.lr": 0.01, "methods.megu.recipe.epochs": 5}),
    (("paper", "cifar20", "vit-b16", None), _multistep(9, 8)),
    (("paper", None, "vit-b16", None), {"methods.bad-teacher.recipe.batch": 128}),
    # Batches and noise steps of the public code in two of its scenarios.
    (("paper", None, None, "random"), {"methods.finetune.recipe.batch": 128, "methods.retrain-head.recipe.batch": 128}),
    ((None, None, None, "random"), {"methods.ssd-code.batch": 128}),  # repeats that code in every profile
    (("paper", None, None, "subclass"), {"methods.unsir-ssd.noise.steps": 250}),
    (("paper", None, "vit-b16", "class"), _dampening(5.0)),
    (("paper", None, "vit-b16", "subclass"), _dampening(25.0)),
)


def _recipe(profile, named):
    """The values of `RECIPES` that fit a profile and nested settings; where several do, later ones win."""
    usual = Settings().model_dump()
    chosen = merge({key: usual[key] for key in ("data", "arch", "forget")}, named)
    asked = (profile, chosen["data"].get("name"), chosen["arch"], chosen["forget"].get("scenario"))
    out = {}
    for condition, values in RECIPES:
        if all(wanted in (None, own) for wanted, own in zip(condition, asked, strict=True)):
            out = merge(out, nest(values))
    return out


def resolve(profile="quick", seed=0, overrides=None):
    r"""The settings of a run from a profile's name, a seed and the values that the user wants otherwise.

    Args:
        profile: ``quick``, ``small`` or ``paper``; its values, then those of `RECIPES` for the data and the network.
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
            raise SettingsError(
                f"overrides has {name!r}, which is a parameter of its own: give it as {name}={overrides[name]!r}"
                " instead"
            )
    overrides = nest(overrides or {})
    build(Settings, overrides)  # refuses a wrong name or value before the recipes are looked up by them
    chosen = merge(nest(PROFILES[profile]), overrides)
    chosen = merge(merge(nest(PROFILES[profile]), _recipe(profile, chosen)), overrides)
    settings = build(Settings, merge(chosen, {"profile": profile, "seed": seed}))
    names, coarse = known_names(settings.data.name)
    known = (
        tuple(dict.fromkeys(coarse))
        if settings.data.name == "cifar20" and settings.forget.scenario == "class"
        else names
    )
    if known and settings.forget.scenario != "random":
        check_class_names(settings.forget.classes, known, settings.data.name)
    return settings
