# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Entangled concepts
#
# [← 00](00_prepare.ipynb) · [paper: section 3, Figure 1](https://arxiv.org/abs/2602.17088) ·
# code: [megu/measure/patterns.py](../megu/measure/patterns.py) · [02 →](02_perturbing_labels.ipynb)
#
# **Question.** Which classes share features, so that forgetting one may hurt another, and can that be measured?
#
# | reads | writes | feeds |
# |---|---|---|
# | original and retrained model of the first seed | pairs of classes, layers, maps, views of similarity | `figure1_entangled_concepts` |
#
# **The paper's claim** (section 3). A network does not keep a drawer for each class. Some of its feature patterns
# serve several classes at once. For a class $a$ to be forgotten and another class $b$ the paper tells **associated**
# patterns $P_a \cap P_b$ from **unique** ones $P_a \setminus P_b$. Suppress everything that serves $a$, and $b$
# suffers too; forgetting should hit what is unique. The paper shows this in a picture. Here it is a number for every
# pair of classes, with an interval, a control, and a data set on which the right answer is known.

# %%
import numpy as np
import pandas as pd
from IPython.display import Markdown
from scipy.linalg import orthogonal_procrustes
from sklearn.preprocessing import scale

from megu.core.models import blocks
from megu.figures import patterns as pattern_figures
from megu.figures import results as figures
from megu.measure import known_parts, recovery
from megu.measure.maps import pattern_map, tidy
from megu.measure.patterns import entanglement, entanglement_index, moments, patterns
from megu.measure.views import VIEWS, feature_table, plane
from megu.runs.claims import finding
from megu.runs.experiment import Experiment
from megu.settings.values import check_parameters

# %% tags=["parameters"]
profile: str = "quick"  # quick, small or paper
seed: int = 0  # the repetitions use seed, seed + 1, ...
run_dir: str = ""  # empty: a directory under runs/ that is named after the settings
overrides: dict = {}  # e.g. {"forget.classes": ["sandal"]}

# %%
check_parameters(globals())
lab = Experiment(profile, seed, run_dir, overrides, stage="entanglement")
lab.require("prepare")
images, names, original = lab.images, lab.images.classes, lab.original(lab.settings.seed)
test = lab.split.test_retain.new_tensor(np.concatenate([lab.split.test_retain.cpu(), lab.split.test_forget.cpu()]))
asked, y = int(images.y[lab.split.forget[0]]), images.y[test].cpu().numpy()
layers = [*blocks(original, images.batch(test[:2])), None]  # None: what the head receives
print(f"{len(test)} test images of {len(names)} classes")
print("layers:", ", ".join(layer or "head input" for layer in layers))

# %% [markdown]
# ## How entangled are two classes
#
# The unit of measurement is a channel (or a token's unit) of a layer, averaged over the image: one number for each
# image. A unit **serves** class $a$ where it is more active in images of $a$ than in all others, by its effect
#
# $$d_{aj} = (\bar a_{j|a} - \bar a_{j|\neg a}) / s_j.$$
#
# $P_a$ is the set of units whose effect is shown to exceed half a standard deviation (one-sided Welch tests of all
# classes and units of a layer, false discovery rate 5 %). The **entanglement index** of two classes is the cosine of
# their profiles, $E_{ab} = \sum_j d_{aj} d_{bj} / (\lVert d_a\rVert \lVert d_b\rVert)$: 1 where the same units serve
# both in the same measure, negative where what serves one is silent for the other.
#
# One pass over the images collects count, mean and variance for each unit and class. A bootstrap over images gives the
# intervals, and permuted labels the **null**: the grey band is what labels without meaning give.

# %%
found = moments(original, images, test, layers, seed=lab.settings.seed)
sets = {layer: patterns(found[layer]) for layer in layers}
by_layer = pd.concat(
    [entanglement(sets[layer], names).assign(layer=layer or "head input") for layer in layers], ignore_index=True
)
lab.run.table("entanglement.csv", lambda: by_layer)
pairs = by_layer[by_layer["layer"] == "head input"]
pattern_figures.entanglement(pairs, names[asked])

