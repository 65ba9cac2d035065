r"""How many images each method sends through the network, and what that costs in operations."""

from collections.abc import Callable
from dataclasses import dataclass

from megu.settings.errors import SettingsError


@dataclass(frozen=True)
class Sizes:
    r"""Numbers of images: ``forget`` and ``retain`` of the request, ``sample`` of the retain images that methods
    fine-tune on, ``labels`` of the classifier that forget images have, ``classes`` K, ``barred`` of them that no
    perturbing label may be (the forgotten ones)."""

    forget: int
    retain: int
    sample: int
    labels: int
    classes: int
    barred: int = 0


@dataclass(frozen=True)
class Work:
    r"""Passes of single images through the network.

    Attributes:
        trained: forward, and backward to the weights: three forward passes' operations.
        noised: forward, and backward to the image alone: two.
        seen: forward.
    """

    trained: int = 0
    noised: int = 0
    seen: int = 0

    def flops(self, forward):
        r"""$(3\,trained + 2\,noised + seen)\,f$ for f operations of one forward pass."""
        return (3 * self.trained + 2 * self.noised + self.seen) * forward


def _noises(s, noise):
    """Noises of the pair at most: of each forget image, or of each label that is chosen and each that goes."""
    pair = (s.forget, s.forget) if noise.per == "image" else (min(s.classes - s.barred, s.forget), s.labels)
    return 0 if noise.kind == "none" else sum(pair) * noise.steps


def _megu(s, p):
    return Work((s.forget + s.sample) * p.recipe.epochs, _noises(s, p.noise), s.forget)


def _unsir(s, p):
    noises = p.noises * s.labels
    return Work((s.sample + noises * p.copies) * p.impair.epochs + s.sample * p.repair.epochs, noises * p.noise.steps)


def _ssd(s, p):
    if p.importance == "batch":
        return Work(2 * s.forget + s.retain)
    return Work(2 * min(p.images, s.forget) + min(p.images, s.retain))


WORK: dict[str, Callable] = {  # method -> function of (`Sizes`, its settings)
    "original": lambda s, p: Work(),
    "retrain-head": lambda s, p: Work(s.retain * p.recipe.epochs),
    "finetune": lambda s, p: Work(s.sample * p.recipe.epochs),
    "amnesiac": lambda s, p: Work((s.sample + s.forget) * p.recipe.epochs),
    "bad-teacher": lambda s, p: Work((s.sample + s.forget) * p.recipe.epochs, seen=s.sample + s.forget),
    **dict.fromkeys(("unsir", "unsir-ssd"), _unsir),
    **dict.fromkeys(("ssd", "ssd-code"), _ssd),
    **dict.fromkeys(("megu", "megu-random-labels", "megu-no-noise"), _megu),
}


def work(name, sizes, parameters, training):
    r"""The `Work` of a method of the paper.

    Args:
        name: in `megu.methods.METHODS`, or ``pre-training``, the original's.  sizes: `Sizes`.
        parameters: the method's settings.  training: `megu.settings.config.Recipe` of original and retrained model.
    Raises: SettingsError for a method that the paper does not have.
    """
    if name in ("pre-training", "retrain"):
        return Work((sizes.retain + (sizes.forget if name == "pre-training" else 0)) * training.epochs)
    if name not in WORK:
        raise SettingsError(f"the work of method {name!r} is not modelled: it is not one of the paper's")
    return WORK[name](sizes, parameters)
