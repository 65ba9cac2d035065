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
# # 00 · A classifier that will have to forget
#
# **Question.** What does the classifier know before it forgets, and what would it know had it never seen the forgotten images?
#
# | reads | writes | feeds |
# |---|---|---|
# | embedded images, or the user's CIFAR | data split, *original* and *retrained* models of every seed | `table1_results`, `figure4_time` |
#
# Machine unlearning takes a trained classifier $f_\theta$ and a part of its training data, the **forget set** $D_f$, and returns a
# classifier that behaves as if $D_f$ had never been there, without training anew on the **retain set** $D_r = D \setminus D_f$.
# Two models frame every later claim: the *original*, which has seen everything and must fail every test of forgetting, and the
# *retrained*, made from scratch on $D_r$ alone. The retrained model is the goal. Scoring lower than it is not better.

# %%
from megu.figures import results as figures
from megu.runs.claims import finding, invariant
from megu.runs.experiment import Experiment

# %% [markdown]
# These four values are all that a run needs; everything else follows from them and is kept in the run's manifest.

# %% tags=["parameters"]
profile: str = "quick"  # quick, small or paper
seed: int = 0  # the repetitions use seed, seed + 1, ...
run_dir: str = ""  # empty: a directory under runs/ that is named after the settings
overrides: dict = {}  # e.g. {"forget.classes": ["sandal"]}

# %%
lab = Experiment(profile, seed, run_dir, overrides, stage="prepare")
print(
    f"forget {lab.settings.forget.scenario}: {', '.join(lab.settings.forget.classes)}, {lab.settings.seeds} seeds from {lab.settings.seed}"
)

# %% [markdown]
# ## The images
#
# The quick profile uses 12,000 grey photographs of clothing (Fashion-MNIST, part of the package). Here are two of each class.

# %%
images = lab.images
titles = list(images.classes) * 2
picked = [
    int(i) for turn in (0, 1) for k in range(images.num_classes) for i in [(images.y == k).nonzero().flatten()[turn]]
]
figures.image_grid(images.x[picked].cpu() / 255.0, titles, columns=10)

# %% [markdown]
# ## What goes, what stays, what is held out
#
# A tenth of the training images is carved out once for every choice that has to be made (*validation*); no model is ever trained on
# them, and nothing is ever chosen on the test images. The digest identifies the split: the same on every machine.

# %%
for part, index in vars(lab.split).items():
    print(f"{part:12s} {len(index):6d} images")
print("split", lab.split.digest())

# %% [markdown]
# ## The original models and the goal
#
# One original and one retrained model for each seed, by the same recipe: same network, same schedule, fresh weights. This is the long
# part of the notebook, so there is one process per core, of one thread each. What is finished is kept: an interrupted run goes on where it stopped.

# %%
lab.each(Experiment.unlearned, [(name, s) for name in ("original", "retrain") for s in lab.seeds])

# %% [markdown]
# Accuracies in percent. The last two columns are what unlearning is about: does the original know the forgotten class on images that
# it has never seen, and does the retrained model?

# %% tags=["nbval-ignore-output"]
measured = {
    (name, s): lab.rows(name, s).set_index("metric")["value"].to_dict()
    for name in ("original", "retrain")
    for s in lab.seeds
}
print(f"{'model':10s} seed  retain train  retain test  forget train  forget test")
for (name, s), value in measured.items():
    print(f"{name:10s} {s:4d}  {value['acc_retain_train']:12.1f}  {value['acc_retain_test']:11.1f}", end="")
    print(f"  {value['acc_forget_train']:12.1f}  {value['acc_forget_test']:11.1f}")

# %% [markdown]
# ## What was found
#
# An *invariant* must hold, or nothing may be built on the run. A *finding* holds or fails, with its value and bound beside it, and is recorded in either case.
# Chance is one over the number of classes. The retrained model is the negative control of "knows the forgotten class" where a whole class goes, and the positive
# control where only a part of one goes.

# %%
chance = 100 / images.num_classes
kept, known = (min(measured["original", s][m] for s in lab.seeds) for m in ("acc_retain_test", "acc_forget_train"))
retrained_knows = max(measured["retrain", s]["acc_forget_test"] for s in lab.seeds)
another = all(measured["original", s] != measured["retrain", s] for s in lab.seeds)
claims = [
    invariant("a retrained model is not the original", another),
    finding("every original names retained test images well above chance, %", kept, ">", 2 * chance),
    finding("every original knows the forget images, %", known, ">", 2 * chance),
    finding("no retrained model knows a class that it never saw, %", retrained_knows, "==", 0, bool(lab.forgotten)),
]
print(*lab.seal(claims), sep="\n")
