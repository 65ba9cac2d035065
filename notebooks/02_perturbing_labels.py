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
# # 02 · A guide chooses the perturbing labels
#
# [← 01](01_entanglement.ipynb) · [paper: section 4.1, eq. 4-8](https://arxiv.org/abs/2602.17088) ·
# code: [megu/perturbing_labels.py](../megu/perturbing_labels.py) · [03 →](03_noise_pair.ipynb)
#
# **Question.** Which other class should each forget image be pushed to, and who says so?
#
# | reads | writes | feeds |
# |---|---|---|
# | original model, exemplars of every class, views of notebook 01 | answers, transition matrix $T$ of every source, perturbing labels | `figure3_transition_matrix` |
#
# A forget image is fine-tuned under another label than its own. The paper lets a multimodal LLM, the **guide**, say
# which classes are alike, and takes a class that is near but not the nearest. Near is meant by the guide's ranking:
# whether the class shares anything with the forgotten one is measured below.
#
# **The guide here is not a multimodal LLM.** The default, `composed`, is made of two small pretrained models that pip
# installs: an ImageNet network puts an image into words, a sentence model judges how well the words fit each class
# name. One of your own takes its place by two settings, e.g. `guide.source=mllm` and `guide.path`
# ([megu/guide](../megu/guide/README.md)). Whether the guide matters is asked in the ablation (A12).

# %%
import os
import re
from contextlib import suppress

import numpy as np
import pandas as pd
from IPython.display import Markdown
from ipywidgets import interact

from megu.core.train import predict
from megu.figures import heatmaps, overview
from megu.figures import results as figures
from megu.guide import GuideUnavailableError
from megu.guide.agreement import nearest
from megu.guide.composed import TEMPERATURE, WORDS, embed_text, image_outputs, imagenet_labels
from megu.guide.prompt import PROMPT
from megu.measure.views import agreement as ordered_alike
from megu.methods.megu import choose_labels
from megu.perturbing_labels import association, perturbing_labels, similarity, transition_matrix
from megu.runs.claims import finding, invariant
from megu.runs.experiment import Experiment
from megu.settings.values import check_parameters

# %% tags=["parameters"]
profile: str = "quick"  # quick, small or paper
seed: int = 0  # the repetitions use seed, seed + 1, ...
run_dir: str = ""  # empty: a directory under runs/ that is named after the settings
overrides: dict = {}  # e.g. {"forget.classes": ["sandal"]}

# %%
check_parameters(globals())
lab = Experiment(profile, seed, run_dir, overrides, stage="labels")
lab.require("prepare", "entanglement")
images, names, forget = lab.images, list(lab.images.classes), lab.split.forget
K, y, source = len(names), images.y[forget], lab.settings.guide.source
asked = int(y.mode().values)
concept = names[asked]

# %% [markdown]
# ## What the guide is asked about
#
# Exemplars come from the training images, drawn once per data set (A1). Here is the first of each class. The guide is
# asked about every exemplar with every label, in the paper's words:

# %%
exemplars, heard = lab.guide.exemplars(), lab.guide.all_scores()  # of every source that this run has
scores = lab.guide.scores()
print(PROMPT.format(label=concept))
print(f"{len(exemplars)} exemplars x {K} labels = {scores.values.size} questions")
first = [int(np.flatnonzero(scores.of_class == k)[0]) for k in range(K)]
figures.image_grid(images.x[exemplars[first]].cpu() / 255.0, names, columns=K, size=0.75)

# %% tags=["nbval-ignore-output"]
print(re.sub(r" in [\d.]+ s\b", "", lab.run.manifest["notes"][f"guide {source}"]))  # the manifest has the seconds, too

# %% [markdown]
# ## One image, its questions, its answers
#
# The composed guide does not read the question. Its raw score is $s(x, l) = \sum_w p(w \mid x)\,\cos(e(w), e(l))$: what
# the image network sees in words $w$, and how near each word's sentence embedding $e$ is to that of the label. Here is
# that sum for one exemplar, made by hand. Where the run has answers of the tiny multimodal LLM (140 million weights of
# our own), its probability of *True* stands beside it.

