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
# # A3 · One thing at a time
#
# **Question.** What did the paper leave open, what was assumed here, and which of these choices matter?
#
# | reads | writes | feeds |
# |---|---|---|
# | tracked tables `ablation`, `ablation_cifar100`, `tuning` | nothing | `ablation` |
#
# `make ablation` changes MeGU's settings one by one ([`megu/settings/cells.py`](../megu/settings/cells.py)) on the
# default request. Each change is measured against MeGU of the same seed, so that the seed's own luck drops out. The
# roles are those of appendices E (sensitivity; it could not be read, so it is what the main text says of it) and F
# (ablation) of [arXiv 2602.17088](https://arxiv.org/abs/2602.17088). Each change is measured without the check of
# A16, which the default has. ToW: 1 = as the retrained model ([A2](A2_every_method.ipynb)).

# %%
import sys
from pathlib import Path

from IPython.display import Markdown

from megu.runs.claims import finding, statements
from megu.settings.files import shipped
from megu.settings.values import check_parameters

sys.path.insert(0, str(shipped("paper_figures")))

import ablation
from shared import assumptions, cifar100, findings, findings_cost, findings_more, mechanism
from shared.tracked import ablated, apart, change, end, table

# %% tags=["parameters"]
data_dir: str = ""  # folder of tidy tables; empty: those that come with megu

# %%
check_parameters(globals())
data = Path(data_dir) if data_dir else shipped("paper_figures") / "data"
tow = ablated(data).xs("tow", level="metric").drop(index=["default", "retrain"], level="point")
twice = tow["change"].round(9).duplicated().sum()  # tau 0.1 takes the nearest class
print(f"{len(tow)} changes, {twice} of them under two names, {tow['seeds'].max()} seeds each")

# %% [markdown]
# ## The method's numbers: sensitivity
#
# $\tau$ names the perturbing label, the $\lfloor K\tau \rfloor$-th most associated class (eq. 8); the weights are those
# of $N_{pos}$ and $N_{neg}$ in the sum $x + s\,(\alpha N_{pos} + (1 - \alpha) N_{neg})$ (eq. 11), with $s\alpha$ and
# $s(1 - \alpha)$; $\lambda$ weighs the noise's squared norm and *steps* optimise it (eq. 9-10).

# %%
ablation.sensitivity(data)

# %% [markdown]
# ## Other labels, other uses of the noise
#
# A2: may the forgotten class be chosen? A7: a noise for each image. A8: image and noise optimised together. A9: how the
# pair enters. A10: eq. 11 as printed; A15: with a stronger penalty. A12: who says which classes are alike
# ([A1](A1_guides.ipynb)). A14: the mode in which noise is learnt. A16: the clean forget images, too. *noise*: only one
# of the pair, none, or the same values at shuffled places.

# %%
ablation.sources(data)

# %%
Markdown(f"<details><summary>The numbers</summary>\n\n{ablation.table(data)}\n\n</details>")

# %% [markdown]
# ## Where the pair does not forget
#
# On Fashion nearly every change forgets. On rocket of CIFAR-100 the pair as tuned leaves much of the class, so this is
# where the uses of the noise can be told apart (`make ablation-cifar100`, two seeds: an interval of two says little, so
# each value is printed). There the check brings MeGU to what labels alone do, and no farther.

# %%
Markdown(findings.printed(data).partition(" [Variants")[0])

# %%
Markdown(cifar100.variants(data))

# %%
Markdown(f"<details><summary>The numbers</summary>\n\n{ablation.cifar100(data)}\n\n</details>")

# %% [markdown]
# ## When does the pair help, and when does it hide the image?
#
# Fine-tuning sees a forget image only with the pair added. Where the original takes that for another class already,
# little is left to learn, and the clean image may stay known. So the pair of eq. 11 was made weaker and stronger
# (lambda, scale), on originals that know their images a little or by heart, with the guide's and with random labels, and
# without the check (`make mechanism`).

# %%
ablation.mechanism(data)

# %%
Markdown(mechanism.said(data))

# %% [markdown]
# ## How many images and epochs does it take?

# %%
Markdown(findings_cost.budget(data))

# %% [markdown]
# ## How the settings were chosen
#
# Every method had as many trials of the same search on **validation** images of seeds that no table has; the chosen trial
# has the best score, retained minus forgotten accuracy there. MeGU's variants have its settings and no search of their
# own.

# %%
trials = table(data, "tuning").groupby("method", sort=False)
trials.agg(trials=("trial", "size"), median=("score", "median"), chosen=("score", "max")).round(1).rename_axis(
    index=None, columns="method"
)

# %% [markdown]
# ## The assumption log
#
# Here A1-A16 are the points of the log, not the notebooks of this appendix; the code cites each where it was decided.
# *Measured* is the change of ToW, if nothing else is said.

# %%
Markdown(assumptions.table(data).replace("](#", "](../paper_figures/README.md#"))

# %% [markdown]
# ## What was found
#
# What did the paper leave open, and which of the choices matter?

# %%
away = apart(tow, value="change").sort_values("change")
kept = tow.drop(index=away.index)
guides = tow.loc["A12"]
noise, mixed = tow.loc[("noise", "none")], tow.loc[("noise", "random")]
meaning = "is not shown to matter" if abs(mixed["change"]) <= mixed["change_half_width"] else "matters"
(point, variant), widest = away.index[0], kept["change_half_width"].idxmax()
Markdown(
    f"{len(away)} of {len(tow)} changes move ToW (95 % interval leaves 0 out, not corrected for their number); the largest is"
    f" {point}, {variant}: {change(away.iloc[0])}. Without the noise ToW changes by {change(noise)}, with the same noise at"
    f" shuffled places by {change(mixed)}: what the noise shows {meaning}. The other"
    f" {len(kept)} intervals include 0, which is no proof of equality: the widest, {' '.join(widest)}, reaches"
    f" {kept['change_half_width'].max():.3f} to both sides."
)

# %%
Markdown(findings_more.ablation(data))

# %% [markdown]
# **Try it.** (1) `ablated(data).xs("acc_retain_test", level="metric")`: which changes cost retained accuracy although
# ToW hides it? (2) Which row of the log would you measure first, and by which setting?
#
# Next: [A4, the paper's tables](A4_the_papers_tables.ipynb). Back: [04, Algorithm 1](04_unlearn.ipynb).

# %%
random, again = guides.loc["labels: random"], guides.loc["labels: nearest"]
claims = [
    finding("without noise ToW falls: upper end of the 95 % interval", end(noise, 1, "change"), "<", 0),
    finding("with shuffled noise ToW falls: upper end of the 95 % interval", end(mixed, 1, "change"), "<", 0),
    finding("with random labels ToW falls: upper end of the 95 % interval", end(random, 1, "change"), "<", 0),
    finding(
        "with the nearest class as label ToW falls: upper end of the 95 % interval", end(again, 1, "change"), "<", 0
    ),
    finding("changes that raise ToW (95 % interval leaves 0 out)", len(apart(tow, 1, "change")), "==", 0),
]
print(*statements(claims), sep="\n")
