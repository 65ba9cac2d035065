r"""Settings of a run, checked before any work."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from megu.settings.files import hash_weights
from megu.settings.machine import Address, LocalPath, Weights, absolute, from_environment
from megu.settings.values import merge

Fraction = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Source = Literal[
    "composed", "tiny", "features", "names", "llm-names", "posterior", "confusion",
    "own-features", "shuffled", "clip", "mllm", "served", "replay",
]  # fmt: skip


def _kinds(annotation):
    """The types that an annotation is made of."""
    inner = get_args(annotation)
    return [kind for one in inner for kind in _kinds(one)] if inner else [annotation]


class Part(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A frozen group of settings."""

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value, info):
        kinds = _kinds(cls.model_fields[info.field_name].annotation)
        truth = any(isinstance(one, bool) for one in (value if isinstance(value, list | tuple) else [value]))
        if truth and (int in kinds or float in kinds) and not (bool in kinds or Any in kinds):
            raise ValueError("give a number")
        return value


def _no_path(model):
    if os.path.isabs(model) or model.startswith((".", "~")) or "\\" in model:
        raise ValueError("a path would be recorded: set guide.path, or the server's name of its model")
    return model


class Data(Part):
    """The images.  ``path`` is recorded nowhere."""

    name: Literal["fashion-mini", "cifar10", "cifar20", "cifar100", "folder", "npz"] = "fashion-mini"
    path: LocalPath = None
    source: Literal["torchvision", "hub"] = "torchvision"
    size: Count | None = None
    validation: Annotated[float, Field(gt=0, lt=0.5)] = 0.1


class Original(Part):
    """A .safetensors file in place of every seed's original; ``sha256`` is recorded."""

    path: LocalPath = None
    sha256: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _hashed(cls, values):
        if not isinstance(values, dict):
            raise ValueError("not a group of settings: set original.path")
        path = absolute(values.get("path"))
        if path and not Path(path).is_file():
            raise ValueError(f"{Path(path).name!r} does not exist: set original.path to a .safetensors file")
        return {**values, "path": path, "sha256": hash_weights(path) if path else None}


class Augment(Part):
    """Random crop after padding (px; ``padding``: black, or the image reflected), horizontal flip (``alternate``: of
    one half of the images in even epochs, of the other in odd ones), rotation (degrees either way)."""

    crop: CountOrZero = 2
    padding: Literal["black", "reflection"] = "black"
    flip: bool | Literal["alternate"] = True
    rotate: Weight = 0.0


class Recipe(Part):
    """One training.

    ``cut``: batches equal up to one, so that no image weighs more than others, or all of ``batch`` but the last, which
    holds the rest (public code).  ``lr``: the largest of the schedule; of the biases of batch normalisation
    ``norm_bias_lr`` times that.  ``lookahead``: steps between two of `megu.core.optimiser.look_ahead`, 0 for none.
    """

    epochs: Count = 10
    batch: Count = 128
    cut: Literal["equal", "rest"] = "equal"
    optimiser: Literal["sgd", "adam"] = "sgd"
    lr: Positive = 0.2
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: Weight = 5e-4
    norm_bias_lr: Positive = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    lookahead: CountOrZero = 0
    schedule: Literal["constant", "onecycle", "multistep", "triangular"] = "onecycle"
    warmup_epochs: Weight = 0.0
    milestones: tuple[int, ...] = ()
    gamma: Fraction = 0.2
    augment: Augment | None = None

    def batches(self, count: int) -> list[int]:
        """Images in each batch of an epoch over ``count``."""
        if self.cut == "rest":
            return [min(self.batch, count - start) for start in range(0, count, self.batch)]
        size, larger = divmod(count, parts := max(1, round(count / self.batch)))
        return [size + (i < larger) for i in range(parts)]


class Forget(Part):
    """Classes, classes inside a superclass, or ``count`` random training images."""

    scenario: Literal["class", "subclass", "random"] = "class"
    classes: tuple[str, ...] = ("shirt",)
    count: Count = 100