# %%
row, panels = first[asked], {}
picture = images.x[exemplars[row]].cpu().numpy()
with suppress(GuideUnavailableError):  # without its weights the answers come from the package
    if source == "composed":
        fit = embed_text(imagenet_labels()) @ embed_text(names).T  # of 1000 words to K labels
        words = fit.max(1).values.topk(WORDS).indices.sort().values  # those that are near to any label
        p = (image_outputs(picture[None])[0][0, words] / TEMPERATURE).softmax(0)
        off = np.abs((p @ fit[words]).numpy() - scores.values[row]).max()
        print(f"largest difference to the guide's own scores: {off:.5f}")
        panels["seen in it: p(w | x)"] = pd.Series(p.numpy(), [imagenet_labels()[w] for w in words])

# %%
panels[f"{source}: raw s(x, l)"] = pd.Series(scores.values[row], names)
if "tiny" in heard:
    raw = np.array([answer.raw for answer in heard["tiny"].answers]).reshape(-1, K)[row]
    panels["tiny LLM: P(True)"] = pd.Series(1 / (1 + np.exp(-raw)), names)
overview.answers(picture / 255, f"an exemplar: {concept}", panels, concept)

# %% [markdown]
# The raw scores of small guides say more about the label than about the image. So $q = \sigma(z)$ is a **calibrated**
# score: $z$ is the score less the mean of its label over all exemplars, in standard deviations of all these
# (`guide.calibration=column`, a departure from the paper, whose $q$ is the probability of *True*).
#
# ## From answers to the matrix (eq. 4-6)
#
# $$S_{kl} = \frac{1}{n_k} \sum_{x \in \text{class } k} q(x, l), \qquad T_{lk} = \frac{S_{kl}}{\sum_i S_{ki}}$$
#
# Row $k$ of $S$ is the mean answer over the exemplars of class $k$; divided by its sum, it is *column* $k$ of $T$. One
# row by hand, that of the class to be forgotten, as an example: for its own images eq. 7 multiplies this very column by
# zero, and the columns of other classes make the ranking.

# %%
z = scores.values - scores.values.mean(0)
q = 1 / (1 + np.exp(-z / z.std())) if scores.calibration == "column" else scores.values
S_k = q[scores.of_class == asked].mean(0)  # eq. 4-5
T_k = S_k / S_k.sum()  # eq. 6
sim = lab.similarity()
transition = transition_matrix(sim)
print(f"sum of the column {T_k.sum():.3f}; by hand less the code's: {np.abs(T_k - transition[:, asked]).max():.5f}")
pd.DataFrame({f"S, row {concept}": S_k, f"T, column {concept}": T_k}, names).T.round(3)

# %%
heatmaps.matrix(
    transition,
    names,
    title=f"T of the guide: nearest to {concept} is {names[nearest(sim)[asked]]}",
    xlabel="class k (framed: its nearest other class)",
    ylabel="candidate label",
    label="share of class k's similarity",
    marked=[(j, k) for k, j in enumerate(nearest(sim))],
)

# %% [markdown]
# ## From the matrix to a label (eq. 7-8)
#
# $$R = T\,(\tilde I_y f(x)), \qquad y^{perturb} = \text{index of the } \lfloor K\tau \rfloor\text{-th largest entry of } R$$
#
# $\tilde I_y$ sets the entry of the image's own class $y$ to zero. Every other class passes its probability $f(x)$ on to
# the classes that are like it. The forgotten class itself may not be chosen (A2). Near enough to keep what is shared,
# far enough to be wrong: this is what the paper has $\tau$ for. One image by hand, the one of the overview picture: the
# most typical of those that the original names right.

# %%
task, settings = lab.task("megu", lab.settings.seed), lab.parameters("megu")
posterior, tau = predict(task.original, images, forget).softmax(1), settings.labels.tau
y_perturb = choose_labels(task, settings)
usual = (posterior.argmax(1) == y) & (y_perturb == y_perturb.mode().values)
at = overview.typical(images.batch(forget).cpu().numpy(), usual.cpu().numpy())