# %% tags=["nbval-ignore-output"]
mine = pairs[pairs["class_a"] == names[asked]].sort_values("index", ascending=False)
near, far = mine.iloc[0], mine.iloc[-1]
other, stranger = names.index(near["class_b"]), names.index(far["class_b"])
print(
    f"{names[asked]} and {names[other]}: index {near['index']:.2f}, 95 % from {near['low']:.2f} to {near['high']:.2f}"
)
print(f"they share {near['shared']} units; {near['only_a']} serve {names[asked]} alone of the two")
print(f"the same pair with permuted labels: from {near['null_low']:.3f} to {near['null_high']:.3f}")

# %% [markdown]
# **Control.** Does a unit serve a class where the labels of the images are permuted? Then the numbers above would be
# what any grouping of images shows.

# %%
null = sets[None].null_served
print(f"units found in {len(null)} permutations of the labels, mean: {null.mean():.2f} of {sets[None].serves.size}")

# %% [markdown]
# ## Two units, looked at
#
# What do such units see? The upper one serves the forgotten class and its nearest relative in the same measure; the
# lower one tells the two apart. The third class is the one that the index calls the greatest stranger. Right: the test
# images that move the unit most, of any class.

# %%
table, effects = feature_table(original, images, test), sets[None].effects
shared, own = np.minimum(effects[asked], effects[other]).argmax(), (effects[asked] - effects[other]).argmax()
shown = {f"associated: unit {shared}": shared, f"{names[asked]}, not {names[other]}: unit {own}": own}
values = pd.concat(
    pd.DataFrame({"unit": title, "class": names[k], "activation": table[y == k, j]})
    for title, j in shown.items()
    for k in (asked, other, stranger)
)
strongest = {title: np.argsort(-table[:, j], kind="stable")[:6] for title, j in shown.items()}
pictures = {u: [(names[y[i]], images.x[test[i]].cpu() / 255.0) for i in at] for u, at in strongest.items()}
pattern_figures.units(values, pictures)

# %% [markdown]
# The effect of the upper unit, by hand: means of the class and of all others, and the pooled standard deviation.

# %%
inside, outside = table[y == asked, shared], table[y != asked, shared]
spread = np.sqrt(sum((len(part) - 1) * part.var(ddof=1) for part in (inside, outside)) / (len(table) - 2))
d = (inside.mean() - outside.mean()) / spread
print(
    f"d = ({inside.mean():.3f} - {outside.mean():.3f}) / {spread:.3f} = {d:.2f}; measured: {effects[asked, shared]:.2f}"
)

# %% [markdown]
# ## Where in depth concepts part
#
# The same index, layer by layer, from the image to the head.

# %%
pattern_figures.depth(by_layer, names[asked])

# %% [markdown]
# ## Where in the image
#
# Averaged over its units, a set of patterns has a place in every image: here of the last block but one, whose maps are
# finer than the last one's. The scale is common: standard deviations above the unit's mean. A set is a statement about
# classes: a single image may well show what is more common in another class.

# %%
layer = layers[-3]
serves = sets[layer].serves
some = test.new_tensor([int(i) for k in (asked, other) for i in test[images.y[test] == k][:2]])
chosen = {
    "associated": serves[asked] & serves[other],
    f"only {names[asked]}": serves[asked] & ~serves[other],
    f"only {names[other]}": serves[other] & ~serves[asked],
}
panels = {}
for what, units in chosen.items():
    label = f"{what} ({units.sum()} unit{'s' * int(units.sum() != 1)})"
    panels[label] = pattern_map(original, images.batch(some), layer, units, found[layer])
