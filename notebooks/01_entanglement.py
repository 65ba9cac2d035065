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
# **Question.** Which classes share features, so that forgetting one may hurt another?
#
# | reads | writes | minutes | feeds |
# |---|---|---|---|
# | original model of the first seed | similarity of classes, shared and unique units | quick 0.3 (2 cores); small, paper: not measured | figure 1 |
#
# A network does not keep a drawer for each class. Some of its feature patterns serve several classes at once: for a class $a$ to be
# forgotten and another class $b$ the paper (section 3) tells **associated** patterns $P_a \cap P_b$ from **unique** ones $P_a \setminus P_b$.
# Suppress everything that serves $a$, and $b$ suffers too. Forgetting should hit what is unique. How much is there to share?

# %%
import numpy as np
import pandas as pd

from megu import figures
from megu.experiment import Experiment
from megu.features import centroid_similarity, feature_table, serving_units, shared_and_unique

# %% tags=["parameters"]
profile: str = "quick"  # quick, small or paper
seed: int = 0  # the repetitions use seed, seed + 1, ...
run_dir: str = ""  # empty: a directory under runs/ that is named after the settings
overrides: dict = {}  # e.g. {"forget.classes": ["sandal"]}

# %%
lab = Experiment(profile, seed, run_dir, overrides, stage="entanglement")
lab.require("prepare")
images, names = lab.images, lab.images.classes
index = np.concatenate([lab.split.test_retain.cpu(), lab.split.test_forget.cpu()])
y = images.y.cpu().numpy()[index]
print(f"{len(index)} test images of {len(names)} classes")

# %% [markdown]
# ## Features
#
# The features are what the classification head receives: one number for each unit of the last layer and each test image.

# %%
table = feature_table(lab.original(lab.settings.seed), images, lab.split.test_retain.new_tensor(index))
print(f"{table.shape[0]} images x {table.shape[1]} units")

# %% [markdown]
# ## Closeness of classes, and units that serve two of them
#
# Left: cosine between class means, after the mean of all classes is taken away. Right: a unit *serves* a class where it is clearly more active for it
# than for the rest (Cohen's $d \ge 0.8$); for the class to be forgotten, its units are split into those that serve the other class as well and those that do not.

# %% tags=["nbval-ignore-output"]
closeness = centroid_similarity(table, y, len(names))
serving = serving_units(table, y, len(names))
asked = int(images.y[lab.split.forget[0]])
pairs = [(asked, b) for b in range(len(names)) if b != asked]
units = pd.DataFrame([{"class_a": names[a], "class_b": names[b], **shared_and_unique(serving, a, b)} for a, b in pairs])
lab.run.table("units.csv", lambda: units)
closest = pd.DataFrame([{"class_a": names[a], "class_b": names[b], "similarity": closeness[a, b]} for a in range(len(names)) for b in range(len(names))])
lab.run.table("centroids.csv", lambda: closest)
figures.entanglement(closeness, names, units, names[asked])

# %% [markdown]
# ## Does it mean anything? A control
#
# With the labels of the images permuted, no unit serves any class, and nothing is shared. The overlap above is therefore not something that any
# grouping of images would show.

# %%
permuted = np.random.default_rng(lab.settings.seed).permutation(y)
serving_permuted = serving_units(table, permuted, len(names))
print(f"units that serve a class when labels are permuted: {serving_permuted.sum()} of {serving_permuted.size}")

# %% tags=["nbval-ignore-output"]
nearest = names[int(np.argmax(np.where(np.arange(len(names)) == asked, -2, closeness[asked])))]
most = units.sort_values("jaccard").iloc[-1]
print(f"{names[asked]}: nearest class mean {nearest}; most units shared with {most['class_b']} ({most['shared']} shared, {most['only_a']} its own)")

# %% [markdown]
# ## What was found
#
# The class to be forgotten has close relatives and complete strangers, and shares units with the relatives. Notebook 02 asks whether a guide that
# has never seen this network names the same relatives.

# %%
shared_with_nearest = int(units.set_index("class_b")["shared"][nearest])
claims = {
    "the forgotten class has units of its own kind": bool(serving[asked].any()),
    "with permuted labels fewer units serve it": serving_permuted[asked].sum() < serving[asked].sum(),
    "it shares units with its nearest class, where a whole class goes": not lab.forgotten or shared_with_nearest > 0,
    "with permuted labels it does not": shared_and_unique(serving_permuted, asked, names.index(nearest))["shared"] == 0,
}
lab.seal(claims)
print(*claims, sep="\n")