# %%
f_x = posterior[at].cpu().numpy().copy()
f_x[y[at]] = 0  # the image's own class
R = transition @ f_x  # eq. 7
barred = list(dict.fromkeys([int(y[at]), *lab.forgotten]))
order = [int(k) for k in np.argsort(-R, kind="stable") if k not in barred]
rank = max(1, int(K * tau + 1e-9))  # eq. 8
label = order[min(rank, len(order)) - 1]
main = int(f_x.argmax())
print(f"{100 * f_x[main] / f_x.sum():.1f} % of R is the column of {names[main]} in T")
print(f"K = {K}, tau = {tau}: entry {rank} of R is {names[label]}; by the code {names[y_perturb[at]]}")

# %%
every = association(transition, posterior, y)
pair = zip(posterior.cpu(), every.cpu(), strict=True)
beliefs = [pd.DataFrame({"posterior": p, "association": r}, names) for p, r in pair]
pixels = images.x[forget].cpu().numpy() / 255
overview.ranking(pixels[at], beliefs[at], [names[k] for k in barred], names[label])

# %% [markdown]
# In JupyterLab two sliders stand here: another $\tau$, another image. (Executed copies hold no widgets.)

# %%
if "TQDM_DISABLE" not in os.environ:  # somebody looks
    interact(
        lambda tau=tau, image=at: overview.ranking(
            pixels[image],
            beliefs[image],
            list(dict.fromkeys([names[y[image]], *(names[k] for k in lab.forgotten)])),
            names[perturbing_labels(transition, posterior[[image]], y[[image]], exclude=lab.forgotten, tau=tau)[0]],
        ),
        tau=(0.1, 1.0, 0.1),
        image=(0, len(y) - 1),
    )

# %% [markdown]
# ## All forget images
#
# Three rankings side by side: the paper's, the nearest class, the farthest one; and what the model alone would say
# without any guide.

# %%
options = {"ranked (the paper's)": "rank", "nearest": "nearest", "farthest": "farthest"}
chosen = {
    name: perturbing_labels(transition, posterior, y, exclude=lab.forgotten, tau=tau, choice=choice)
    for name, choice in options.items()
}
chosen["model alone, no guide"] = posterior.scatter(1, y[:, None], 0).argmax(1)
shares = {name: np.bincount(labels.cpu(), minlength=K) / len(labels) * 100 for name, labels in chosen.items()}
distribution = pd.DataFrame(
    [{"choice": n, "label": names[k], "share": v[k]} for n, v in shares.items() for k in range(K)]
)
lab.run.table("label_distribution.csv", lambda: distribution)
figures.label_distribution(distribution)

# %% [markdown]
# ## Near enough to keep what is shared?
#
# The perturbing label is meant to be a class that shares patterns with the forgotten one. Notebook 01 says which
# classes do: the entanglement index of each class with the forgotten one, against the share of forget images that are
# pushed to it. The $\lfloor K\tau \rfloor$-th class of the ranking need not be a relative: most labels can be of classes
# that share nothing (index 0) or whose patterns are silent where the forgotten class's are active (below 0).

# %%
columns = ["class_b", "index", "low", "high"]
pairs = lab.run.table("entanglement.csv", None).query("layer == 'head input' and class_a == @concept")
ranked = distribution[distribution["choice"] == next(iter(options))].set_index("label")["share"]
beside = pairs[columns].set_index("class_b").join(ranked).sort_values("share", ascending=False)
most, mean = beside.iloc[0], np.average(beside["index"], weights=beside["share"])
figures.share_and_index(beside, concept)

# %% [markdown]
# ## Kept for the appendix
#
# Every source that this run has is asked the same questions: embeddings of images or of names alone, language models,
# the classifier itself, and as control the composed guide with exchanged labels. Their matrices, whether their
# neighbours are sensible (against a list that was written before any guide was asked, and against shuffled names), how
# far they agree with each other and with the views of notebook 01: written here, read in the
# [guides' page](../megu/guide/README.md). Draws 100-102 are fresh exemplars; what had to be chosen for a guide was
# chosen on validation images.

