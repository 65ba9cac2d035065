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
# # 00 · A classifier that will have to forget
#
# [README](../README.md) · [paper: section 3](https://arxiv.org/abs/2602.17088) ·
# code: [megu/runs/experiment.py](../megu/runs/experiment.py) · [01 →](01_entanglement.ipynb)
#
# **Question.** What does the classifier know before it forgets, and what would it know had it never seen the
# forgotten images?
#
# | reads | writes | feeds |
# |---|---|---|
# | embedded images, or the user's CIFAR | data split, *original* and *retrained* models of every seed | `table1_results`, `figure4_time` |
#
# Machine unlearning takes a trained classifier $f_\theta$ and a part of its training data, the **forget set** $D_f$.
# It returns a classifier that behaves as if $D_f$ had never been there, without training anew on the
# **retain set** $D_r = D \setminus D_f$. Two models frame every later claim. The **original** has seen everything and
# must fail every test of forgetting. The **retrained** model is made from scratch on $D_r$ alone: it is the goal.
# Scoring lower than the retrained model is not better.

# %% [markdown]
# ## The method in one picture
#
# One forget image of the default run (class-wise forgetting in a small ResNet), drawn from that run's own numbers:
#
# ![One forget image on its way through the method](../paper_figures/out/overview.png)
#
# 1. An image $x$ has to be forgotten. The notebooks follow it.
# 2. A **guide** says which classes are alike: the transition matrix $T$ (eq. 4-6, notebook 02). Eq. 7 clears the entry
#    of the image's own class, so the column of $T$ that is shown is that of the class which the original believes
#    second; it decides nearly alone.
# 3. What the original half believes of $x$, passed through $T$, ranks the other classes; the
#    $\lfloor K\tau \rfloor$-th is the **perturbing label** (eq. 7-8, notebook 02).
# 4. A **noise pair** is optimised against the frozen original: one noise that it takes for the perturbing label, one
#    that it takes for anything but the forgotten class (eq. 9-10, notebook 03). Blue darkens, red brightens.
# 5. Image and weighted pair are summed (eq. 11). Such images under their perturbing labels, and retained images under
#    their own, are what the model is fine-tuned on for a few epochs (eq. 12, notebook 04).
# 6. The unlearned model is compared with the retrained one, by many measures (notebook 05).

# %% [markdown]
# ## The walk

# %% [markdown]
"""
<!-- begin notebooks -->
| notebook | question | minutes | figures, tables (paper_figures) |
|---|---|---|---|
| [00_prepare](00_prepare.ipynb) | what does the classifier know, and what would it know had it never seen these images? | 4.2 | `table1_results`, `figure4_time` |
| [01_entanglement](01_entanglement.ipynb) | which classes share features, and can that be measured? | 0.7 | `figure1_entangled_concepts` |
| [02_perturbing_labels](02_perturbing_labels.ipynb) | which class is each image pushed to, and who says so? | 1.5 | `figure3_transition_matrix` |
| [03_noise_pair](03_noise_pair.ipynb) | what does the network take the noises for? | 0.3 | `disentanglement` |
| [04_unlearn](04_unlearn.ipynb) | what is left of the forgotten class, and what did it cost? | 1.6 | `table1_results`, `figure4_time` |
| [05_evaluate](05_evaluate.ipynb) | how far is each model from the retrained one? | 2.5 | `table1_results`, `disentanglement` |
| [06_your_own_model](06_your_own_model.ipynb) | can a class go from a model and photos of someone else? | - | deletion report |
| [A1_guides](A1_guides.ipynb) | do eight sources and a control agree, does forgetting depend on which is asked? | - | `figure3_transition_matrix` |
| [A2_every_method](A2_every_method.ipynb) | which method comes nearest to retraining, and which when? | - | `comparison`, `disentanglement`, `table1_results` |
| [A3_one_thing_at_a_time](A3_one_thing_at_a_time.ipynb) | which of the choices that the paper leaves open matter? | - | `ablation` |
| [A4_the_papers_tables](A4_the_papers_tables.ipynb) | do the paper's claims hold on its requests? | - | `table1_to_8_paper`, `figure4_time` |
| [A5_cost](A5_cost.ipynb) | what does a run cost in seconds, memory, hours on a GPU? | - | `figure4_time` |

11 minutes in all, cpu, bfloat16 autocast; on other machines they differ.
<!-- end notebooks -->
"""

# %% [markdown]
# A second run takes seconds where nothing has to be trained. 00-05 share one run; 06 and the appendix stand alone.

# %%
from IPython.display import Markdown

from megu.core.train import predict
from megu.figures import results as figures
from megu.runs.claims import finding, invariant
from megu.runs.experiment import Experiment
from megu.settings.values import check_parameters

# %% [markdown]
# ## The run
#
# These four values are all that a run needs. Everything else follows from them and is kept in the run's manifest.

# %% tags=["parameters"]
profile: str = "quick"  # quick, small or paper
seed: int = 0  # the repetitions use seed, seed + 1, ...
run_dir: str = ""  # empty: a directory under runs/ that is named after the settings
overrides: dict = {}  # e.g. {"forget.classes": ["sandal"]}

