r"""Do the measures find what is there? Entanglement, pattern sets and forgetting on images whose parts are known
(`megu.measure.known_parts`)."""

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from scipy import stats
from torch import nn
from tqdm import tqdm

from megu.core.device import Compute, choose
from megu.core.splits import Split
from megu.core.train import predict
from megu.datasets.images import Images
from megu.measure import known_parts
from megu.measure.disentanglement import Before
from megu.measure.outputs import collect_features
from megu.measure.patterns import DRAWS, EFFECT, LEVEL, Patterns, entanglement_index, moments, patterns
from megu.methods import METHODS, method_settings
from megu.methods.task import Task
from megu.perturbing_labels import transition_matrix
from megu.settings.profiles import resolve

Index = Int[torch.Tensor, " n"]
FORGOTTEN = 0  # class A: its disc is unique, its other parts are shared
COMPARED = ("finetune", "amnesiac", "ssd", "scrub", "salun", "megu-random-labels", "megu-no-noise", "megu")
TRAIN, RETAIN = 3000, 600  # training images; retain images of every method, a fifth as elsewhere


def reacting(model: nn.Module, images: Images, part: str, effect=EFFECT, level=LEVEL) -> Bool[np.ndarray, " d"]:
    r"""Units that react to a part, by intervention: the part is drawn into images of its classes that lack it.

    Paired one-sided t-test of each unit for a change larger than ``effect`` standard deviations, false discovery rate
    ``level``.
    """
    change, plain = known_parts.reactions(model, images, part, known_parts.owners(part))
    error = np.maximum(change.std(0, ddof=1) / len(change) ** 0.5, 1e-12)
    p = stats.t.sf((change.mean(0) - effect * plain.std(0, ddof=1)) / error, len(change) - 1)
    return stats.false_discovery_control(p) <= level


def observed(model: nn.Module, data: known_parts.PartImages, test: Index, part: str, null: int = 20) -> Patterns:
    r"""The same units by observation alone: patterns of images that show the part against
    images that do not, among its classes."""
    index = test[torch.isin(data.images.y[test], torch.as_tensor(known_parts.owners(part), device=test.device))]
    shown = data.shown[:, known_parts.PARTS.index(part)].long()
    return patterns(moments(model, data.images, index, y=shown, num_classes=2, boot=0, null=null)[None], boot=0)


def recovery(
    model: nn.Module, data: known_parts.PartImages, test: Index, layers=(None,), draws: int = DRAWS
) -> pd.DataFrame:
    r"""Rank correlation of the entanglement index with the true overlap of the parts, for each layer.

    Args:
        model: classifier of these images.  test: into the pool.
        layers: see `megu.core.models.activations`.  draws: of the bootstrap and of permuted labels.
    Returns: layer, rho (Spearman over the pairs of classes), low, high (95 % over images), null (mean of
        permuted labels), null_low, null_high (95 % of them).
    """
    above = np.triu_indices(len(known_parts.OWNS), 1)
    overlap, out = known_parts.true_overlap()[above], []

    def rho(effects):
        return stats.spearmanr(entanglement_index(effects)[above], overlap).statistic

    for layer, found in moments(model, data.images, test, layers, boot=draws, null=draws).items():
        sets = patterns(found, boot=draws)
        boot, null = (np.array([rho(one) for one in many]) for many in (sets.boot, sets.null))
        bounds = (*np.quantile(boot, (0.025, 0.975)), *np.quantile(null, (0.025, 0.975)))
        row = dict(zip(("low", "high", "null_low", "null_high"), bounds, strict=True))
        out.append({"layer": layer or "head input", "rho": rho(sets.effects), "null": null.mean(), **row})
    return pd.DataFrame(out)


