# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Entangled concepts
#
# **Question.** Which classes share features, so that forgetting one may hurt another, and can that be measured?
#
# | reads | writes | feeds |
# |---|---|---|
# | original model of the first seed | pairs of classes, layers, maps, views of similarity | `figure1_entangled_concepts` |
#
# **The paper's claim** (section 3). A network does not keep a drawer for each class. Some of its feature patterns serve several classes at once: for a class $a$ to be
# forgotten and another class $b$ it tells **associated** patterns $P_a \cap P_b$ from **unique** ones $P_a \setminus P_b$.
# Suppress everything that serves $a$, and $b$ suffers too; forgetting should hit what is unique. The paper shows this in a picture (its Figure 1).
# Here it is a number for every pair of classes, with an interval, a control, and a data set on which the right answer is known.

# %%
import numpy as np
import pandas as pd

from megu.core.models import blocks
from megu.figures import patterns as pattern_figures
from megu.measure import recovery
from megu.measure.maps import pattern_map, tidy
from megu.measure.patterns import entanglement, entanglement_index, moments, patterns
from megu.measure.views import VIEWS, feature_table, plane
from megu.runs.claims import finding
from megu.runs.experiment import Experiment

# %% tags=["parameters"]
profile: str = "quick"  # quick, small or paper
seed: int = 0  # the repetitions use seed, seed + 1, ...
run_dir: str = ""  # empty: a directory under runs/ that is named after the settings
overrides: dict = {}  # e.g. {"forget.classes": ["sandal"]}

# %%
lab = Experiment(profile, seed, run_dir, overrides, stage="entanglement")
lab.require("prepare")
images, names, original = lab.images, lab.images.classes, lab.original(lab.settings.seed)
test = lab.split.test_retain.new_tensor(np.concatenate([lab.split.test_retain.cpu(), lab.split.test_forget.cpu()]))
asked = int(images.y[lab.split.forget[0]])
layers = [*blocks(original, images.batch(test[:2])), None]  # None: what the head receives
print(
    f"{len(test)} test images of {len(names)} classes; layers: {', '.join(layer or 'head input' for layer in layers)}"
)

# %% [markdown]
# ## Which units serve which class
#
# The unit of measurement is a channel (or a token's unit) of a layer, averaged over the image. One pass over the images collects, for each unit and class, count, mean and
# variance; a bootstrap over images and permuted labels are collected beside them, so that memory does not grow with the number of images. A unit **serves** class $a$ where its effect
#
# $$d_{aj} = (\bar a_{j|a} - \bar a_{j|\neg a}) / s_j$$
#
# is shown to exceed half a standard deviation (one-sided Welch tests of all classes and units of a layer, false discovery rate 5 %). These units are the set $P_a$.

# %% tags=["nbval-ignore-output"]
found = moments(original, images, test, layers, seed=lab.settings.seed)
sets = {layer: patterns(found[layer]) for layer in layers}
print(
    "units of the last layer that serve each class:", dict(zip(names, sets[None].serves.sum(1).tolist(), strict=True))
)

# %% [markdown]
# ## How entangled are two classes
#
# The **entanglement index** of two classes is the cosine of their selectivity profiles, $E_{ab} = \sum_j d_{aj} d_{bj} / (\lVert d_a\rVert \lVert d_b\rVert)$: 1 where the same units serve them in the same
# measure, negative where what serves one is silent for the other. The grey band is what labels without meaning give. Right: the sets behind it.

# %% tags=["nbval-ignore-output"]
by_layer = pd.concat(
    [entanglement(sets[layer], names).assign(layer=layer or "head input") for layer in layers], ignore_index=True
)
lab.run.table("entanglement.csv", lambda: by_layer)
pairs = by_layer[by_layer["layer"] == "head input"]
pattern_figures.entanglement(pairs, names[asked])

# %% tags=["nbval-ignore-output"]
mine = pairs[pairs["class_a"] == names[asked]].sort_values("index", ascending=False)
nearest = mine.iloc[0]
print(
    f"{names[asked]} and {nearest['class_b']}: index {nearest['index']:.2f}, 95 % from {nearest['low']:.2f} to {nearest['high']:.2f}"
)
print(f"they share {nearest['shared']} units; {nearest['only_a']} serve {names[asked]} alone of the two")
print(f"the same pair with permuted labels: from {nearest['null_low']:.3f} to {nearest['null_high']:.3f}")

# %% [markdown]
# **Control.** Does a unit serve a class where the labels of the images are permuted? Then the numbers above would be what any grouping of images shows.

# %%
print(
    f"units found in {len(sets[None].null_served)} permutations of the labels, mean: {sets[None].null_served.mean():.2f} of {sets[None].serves.size}"
)

# %% [markdown]
# ## Where in depth concepts part
#
# The same index, layer by layer, from the image to the head.

# %% tags=["nbval-ignore-output"]
pattern_figures.depth(by_layer, names[asked])

# %% [markdown]
# ## Where in the image
#
# Averaged over its units, a set of patterns has a place in every image: here of the last block but one, whose maps are finer than the last one's. The scale is common: standard
# deviations above the unit's mean. A set is a statement about classes: a single coat may well show what is more common in shirts.