# %%
check_parameters(globals())
lab = Experiment(profile, seed, run_dir, overrides, stage="prepare")
images, names, forget, first = lab.images, lab.images.classes, lab.settings.forget, lab.settings.seed
what = f"{forget.count} random images" if forget.scenario == "random" else ", ".join(forget.classes)
print(f"forget {forget.scenario}: {what}; {lab.settings.seeds} seeds from {first}")

# %% [markdown]
# ## The images
#
# The quick profile uses 12,000 grey photographs of clothing (Fashion-MNIST, part of the package). Here are two of
# each class.

# %%
picked = [int(i) for turn in (0, 1) for k in range(len(names)) for i in [(images.y == k).nonzero().flatten()[turn]]]
figures.image_grid(images.x[picked].cpu() / 255.0, list(names) * 2, columns=10)

# %% [markdown]
# ## What goes, what stays, what is held out
#
# A tenth of the training images is carved out once for every choice that has to be made (*validation*). No model is
# ever trained on them, and no setting is chosen on the test images. The digest identifies the split: the same on
# every machine.

# %%
for part, index in vars(lab.split).items():
    print(f"{part:12s} {len(index):6d} images")
print("split", lab.split.digest())

# %% [markdown]
# ## The original models and the goal
#
# One original and one retrained model for each seed, by the same recipe: same network, same schedule, fresh weights.
# This is the long part of the notebook, so there is one process per core, of one thread each. What is finished is
# kept: an interrupted run goes on where it stopped.

# %%
lab.each(Experiment.unlearned, [(name, s) for name in ("original", "retrain") for s in lab.seeds])

# %% [markdown]
# Accuracies in percent. The last two columns are what unlearning is about: does the original know what is to be
# forgotten, also on images that it has never seen, and does the retrained model?

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
# ## Eight forget images, seen by both
#
# Above each image: what the original and what the retrained model of the first seed call it. The retrained model has
# no name for a class that it never saw, so it says what the image looks like to it. That is what unlearning aims at:
# not a wrong answer, but the answer of a model that does not know.

# %%
eight = lab.split.forget[:8]
calls = {
    name: predict(lab.unlearned(name, first), images, eight).argmax(1).tolist() for name in ("original", "retrain")
}
titles = [f"{names[a]}\n→ {names[b]}" for a, b in zip(calls["original"], calls["retrain"], strict=True)]
figures.image_grid(images.x[eight].cpu() / 255.0, titles, columns=8, size=1.1)

# %% [markdown]
# ## What was found

# %%
mean = {
    n: {m: sum(measured[n, s][m] for s in lab.seeds) / len(lab.seeds) for m in measured[n, first]} for n, _ in measured
}
Markdown(
    f"The originals name {mean['original']['acc_forget_train']:.1f} % of the forget images right, and "
    f"{mean['original']['acc_forget_test']:.1f} % of unseen images of the same kind; the retrained models "
    f"{mean['retrain']['acc_forget_train']:.1f} % and {mean['retrain']['acc_forget_test']:.1f} %. Of the retained test "
    f"images the originals name {mean['original']['acc_retain_test']:.1f} % right, the retrained models "
    f"{mean['retrain']['acc_retain_test']:.1f} %. An unlearned model is judged by how near it comes to the retrained one, "
    "on what is forgotten and on what is retained."
)

# %% [markdown]
# An *invariant* must hold, or nothing may be built on the run. A *finding* holds or fails, with its value and bound
# beside it, and is recorded in either case. Chance is one over the number of classes. The retrained model is the
# negative control of "knows the forgotten class" where a whole class goes, and the positive control where only a part
# of one goes.

# %%
chance = 100 / images.num_classes
kept, known = (min(measured["original", s][m] for s in lab.seeds) for m in ("acc_retain_test", "acc_forget_train"))
retrained_knows = max(measured["retrain", s]["acc_forget_test"] for s in lab.seeds)
another = all(measured["original", s] != measured["retrain", s] for s in lab.seeds)
claims = [
    invariant("a retrained model is not the original", another),
    finding("every original names retained test images right, %, more than twice chance", kept, ">", 2 * chance),
    finding("every original names forget images right, %, more than twice chance", known, ">", 2 * chance),
    finding("no retrained model knows a class that it never saw, %", retrained_knows, "==", 0, bool(lab.forgotten)),
]
print(*lab.seal(claims), sep="\n")

# %% [markdown]
# ## Exercises
#
# 1. Forget something else: set `overrides = {"forget.classes": ["sandal"]}` above and run again. Which classes does
#    the retrained model take sandals for, and why those?
# 2. Set `overrides = {"forget.scenario": "random", "forget.count": 100}`. Why does the retrained model name most of
#    the forget images right, and what does that say about judging a method by its forget accuracy alone?
#
# **Next:** [01 · Entangled concepts](01_entanglement.ipynb) asks which classes share features with the forgotten one.