class Guide(Part):
    """Who is asked which concepts are alike.  A1: ``exemplars`` per class, drawn by ``exemplar_seed``.

    ``calibration``: scores centred by candidate label; less those of an empty grey image; or as they are.
    ``answers``: a JSON lines file for several runs.  ``shots``: worked examples.
    ``model``, ``revision``: of mllm (hub id, commit), clip (open_clip architecture, tag) or served (name, any note).
    ``path``: local weights instead; of replay an answers file, whose guide they name.
    mllm: ``batch`` of questions; ``dtype``, ``device_map`` of transformers; ``reuse`` of what questions share.
    served: ``url``, ``timeout`` (s), ``repeats`` where it gives no log-probabilities.
    """

    source: Source = "composed"
    exemplars: Count = 20
    exemplar_seed: int = 0
    calibration: Literal["column", "content-free", "none"] = "column"
    answers: LocalPath = None
    model: Annotated[str, AfterValidator(_no_path)] = ""
    revision: str | None = None
    path: LocalPath = None
    shots: Literal[0, 2] = 2
    batch: Count = 16
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    device_map: str | None = None
    reuse: bool = True
    url: Address = None
    concurrency: Count = 8
    timeout: Positive = 60.0
    retries: CountOrZero = 4
    repeats: Count = 10


class Labels(Part):
    """Perturbing labels (eq. 7-8).  A2: ``exclude_forgotten``; A12: a ``choice`` other than rank is a control."""

    choice: Literal["rank", "nearest", "farthest", "random", "posterior"] = "rank"
    tau: Fraction = 0.3
    exclude_forgotten: bool = True


class Noise(Part):
    """The noise pair (eq. 9-12), joined as ``scale`` (alpha N_pos + (1 - alpha) N_neg); the paper: alpha 0.7, scale 1.

    A6: lam, steps, lr; A7: per; A8: around; A9: combine; A10: alpha; A14: mode; A15: scale, lam; A16: forget_items
    (checked: the clean ones as well where, without them, the new model `remembers`).
    """

    kind: Literal["both", "pos", "neg", "random", "none"] = "both"
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.39 / 1.89
    scale: Weight = 1.89
    lam: Weight = 0.1
    steps: Count = 40
    lr: Positive = 0.1
    per: Literal["class", "image"] = "class"
    around: Literal["nothing", "image"] = "nothing"
    mode: Literal["eval", "train"] = "eval"
    combine: Literal["add", "mix", "separate"] = "add"
    forget_items: Literal["noised", "both", "checked"] = "checked"

    @property
    def weights(self) -> tuple[float, float]:
        """Of N_pos and of N_neg (eq. 11); 0 for what ``kind`` leaves out."""
        pos, neg = self.scale * self.alpha, self.scale * (1 - self.alpha)
        return pos * (self.kind not in ("neg", "none")), neg * (self.kind not in ("pos", "none"))

    @model_validator(mode="after")
    def _fits_together(self):
        if self.around == "image" and self.per == "class":
            raise ValueError("around='image' is one noise per forget image: set per='image' as well")
        if self.combine == "mix" and self.scale > 1:
            raise ValueError("combine='mix' keeps 1 - scale of the image: set scale to at most 1")
        return self


class Settings(Part):
    """What a run depends on; ``$MEGU_*``: `megu.settings.machine.NAMES`.

    ``preset``: methods as tuned on validation images, or as published; ``methods``: what differs from that.
    ``repeats``: seeds of unlearning per seed of pre-training.  ``shadows``: models of the likelihood-ratio attack.
    ``threads``: 0 for all cores; they change the last digits.  ``weights``: see `megu.core.weights.find`.
    ``autocast``, ``compile``, ``deterministic``, ``tf32``: see `megu.core.device.Compute`.
    """

    profile: str = "quick"
    seed: CountOrZero = 0
    seeds: Count = 3
    repeats: Count = 1
    shadows: CountOrZero = 0
    device: str = "auto"
    threads: CountOrZero = 0
    autocast: Literal["auto", "on", "off"] = "auto"
    compile: bool = False
    deterministic: bool = True
    tf32: bool = False
    data: Data = Data()
    original: Original = Original()
    arch: Literal["resnet-small", "resnet18", "airbench", "airbench-wide", "vit-tiny", "vit-b16"] = "resnet-small"
    weights: Weights = None
    training: Recipe = Recipe(augment=Augment())
    forget: Forget = Forget()
    guide: Guide = Guide()
    retain_images: Count = 1600
    compare: tuple[str, ...] = ("finetune", "amnesiac", "megu-random-labels", "megu-no-noise", "megu")
    preset: Literal["tuned", "paper"] = "tuned"
    methods: dict[str, dict[str, Any]] = {}

    @model_validator(mode="before")
    @classmethod
    def _of_this_machine(cls, values):
        return merge(from_environment(), values)

    @property
    def label_level(self):
        """What the classifier names: ``superclass`` or ``class``."""
        return "superclass" if self.forget.scenario == "subclass" or self.data.name == "cifar20" else "class"

    @property
    def seed_list(self):
        """The seeds of the repetitions."""
        return tuple(range(self.seed, self.seed + self.seeds))
