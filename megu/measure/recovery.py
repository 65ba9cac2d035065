"""Do the measures find what is there? Entanglement, pattern sets and forgetting on images whose parts are known."""

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from scipy import stats
from torch import nn
from tqdm import tqdm

from megu.core.device import choose, generator
from megu.core.models import accuracy, build, collect_features
from megu.core.splits import Split, split_of
from megu.core.train import fit, predict
from megu.datasets.images import Images
from megu.measure.disentanglement import Before
from megu.measure.known_parts import CLASSES, KINDS, OWNS, PARTS, PartImages, make, owners, reactions, true_overlap
from megu.measure.patterns import DRAWS, EFFECT, LEVEL, Patterns, entanglement_index, moments, patterns
from megu.methods import METHODS, method_settings
from megu.methods.task import Task
from megu.perturbing_labels import transition_matrix
from megu.settings.config import Recipe
from megu.settings.profiles import resolve

Index = Int[torch.Tensor, " n"]
RECIPE = Recipe(epochs=6, batch=64, lr=0.1)
FORGOTTEN = 0  # class A: its disc is unique, its other parts are shared
COMPARED = ("finetune", "amnesiac", "ssd", "scrub", "salun", "megu-random-labels", "megu-no-noise", "megu")
RETAIN = 600  # images of every method, a fifth as elsewhere


def reacting(model: nn.Module, images: Images, part: str) -> Bool[np.ndarray, " d"]:
    """Units that react where a part is drawn into images of its classes that lack it, by more than `EFFECT` standard
    deviations: paired one-sided t-tests, false discovery rate `LEVEL`."""
    change, plain = reactions(model, images, part, owners(part))
    error = np.maximum(change.std(0, ddof=1) / len(change) ** 0.5, 1e-12)
    p = stats.t.sf((change.mean(0) - EFFECT * plain.std(0, ddof=1)) / error, len(change) - 1)
    return stats.false_discovery_control(p) <= LEVEL


def observed(model: nn.Module, data: PartImages, test: Index, part: str) -> Patterns:
    """The same units by observation alone: patterns of images of its classes that show the part against others."""
    index = test[torch.isin(data.images.y[test], torch.as_tensor(owners(part), device=test.device))]
    shown = data.shown[:, PARTS.index(part)].long()
    return patterns(moments(model, data.images, index, y=shown, boot=0, null=20)[None])


def recovery(model: nn.Module, data: PartImages, test: Index, layers=(None,), draws: int = DRAWS) -> pd.DataFrame:
    """Spearman's rank correlation of the entanglement index with the true overlap over the pairs of classes.

    Returns: layer, rho, low, high (95 % over images), null, null_low, null_high (mean and 95 % of permuted labels).
    """
    above = np.triu_indices(len(OWNS), 1)
    overlap, out = true_overlap()[above], []

    def rho(effects):
        return stats.spearmanr(entanglement_index(effects)[above], overlap).statistic

    for layer, found in moments(model, data.images, test, layers, boot=draws, null=draws).items():
        sets = patterns(found)
        boot, null = ([rho(one) for one in many] for many in (sets.boot, sets.null))
        bounds = (np.quantile(many, (0.025, 0.975)) for many in (boot, null))
        out.append((layer or "head input", rho(sets.effects), np.mean(null), *np.concatenate([*bounds])))
    return pd.DataFrame(out, columns=["layer", "rho", "null", "low", "high", "null_low", "null_high"])


def units(model: nn.Module, data: PartImages, test: Index) -> pd.DataFrame:
    """Numbers of units that react to each part by `reacting`, are found by `observed`, both, and found with permuted
    labels (mean): part, kind, owners, reacting, found, both, found_permuted."""
    out = []
    for part, kind in tqdm(KINDS.items(), desc="parts", leave=False):
        truth, sets = reacting(model, data.images, part), observed(model, data, test, part)
        found = sets.serves[1]
        counts = (int(which.sum()) for which in (truth, found, truth & found))
        out.append((part, kind, len(owners(part)), *counts, sets.null_served.mean() / 2))
    return pd.DataFrame(out, columns=["part", "kind", "owners", "reacting", "found", "both", "found_permuted"])


def strength(model: nn.Module, images: Images, part: str) -> float:
    r"""How strongly a model reacts to a part: $\lVert E\,\Delta\phi\rVert / \sqrt{\sum_j \mathrm{Var}\,\phi_j}$, in any
    basis, on images of all classes."""
    change, plain = reactions(model, images, part, range(len(OWNS)), count=100)
    return float(np.linalg.norm(change.mean(0)) / np.sqrt(plain.var(0).sum()))


@dataclass(frozen=True)
class World:
    """Data, split (class A is to be forgotten; validation parts are empty) and original of one seed."""

    data: PartImages
    split: Split
    original: nn.Module

    @property
    def test(self) -> Index:
        """All test images."""
        return torch.cat([self.split.test_retain, self.split.test_forget])


@lru_cache(maxsize=1)
def world(seed: int, recipe: Recipe = RECIPE) -> World:
    """The `World` of a seed, which drives data and original: a small ResNet, trained in tens of seconds."""
    data, compute = make(seed), choose(resolve())
    images, split = data.images, split_of(data.images, data.images.y == FORGOTTEN)
    index, gen = split.train, generator(seed, "parts order")
    model = build("resnet-small", images.num_classes, images.shape, seed, "parts")
    fit(model, lambda i: (images.batch(index[i]), images.y[index[i]]), len(index), recipe, gen, compute, label="parts")
    return World(data, split, model)


def forgetting(here: World, seed: int, names=("original", "retrain", *COMPARED), asked=PARTS):
    """Forget class A by several methods, guided by the true overlap: are its unique parts gone and its shared parts
    intact, and does the disentanglement score say so?

    Returns: method; unique, shared, other: mean `strength` of these of the parts ``asked`` over that of the original;
        acc_forget, acc_retain (test, percent); suppressed, kept, score of `megu.measure.disentanglement`, aligned.
    """
    images, split, settings = here.data.images, here.split, resolve()
    guided = transition_matrix(true_overlap() + 0.01)
    how = (guided, RETAIN, "resnet-small", RECIPE, seed, choose(settings))
    task = Task(here.original, images, split, (FORGOTTEN,), *how)
    before = Before(images, split, partial(collect_features, here.original, images), draws=1)
    group = {part: "shared" if len(owners(part)) > 1 else "unique" for part in CLASSES["A"]}

    def strengths(model):
        return pd.Series({part: strength(model, images, part) for part in asked})

    usual, out = strengths(here.original), []
    for name in tqdm(names, desc=f"seed {seed}", leave=False):
        model = METHODS[name].unlearn(task, method_settings(name, settings))
        left = (strengths(model) / usual).groupby(lambda part: group.get(part, "other")).mean()
        tested = {"acc_forget": split.test_forget, "acc_retain": split.test_retain}
        tested = {key: accuracy(predict(model, images, at), images.y[at]) for key, at in tested.items()}
        aligned = before.scores(partial(collect_features, model, images), in_place=False)["aligned"]
        out.append({"method": name, **left, **tested, **{key: value[0] for key, value in aligned.items()}})
    return pd.DataFrame(out)