def units(model: nn.Module, data: known_parts.PartImages, test: Index) -> pd.DataFrame:
    r"""How well the units that react to each part are found by observation.

    Returns: part, kind, owners, reacting (by intervention), found (by observation), both, found_permuted
        (mean with permuted labels).
    """
    out = []
    for part, kind in tqdm(known_parts.KINDS.items(), desc="parts", leave=False):
        truth, sets = reacting(model, data.images, part), observed(model, data, test, part)
        out.append(
            {
                "part": part,
                "kind": kind,
                "owners": len(known_parts.owners(part)),
                "reacting": int(truth.sum()),
                "found": int(sets.serves[1].sum()),
                "both": int((truth & sets.serves[1]).sum()),
                "found_permuted": sets.null_served.mean() / 2,
            }
        )
    return pd.DataFrame(out)


def strength(model: nn.Module, images: Images, part: str) -> float:
    r"""How strongly a model reacts to a part, in any basis: length of the mean change over the features' spread.

    $\lVert E\,\Delta\phi\rVert / \sqrt{\sum_j \mathrm{Var}\,\phi_j}$, on images of all classes.
    """
    change, plain = known_parts.reactions(model, images, part, range(len(known_parts.OWNS)), count=100)
    return float(np.linalg.norm(change.mean(0)) / np.sqrt(plain.var(0).sum()))


@dataclass(frozen=True)
class World:
    """Data, split (class A is to be forgotten; validation parts are empty), original and compute of one seed."""

    data: known_parts.PartImages
    split: Split
    original: nn.Module
    compute: Compute

    @property
    def test(self) -> Index:
        """All test images."""
        return torch.cat([self.split.test_retain, self.split.test_forget])


@lru_cache(maxsize=1)
def world(seed: int, train: int = TRAIN, recipe=known_parts.RECIPE) -> World:
    r"""The `World` of a seed, which drives data, original, retraining and unlearning."""
    data, compute = known_parts.make(train=train, seed=seed), choose(resolve())
    y, is_train = data.images.y, torch.arange(len(data.images.y)) < train
    forget, retain, test_forget, test_retain = (
        torch.nonzero(a & b).flatten() for b in (is_train, ~is_train) for a in (y == FORGOTTEN, y != FORGOTTEN)
    )
    split = Split(forget, retain, forget[:0], forget[:0], test_forget, test_retain)
    return World(data, split, known_parts.trained(data.images, split.train, compute, seed, recipe), compute)


def forgetting(here, seed, names=("original", "retrain", *COMPARED), asked=known_parts.PARTS):
    r"""Forget class A by several methods: are its unique parts gone and its shared parts intact, and does the
    disentanglement score say so?

    Perturbing labels are guided by the true overlap.

    Args:
        here: `World`.  seed: of it.  names: of methods.  asked: names of the parts whose `strength` is measured.
    Returns: method, unique, shared, other (mean `strength` of these parts over that of the original),
        acc_forget, acc_retain (test, percent), and suppressed, kept, score (aligned view of
        `megu.measure.disentanglement.Before.scores`).
    """
    images, split, settings = here.data.images, here.split, resolve()
    guided = transition_matrix(known_parts.true_overlap() + 0.01)
    recipe, of_a = known_parts.RECIPE, (FORGOTTEN,)
    task = Task(here.original, images, split, of_a, guided, RETAIN, "resnet-small", recipe, seed, here.compute)
    before = Before(images, split, partial(collect_features, here.original, images), draws=1)
    own = set(known_parts.CLASSES["A"])
    shared = {part for part in own if len(known_parts.owners(part)) > 1}
    group = {part: "other" if part not in own else "shared" if part in shared else "unique" for part in asked}
    usual, out = {part: strength(here.original, images, part) for part in asked}, []
    for name in tqdm(names, desc=f"seed {seed}", leave=False):
        model = METHODS[name].unlearn(task, method_settings(name, settings))
        left = pd.Series({part: strength(model, images, part) / usual[part] for part in asked}).groupby(group).mean()
        accuracy = {f"acc_{part}": 100 * (predict(model, images, at).argmax(1) == images.y[at]).double().mean().item()
                    for part, at in (("forget", split.test_forget), ("retain", split.test_retain))}  # fmt: skip
        aligned = before.scores(partial(collect_features, model, images), in_place=False)["aligned"]
        out.append({"method": name, **left, **accuracy, **{key: value[0] for key, value in aligned.items()}})
    return pd.DataFrame(out)