where = tidy(images, some, [f"{names[k]} {i}" for k in (asked, other) for i in (1, 2)], {"image": None, **panels})
lab.run.table("maps.csv", lambda: where.round(2))
pattern_figures.maps(where[where["row"].str.endswith(" 1")], layer)

# %% [markdown]
# ## Before and after forgetting
#
# Where do the forgotten images go when the class is gone? Features of the original and of the retrained model (the
# goal) in one plane, by t-SNE fitted on both. The two networks number their units differently, so the retrained one's
# features are first rotated onto the original's by what is retained. The plane is for the eye alone. The number above
# it is not: of the ten images whose features are nearest to one of the forgotten class, how many belong to it.

# %%
retrained = feature_table(lab.unlearned("retrain", lab.settings.seed), images, test)
near_ten, models = VIEWS["nearest neighbours"], {"original": table, "retrained": retrained}
share = {model: 100 * near_ten(features, y, len(names))[asked, asked] for model, features in models.items()}
said = ", ".join(f"{model} {value:.1f} %" for model, value in share.items())
print(
    f"of the ten neighbours of a {names[asked]} are of its class: {said}; by chance {100 * np.mean(y == asked):.1f} %"
)

# %%
before, after, retained = scale(table), scale(retrained), np.arange(len(y)) < len(lab.split.test_retain)
after = after @ orthogonal_procrustes(after[retained], before[retained])[0]
some = np.random.default_rng(lab.settings.seed).permutation(len(y))[:400]
points = pd.DataFrame(plane(np.concatenate([before[some], after[some]]), lab.settings.seed), columns=["x", "y"])
points = points.assign(model=np.repeat(list(models), len(some)), **{"class": np.tile(np.array(names)[y[some]], 2)})
pattern_figures.plane(
    points, [names[asked], *mine["class_b"][:2]], f"Own class among ten neighbours of a {names[asked]}: {said}"
)

# %% [markdown]
# ## Other views of similarity
#
# The field has its own measures of how alike classes are: cosine of class means, linear CKA, confusion of a linear
# probe, shares of nearest neighbours. All are kept; notebook 02 compares them with what the guide says. Below their
# rank correlation with the entanglement index over the pairs of classes.

# %%
views = {"entanglement index": entanglement_index(effects)}
views |= {name: view(table, y, len(names)) for name, view in VIEWS.items()}
order = [(a, b) for a in range(len(names)) for b in range(len(names))]
rows = [(view, names[a], names[b], sim[a, b]) for view, sim in views.items() for a, b in order]
kept = pd.DataFrame(rows, columns=["view", "class_a", "class_b", "similarity"])
lab.run.table("views.csv", lambda: kept)
wide = kept[kept["class_a"] < kept["class_b"]].pivot(index=["class_a", "class_b"], columns="view", values="similarity")
wide.corr("spearman")[["entanglement index"]].round(2).rename_axis(index=None, columns="view")

# %% [markdown]
# ## Is the measure right? Images whose overlap is known
#
# `megu/measure/known_parts.py` draws images of ten classes. Each class is a known set of parts (shapes, textures,
# colours, positions), some its own and some shared; an image shows each part of its class with probability one half.
# The true overlap of two classes is the Jaccard index of their sets of parts. Here are five classes with all of their
# parts; an image of the data set shows about half of them.

# %%
drawn = known_parts.draw(known_parts.OWNS[:5], lab.settings.seed).transpose(0, 3, 1, 2)
drawn = np.where(drawn < 70, 40, drawn)  # without the noise of the ground
figures.image_grid(drawn / 255, list(known_parts.CLASSES)[:5], columns=5, size=0.8)

# %%
a, b = (set(known_parts.CLASSES[name]) for name in ("A", "B"))
print(f"A: {', '.join(known_parts.CLASSES['A'])}\nB: {', '.join(known_parts.CLASSES['B'])}")
print(f"overlap of A and B: {len(a & b)} of {len(a | b)} parts = {known_parts.true_overlap()[0, 1]:.2f}")

