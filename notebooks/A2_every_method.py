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
# # A2 · Every method
#
# **Question.** Which method comes nearest to the retrained model, where does MeGU stand, and which would one take for
# which request?
#
# | reads | writes | feeds |
# |---|---|---|
# | tracked tables `comparison`, `disentanglement_all`, `predictions`, `grid_small`, `ablation`, `ablation_cifar100` | nothing | `comparison`, `disentanglement`, `table1_results` |
#
# [Notebook 05](05_evaluate.ipynb) evaluates the methods of one run by five metrics. Here stand all methods of
# [`megu/methods`](../megu/methods/README.md), in three scenarios: a whole class, one class inside a superclass, single
# images. `make comparison` measured them over seeds of pre-training and of unlearning.
#
# - **Gap to retrain**: a metric of the unlearned model minus that of the model that was retrained without the forgotten
#   images, with the same seed. 0 is the goal.
# - **ToW** (tug-of-war): product over forgotten, retained and test accuracy of $1 - |\text{gap}|$; 1 = as the retrained
#   model.
# - **Noise floor**: what the difference of two sets of retrained models would span. A gap inside it cannot be told from
#   0. Of ToW: two retrained models of different seeds beside each other, below.
# - **Attacks**: the original is the control that must be found, the retrained model the goal, unseen images the other
#   side. An attack that does not find the original says nothing of what is left.
# - **strict** metrics use true accuracies and unseen images of the same classes; **compat** ones repeat the definitions
#   of the public code.

# %%
import sys
from pathlib import Path

from IPython.display import Markdown

from megu.runs.claims import finding, statements
from megu.settings.files import shipped
from megu.settings.values import check_parameters

sys.path.insert(0, str(shipped("paper_figures")))

import comparison
import disentanglement
import table1_results
from shared import findings, findings_more, rulers, tracked, which_method

# %% tags=["parameters"]
data_dir: str = ""  # folder of tidy tables; empty: those that come with megu

# %%
check_parameters(globals())
data = Path(data_dir) if data_dir else shipped("paper_figures") / "data"
about = tracked.source(data, "comparison_source")
print(f"profile {about['profile']}, seeds {about['numbers']} of pre-training x {about['repeats']} of unlearning")
print(f"{about['retain_images']} retain images, {about['shadows']} shadow models, {', '.join(about['scenarios'])}")

# %% [markdown]
# ## Forgetting against what is retained: a whole class
#
# The star is the goal. A method to its right has forgotten less, one below it has paid with retained images.

# %%
fig = comparison.pareto(data)
fig.set_dpi(85)
fig

# %% [markdown]
# ## Gaps to retrain

# %%
fig = comparison.gaps(data)["class"]  # paper_figures/out has the other two
fig.set_dpi(75)
fig

# %% [markdown]
# **Inside a superclass** the retrained model still names most forgotten images right, by what they share with the rest.
# So a method that forgets all of them is far from the goal, as one that forgets nothing is where a whole class goes.

# %%
Markdown(findings_more.subclass(data))

# %% [markdown]
# **Single images**: the original itself is near the goal. What is left to compare is whether an attack finds the
# forgotten ones.

# %%
Markdown(findings_more.random(data))

# %%
Markdown(
    f"<details><summary>All numbers, with attacks, probes, relearning and time</summary>\n\n{comparison.tables(data)}\n\n</details>"
)

# %% [markdown]
# ## What one column hides
#
# *Membership attacks* say whether a forgotten image was seen in training: by its loss, by a likelihood ratio against
# shadow models ([LiRA](https://arxiv.org/abs/2112.03570)), by the entropy rule of the public [SSD
# code](https://arxiv.org/abs/2308.07707). *Relearning* counts the steps until the class is back, a *probe* is a linear
# classifier on frozen features.

# %%
Markdown(
    tracked.bullets(*(say(data) for say in (findings.attacks, findings_more.over_forgetting, findings_more.memory)))
)