# %%
sims = {name: similarity(one.values, one.of_class, K, one.calibration) for name, one in heard.items()}
tidy = [
    {"guide": g, "class": names[k], "candidate": names[j], "similarity": s[k, j], "transition": t[j, k]}
    for g, s, t in [(g, s, transition_matrix(s)) for g, s in sims.items()]
    for k in range(K)
    for j in range(K)
]
kept = lab.run.table("transition.csv", lambda: pd.DataFrame(tidy))
single, both = lab.agreement(draws=range(100, 103))
agreement, kept = lab.run.table("agreement.csv", lambda: single), lab.run.table("concordance.csv", lambda: both)

# %%
views = {
    name: part.pivot(index="class_a", columns="class_b", values="similarity").loc[names, names]
    for name, part in lab.run.table("views.csv", None).groupby("view", sort=False)
}
alike = [ordered_alike(views, transition_matrix(found)).assign(guide=name) for name, found in sims.items()]
alike = lab.run.table("view_agreement.csv", lambda: pd.concat(alike, ignore_index=True))
alike[alike["guide"] == source].drop(columns="guide").round(2)

# %% [markdown]
# Above: does the guide see what the network sees? *order* is the rank correlation of a view's other classes with column
# $k$ of $T$, mean over the classes $k$ with its 95 % interval; *shuffled* is what shuffled class names reach.
#
# ## What was found

# %%
own, control = (agreement[agreement["guide"] == name] for name in (source, "shuffled"))
seen = alike[(alike["guide"] == source) & (alike["view"] == "entanglement index")].iloc[0]
related = "a relative" if most["low"] > 0 else "no relative"
Markdown(
    f"The guide ({source}) calls {names[nearest(sim)[asked]]} the nearest class to {concept}. It orders the classes "
    f"as the network's features do with a rank correlation of {seen['order']:.2f}; shuffled class names reach "
    f"{seen['shuffled']:.2f}. With K = {K} and tau = {tau} an image gets entry {rank} of its ranking: the largest share "
    f"of {concept} images ({most['share']:.1f} %) is pushed to {most.name}, {related} of it by entanglement index "
    f"({most['index']:.2f}). The mean index of the labels, by share, is {mean:.2f}; the most entangled class has "
    f"{beside['index'].max():.2f}."
)

# %% [markdown]
# The list of sensible neighbours is about nine clothing classes and the bounds are those of the default guide, so those
# lines are there only where both are.

# %%
listed = source == "composed" and own["of"].max() == 9
hits, exchanged = own["hits"].mean(), control["hits"].mean()
of_guide = [
    finding("classes of 9 whose neighbour by the guide is sensible, mean over draws", hits, ">=", 6, listed),
    finding(
        "classes whose neighbour is sensible with shuffled names, largest mean", own["shuffled"].max(), "<", 4, listed
    ),
    finding(
        "share of shuffles with as many sensible neighbours as the guide, largest", own["p"].max(), "<=", 0.05, listed
    ),
    finding(
        "with exchanged labels fewer classes have a sensible neighbour", exchanged, "<", hits, listed and len(control)
    ),
    finding(f"the class that most {concept} images are pushed to shares patterns with it: index", most["low"], ">", 0),
]

# %%
barred = settings.labels.exclude_forgotten  # else the forgotten class may be chosen (A2)
among = len(set(y_perturb.tolist()) & set(lab.forgotten))
claims = [
    invariant("every column of T sums to 1: largest departure", abs(transition.sum(0) - 1).max(), "<", 1e-6),
    invariant("images with their own class as perturbing label", (y_perturb == y).sum(), "==", 0, barred),
    invariant("forgotten classes among the perturbing labels", among, "==", 0, barred),
    *of_guide,
]
print(*lab.seal(claims), sep="\n")

# %% [markdown]
# ## Exercises
#
# 1. Set `tau = 0.1` (by the first slider, or before the figure of all forget images). Which labels are chosen now, and
#    are they nearer to the forgotten class by the index?
# 2. Take another guide: `overrides = {"guide.source": "features"}` needs no language at all. Does the matrix change
#    more than the labels do?
#
# **Next:** [03 · The noise pair](03_noise_pair.ipynb) makes the noise that each image gets with its label.
