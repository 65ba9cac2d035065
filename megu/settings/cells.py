r"""The cells of the paper's tables, and what the ablation changes."""

from dataclasses import dataclass, replace

CLASSES = ("finetune", "unsir", "amnesiac", "ssd", "megu")  # the paper's columns
SAMPLES = ("finetune", "amnesiac", "ssd", "bad-teacher", "megu")
ABLATION = ("megu-no-noise", "megu-random-labels")
PRINTED = ("megu-printed", "megu-printed-random-labels", "megu-no-noise-random-labels")  # eq. 11, and a control each
PUBLIC_CODE = {"retrain": "retrain-head", "unsir": "unsir-ssd", "ssd": "ssd-code"}  # what it calls by these names


@dataclass(frozen=True)
class Cell:
    r"""One forgetting request on one classifier.

    Attributes:
        forget: names of the (sub-)classes; empty for random images.
        tables: of the paper that show it.
        more: methods that none of them has.
    """

    data: str
    arch: str
    scenario: str
    forget: tuple[str, ...]
    tables: tuple[int, ...] = ()
    more: tuple[str, ...] = ()

    @property
    def request(self):
        """What is forgotten, as in the tables."""
        return "+".join(self.forget) or "100 images"

    @property
    def methods(self):
        """Names of the references, the paper's methods and the public code's variants."""
        compared = SAMPLES if self.scenario == "random" else CLASSES
        names = ("original", "retrain", *compared, *(ABLATION if 6 in self.tables else ()))
        names += tuple(name for name in self.more if name not in names)
        return names + tuple(code for name, code in PUBLIC_CODE.items() if name in names)

    def overrides(self):
        """Dotted settings that make a run this cell."""
        what = {"forget.classes": list(self.forget)} if self.forget else {"forget.count": 100}
        return {"data.name": self.data, "arch": self.arch, "forget.scenario": self.scenario, **what}


def _of(data, scenario, tables, *names):
    return tuple(Cell(data, "resnet18", scenario, (name,), tables) for name in names)


MAIN = (
    *_of("cifar100", "class", (1, 6), "rocket", "mushroom"),
    *_of("cifar20", "class", (2,), "vehicles 2", "fruit and vegetables"),
    *_of("cifar20", "subclass", (3,), "rocket", "sea"),
    Cell("cifar10", "resnet18", "random", (), (4,)),
)
APPENDIX = (
    *_of("cifar100", "class", (7,), "baby", "lamp", "sea", "dinosaur", "wolf"),
    *_of("cifar20", "subclass", (8,), "beetle", "snail", "whale", "fox", "skyscraper"),
)


def _on(cells, arch, *more):
    return tuple(replace(cell, arch=arch, more=more) for cell in cells)


_CAT = _of("cifar10", "class", (), "cat")  # not in the paper
CELLS = {  # profile -> its cells
    "quick": tuple(
        Cell("fashion-mini", "resnet-small", scenario, forget)
        for scenario, forget in (("class", ("shirt",)), ("subclass", ("shirt",)), ("random", ()))
    ),
    "small": (
        *_on((*_CAT, *MAIN, *APPENDIX), "resnet-small", "megu-no-noise", "megu-printed"),
        *_on((*_CAT, *MAIN), "vit-tiny"),
    ),
    "fast": tuple(cell for arch in ("airbench-wide", "airbench") for cell in _on(MAIN, arch, *ABLATION, *PRINTED)),
    "paper": (*MAIN, *_on(MAIN, "vit-b16"), *APPENDIX),
}


def _each(title, name, *values):
    return {title.format(value): {name: value} for value in values}


_PAPER = {"noise.alpha": 0.7, "noise.scale": 1.0}  # eq. 11
_GUIDES = ("tiny", "features", "names", "posterior", "confusion", "own-features", "shuffled")  # the default is composed
_POINTS = {
    "A2": {"forgotten class may be chosen": {"labels.exclude_forgotten": False}},
    "A6": _each("lambda {:g}", "noise.lam", 0.01, 1.0) | _each("{} steps", "noise.steps", 10, 160),
    "A7": {"one noise per image": {"noise.per": "image"}},
    "A8": {"image + noise optimised": {"noise.per": "image", "noise.around": "image"}},
    "A9": {
        "convex mix": {"noise.combine": "mix", "noise.alpha": 0.5, "noise.scale": 0.6},
        "separate items": {"noise.combine": "separate"},
    },
    "A10": {
        f"weights {pos}, {neg}": {"noise.alpha": pos / (pos + neg), "noise.scale": pos + neg}
        for pos, neg in ((0.13, 0.5), (1.2, 4.5))
    }
    | {"eq. 11": _PAPER},
    "A14": {"noise learnt in train mode": {"noise.mode": "train"}},
    "A15": {f"eq. 11, lambda {lam:g}": _PAPER | {"noise.lam": lam} for lam in (1.0, 10.0)},
    "A16": {"not checked": {}, "clean images too": {"noise.forget_items": "both"}},
    "noise": _each("{}", "noise.kind", "none", "pos", "neg", "random"),
    "A12": _each("labels: {}", "labels.choice", "random", "nearest", "farthest", "posterior")
    | _each("guide: {}", "guide.source", *_GUIDES),
    "tau": _each("tau {:g}", "labels.tau", 0.1, 0.5, 0.8),
    "budget": {
        f"{images:,} retain images, epochs: {epochs}": {"retain_images": images, "recipe.epochs": epochs}
        for images in (400, 1600, 6400)
        for epochs in (1, 2, 3)
    },
}
STRENGTHS = (1, 3, 10, 30)  # epochs of an original: the last is sure of its images
_PAIRS = {f"lambda {lam:g}": _PAPER | {"noise.lam": lam} for lam in (0.01, 0.1, 1.0, 10.0, 100.0)}
_PAIRS |= {f"scale {scale:g}": _PAPER | {"noise.lam": 0.1, "noise.scale": scale} for scale in (0.5, 2.0)}
_PAIRS |= {"no noise": {"noise.kind": "none"}}
MECHANISM = {  # variant of the pair of eq. 11 and of the labels -> what it changes in MeGU
    f"{pair}, {labels}": {"noise.forget_items": "noised", "labels.choice": choice} | values
    for pair, values in _PAIRS.items()
    for labels, choice in (("guided", "rank"), ("random labels", "random"))
}
# Point of the assumption log -> variant -> what it changes in MeGU: one thing, and that nothing is mended afterwards.
ABLATIONS = {"default": {"as tuned": {}}} | {
    point: {name: {"noise.forget_items": "noised"} | values for name, values in variants.items()}
    for point, variants in _POINTS.items()
}