# %% [markdown]
# ## Where the forget images go
#
# A model that has forgotten a concept takes its images for what they resemble, as the retrained one does.

# %%
table1_results.predictions(data)

# %% [markdown]
# ## Were the right patterns cut?
#
# Unlearning should **suppress** the patterns unique to the forgotten concept and **keep** those it shares ([notebook
# 01](01_entanglement.ipynb)). *In place* reads the same units before and after; *aligned* reads them through a linear
# map that is fitted on retained images, so that the retrained model can be compared.

# %%
fig = disentanglement.scores(data)
fig.set_dpi(75)
fig

# %%
Markdown(f"<details><summary>The numbers</summary>\n\n{disentanglement.table(data)}\n\n</details>")

# %% [markdown]
# ## Which method when
#
# Few networks, small images, settings tuned on one request: where to begin, not a ranking. ToW at the worst of the
# requests of its kind.

# %%
Markdown(which_method.advice(data))

# %%
Markdown(f"<details><summary>Request by request</summary>\n\n{which_method.page(data)}\n\n</details>")

# %% [markdown]
# ## What was found
#
# Which method comes nearest to the retrained model, where does MeGU stand, which would one take?

# %%
said = tracked.bullets(findings.forgetting(data), findings.ranking(data), findings.parts(data))
Markdown(said.replace("](paper_figures/", "](../paper_figures/"))

# %% [markdown]
# Where does MeGU stand by other rulers, between the original and the retrained model? *In single seeds*: its lowest and
# highest place by the models of one seed. *Not told apart*: methods whose paired difference to MeGU has an interval
# with 0.

# %%
Markdown(rulers.ruled(data))

# %% [markdown]
# **Try it.** (1) `tracked.compared(data).loc[("random", "mia_lira_online_auc")]`: which attack would you trust for
# single images? (2) Change `CLOSE` in `which_method` to a tenth: whose row "not told apart" grows?
#
# Next: [A3, one thing at a time](A3_one_thing_at_a_time.ipynb). Back: [05, the honest comparison](05_evaluate.ipynb).

# %%
compared, score, tow = tracked.compared(data), tracked.disentangled(data), findings.ranked(data)["mean"]
metrics = ("acc_forget_test", "mia_loss_auc", "mia_lira_online_auc")
left, loss, lira = (compared.loc[("class", metric)] for metric in metrics)
aligned = score.loc[("aligned", "suppressed"), "mean"]

# %%
claims = [
    finding("MeGU comes nearest to retraining, class-wise: its place by ToW", tow.rank(ascending=False)["megu"], "<=", 1),
    finding("MeGU has forgotten the class: test images named right, points from retraining", left.loc["megu", "gap"], "<=", 5),
    finding("MeGU has forgotten the class, upper end of the 95 % interval: points from retraining", tracked.end(left.loc["megu"], 1), "<=", 5),
    finding("the original has not forgotten the class: test images named right, points from retraining", left.loc["original", "gap"], ">", 5),
    finding("loss attack: MeGU is not shown to be above retraining, lower end of the gap", tracked.end(loss.loc["megu"], -1), "<=", 0),
    finding("loss attack, control: the original is above retraining, lower end of the gap", tracked.end(loss.loc["original"], -1), ">", 0),
    finding("likelihood-ratio attack: MeGU is not shown to be above retraining, lower end of the gap", tracked.end(lira.loc["megu"], -1), "<=", 0),
    finding("likelihood-ratio attack, control: the original is above retraining, lower end of the gap", tracked.end(lira.loc["original"], -1), ">", 0),
    finding("the guided labels are better than random ones: ToW", tow["megu"], ">", tow["megu-random-labels"]),
    finding("MeGU suppresses as much of the unique patterns as retraining (aligned)", aligned["megu"], ">=", aligned["retrain"]),
]  # fmt: skip
print(*statements(claims), sep="\n")