# %% tags=["nbval-ignore-output"]
layer, other = layers[-3], names.index(nearest["class_b"])
serves, y = sets[layer].serves, images.y[test]
shown = test.new_tensor([int(i) for k in (asked, other) for i in test[y == k][:2]])
chosen = {
    "associated": serves[asked] & serves[other],
    f"only {names[asked]}": serves[asked] & ~serves[other],
    f"only {names[other]}": serves[other] & ~serves[asked],
}
panels = {
    f"{what} ({units.sum()} units)": pattern_map(original, images.batch(shown), layer, units, found[layer])
    for what, units in chosen.items()
}
where = tidy(images, shown, [f"{names[k]} {i}" for k in (asked, other) for i in (1, 2)], {"image": None, **panels})
lab.run.table("maps.csv", lambda: where.round(2))
pattern_figures.maps(where, layer)

# %% [markdown]
# ## Other views of similarity
#
# The field has its own measures of how alike classes are: cosine of class means, linear CKA, confusion of a linear probe, shares of nearest neighbours. All are kept; notebook 02 compares them
# with what the guide says. Below their rank correlation with the entanglement index over the pairs of classes, and a map of the features by t-SNE (for the eye alone).

# %% tags=["nbval-ignore-output"]
table, y = feature_table(original, images, test), images.y[test].cpu().numpy()
views = {"entanglement index": entanglement_index(sets[None].effects)}
views |= {name: view(table, y, len(names)) for name, view in VIEWS.items()}
order = [(a, b) for a in range(len(names)) for b in range(len(names))]
rows = [(view, names[a], names[b], sim[a, b]) for view, sim in views.items() for a, b in order]
kept = pd.DataFrame(rows, columns=["view", "class_a", "class_b", "similarity"])
lab.run.table("views.csv", lambda: kept)
wide = kept[kept["class_a"] < kept["class_b"]].pivot(index=["class_a", "class_b"], columns="view", values="similarity")
wide.corr("spearman").round(2)

# %% tags=["nbval-ignore-output"]
some = np.random.default_rng(lab.settings.seed).permutation(len(y))[:1000]
points = pd.DataFrame(plane(table[some], lab.settings.seed), columns=["x", "y"]).assign(
    **{"class": np.array(names)[y[some]]}
)
pattern_figures.plane(points, names, [names[asked], *mine["class_b"][:2]])

# %% [markdown]
# ## Is the measure right? Images whose overlap is known
#
# `megu/measure/known_parts.py` draws images of ten classes, each a known set of parts (shapes, textures, colours, positions), some its own and some shared: the overlap of two classes is the Jaccard index of their
# sets. A small network is trained on them, and the index has to recover that overlap: rank correlation over the 45 pairs, with an interval over images, against permuted labels.

# %% tags=["nbval-ignore-output"]
here = recovery.world(lab.settings.seed)
recovered = recovery.recovery(here.original, here.data, here.test)
at = recovered.iloc[0]
print(f"rank correlation with the true overlap {at['rho']:.2f}, 95 % from {at['low']:.2f} to {at['high']:.2f}")
print(f"with permuted labels {at['null']:.2f} (mean), 95 % from {at['null_low']:.2f} to {at['null_high']:.2f}")

# %% [markdown]
# And are the units right? A part can be drawn into an image with everything else equal, which shows the units that react to it; the test that found the sets above has to find the same
# units by looking on.

# %% tags=["nbval-ignore-output"]
units = recovery.units(here.original, here.data, here.test)
by_kind = units.groupby("kind")[["reacting", "found", "both", "found_permuted"]].sum()
precision, recall = (by_kind["both"].sum() / by_kind[name].sum() for name in ("found", "reacting"))
by_kind.assign(precision=by_kind["both"] / by_kind["found"], recall=by_kind["both"] / by_kind["reacting"]).round(2)

# %% [markdown]
# ## What was found
#
# Has the class to be forgotten close relatives and strangers, does it share units with the closest one, and does the index recover an overlap that is known? Each line says what was measured, and what
# would have been too little; the controls are lines of their own. Notebook 02 asks whether a guide that has never seen this network names the same relatives.

# %%
a, b, far = names[asked], nearest["class_b"], mine.iloc[-1]
of_classes = [
    finding(f"{a} and {b} are entangled beyond permuted labels", nearest["low"], ">", nearest["null_high"]),
    finding(f"{a} and {far['class_b']} are not", far["high"], "<", far["null_high"]),
    finding(f"units that {a} and {b} share", nearest["shared"], ">", 0),
    finding("units that serve a class where labels are permuted, mean", sets[None].null_served.mean(), "<", 1),
]

# %%
total = by_kind[["found", "found_permuted"]].sum()
claims = [
    *of_classes,
    finding("known overlap: rank correlation of the index with it", at["rho"], ">=", 0.9),
    finding("with permuted labels: mean, without sign", abs(at["null"]), "<", 0.1),
    finding("their upper end lies below its lower end", at["null_high"], "<", at["low"]),
    finding("units that react to a part are found: precision", precision, ">=", 0.9),
    finding("and recall", recall, ">=", 0.7),
    finding("units found where labels are permuted", total["found_permuted"], "<", 0.05 * total["found"]),
]
print(*lab.seal(claims), sep="\n")