# %% [markdown]
# A small network is trained on such images, and the index has to recover the overlap: rank correlation over the pairs
# of classes, with an interval over images, against permuted labels.

# %%
here = recovery.world(lab.settings.seed)
at = recovery.recovery(here.original, here.data, here.test).iloc[0]
print(f"rank correlation with the true overlap {at['rho']:.2f}, 95 % from {at['low']:.2f} to {at['high']:.2f}")
print(f"with permuted labels {at['null']:.2f} (mean), 95 % from {at['null_low']:.2f} to {at['null_high']:.2f}")

# %% [markdown]
# And are the units right? A part can be drawn into an image with everything else equal, which shows the units that
# react to it. The test that found the sets above has to find the same units by looking on.

# %% tags=["nbval-ignore-output"]
units = recovery.units(here.original, here.data, here.test)
by_kind = (
    units.groupby("kind")[["reacting", "found", "both", "found_permuted"]].sum().rename_axis(index=None, columns="kind")
)
precision, recall = (by_kind["both"].sum() / by_kind[name].sum() for name in ("found", "reacting"))
by_kind.assign(precision=by_kind["both"] / by_kind["found"], recall=by_kind["both"] / by_kind["reacting"]).round(2)

# %% [markdown]
# ## What was found

# %%
entangled = mine.loc[mine["low"] > mine["null_high"].max(), "class_b"]
Markdown(
    f"Beyond chance, {names[asked]} shares features with {', '.join(entangled) or 'no class'}; the index with "
    f"{near['class_b']} is {near['index']:.2f} ({near['low']:.2f} to {near['high']:.2f}), with {far['class_b']} "
    f"{far['index']:.2f}. Of the ten neighbours of one of its images {share['original']:.1f} % are of its class in the original "
    f"and {share['retrained']:.1f} % in the retrained model. "
    f"On images whose overlap is known, trained in this run, the index orders the pairs of classes with a rank correlation of {at['rho']:.2f}, "
    f"and {100 * precision:.1f} % of the units that it calls a part's do react to that part."
)

# %% [markdown]
# Each line below says what was measured and what would have been too little; the controls are lines of their own.

# %%
of_classes = [
    finding(
        f"{names[asked]} and {near['class_b']} are entangled beyond permuted labels",
        near["low"],
        ">",
        near["null_high"],
    ),
    finding(f"{names[asked]} and {far['class_b']} are not entangled beyond them", far["high"], "<", far["null_high"]),
    finding(f"units that {names[asked]} and {near['class_b']} share", near["shared"], ">", 0),
    finding("units that serve a class where labels are permuted, mean", null.mean(), "<", 1),
]

# %%
total = by_kind[["found", "found_permuted"]].sum()
claims = [
    *of_classes,
    finding("known overlap: rank correlation of the index with it", at["rho"], ">=", 0.9),
    finding("known overlap: the same with permuted labels, mean without sign", abs(at["null"]), "<", 0.1),
    finding("known overlap: permuted labels end below the index's lower end", at["null_high"], "<", at["low"]),
    finding("units that react to a part are found: precision", precision, ">=", 0.9),
    finding("units that react to a part are found: recall", recall, ">=", 0.7),
    finding("units found where labels are permuted", total["found_permuted"], "<", 0.05 * total["found"]),
]
print(*lab.seal(claims), sep="\n")

# %% [markdown]
# ## Exercises
#
# 1. Set `asked = names.index(...)` to another class and run the cells of the index again. Which pair of classes is the
#    most entangled of all (`pairs.nlargest(1, "index")`)?
# 2. The figure over depth starts near the image. Why are classes that share a silhouette alike there, and what does
#    that mean for a method that changes early layers?
#
# **Next:** [02 · A guide chooses the perturbing labels](02_perturbing_labels.ipynb) asks whether a guide that has never
# seen this network names the same relatives.
