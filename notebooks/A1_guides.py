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
# # A1 · Every guide, side by side
#
# **Question.** Which classes do eight sources and a control call alike, do they agree, and does forgetting depend on
# which of them is asked?
#
# | reads | writes | feeds |
# |---|---|---|
# | tracked tables of guides (`transition`, `agreement`, `concordance`, `view_agreement`, `tiny_guide`), `ablation`, `cost` | nothing | `figure3_transition_matrix` |
#
# [Notebook 02](02_perturbing_labels.ipynb) asks one guide and follows its answer to a perturbing label. Here stand all
# sources, as they were measured: nothing is computed again, every number comes from a table in `paper_figures/data`.
# The code is in [`megu/guide`](../megu/guide/README.md). The paper asks a multimodal LLM (eq. 4-5, section 4.1 of
# [arXiv 2602.17088](https://arxiv.org/abs/2602.17088)); whether one is needed is open point A12 of [the assumption
# log](A3_one_thing_at_a_time.ipynb).

# %%
import sys
from pathlib import Path

from IPython.display import Markdown

from megu.figures import changes, heatmaps
from megu.measure.summary import against_default, half_width
from megu.runs.claims import finding, statements
from megu.settings.files import shipped
from megu.settings.values import check_parameters

sys.path.insert(0, str(shipped("paper_figures")))

from shared import findings_cost, findings_guides
from shared.tracked import apart, change, end, listed, table

# %% tags=["parameters"]
data_dir: str = ""  # folder of tidy tables; empty: those that come with megu

# %%
check_parameters(globals())
data = Path(data_dir) if data_dir else shipped("paper_figures") / "data"
table(data, "agreement").groupby("guide", sort=False).size().rename("draws of exemplars").to_frame().T

# %% [markdown]
# | source | what says which classes are alike |
# |---|---|
# | composed | the default: an ImageNet network's words for each exemplar, judged by a sentence model |
# | tiny | a multimodal LLM of our own: image model, trained connector, small language model; the paper's True/False question |
# | features | class-mean features of the image model: no language |
# | names, llm-names | a sentence model on class names, a small language model on sentences about them: no images |
# | posterior, confusion, own-features | the classifier itself: its softmax, its mistakes on validation images, its class-mean features |
# | shuffled | the composed guide with exchanged labels: the negative control |
#
# ## Their transition matrices (eq. 6)
#
# Column $k$ of $T$ says how class $k$'s similarity is shared among all classes; each matrix has colours of its own.

# %%
found = table(data, "transition")
names = list(found["class"].unique())
matrices = {
    guide: part.pivot(index="candidate", columns="class", values="transition").loc[names, names].to_numpy()
    for guide, part in found.groupby("guide", sort=False)
}
heatmaps.matrices(matrices, names)

# %% [markdown]
# ## Are their neighbours sensible?
#
# For most clothing classes a list of sensible neighbours was written before any guide was asked
# (`megu/settings/class_names.py`). *hits* counts the classes whose nearest neighbour is on it, *shuffled* is the same
# count with shuffled names (chance), *p* the share of shuffles with as many hits.

# %%
neighbours = table(data, "agreement").groupby("guide")[["hits", "of", "shuffled", "p"]].mean()
neighbours.sort_values("hits", ascending=False).round(3).rename_axis(index=None, columns="guide")

# %% [markdown]
# ## Do they agree with each other, and with the network?
#
# Two guides that agree would give the same perturbing labels. Rank correlation of the other classes, mean over draws of
# exemplars:

# %%
pairs = table(data, "concordance").groupby(["first", "second"], sort=False)["order"]
pairs.mean().unstack(sort=False).map("{:.2f}".format).replace("nan", "").rename_axis(index=None, columns=None)

# %% [markdown]
# The same between $T$ and five views of the network's features ([notebook 01](01_entanglement.ipynb)); shuffled class
# names reach the last column.

# %%
views = table(data, "view_agreement")
wide = views.pivot(index="view", columns="guide", values="order")[views["guide"].unique()]
wide = wide.assign(**{"97.5 % of shuffled names": views.groupby("view")["shuffled"].max()}).round(2)
wide.rename_axis(index=None, columns="view")

# %% [markdown]
# ## Does forgetting depend on the source? (A12)
#
# `make ablation` runs MeGU with each source but llm-names, everything else alike, on Fashion alone. The rows *labels* leave $T$ out: random labels are
# what a uniform matrix would give, *nearest* and *farthest* take the first and the last class of the ranking,
# *posterior* is the model's own second guess.

# %%
effect = against_default(table(data, "ablation"))
effect = effect[effect["point"] == "A12"]
changes.ablation(effect, ["tow", "acc_forget_test", "acc_retain_test"])

# %% [markdown]
# ## How good is a small multimodal LLM, and what does asking cost?
#
# The tiny one of this project ([its card](../megu/guide/assets/tiny_mllm.md)) saw images of these ten classes in
# training, but not the exemplars; so it was also asked about classes that it had not seen.

# %%
Markdown(findings_guides.quality(data))

# %%
Markdown(findings_cost.guides(data))

# %% [markdown]
# ## What was found
#
# Which classes do the sources call alike, do they agree, does forgetting depend on which of them is asked?

# %%
order, tow = pairs.mean(), effect[effect["metric"] == "tow"].set_index("variant")
guides, own = tow[tow.index.str.startswith("guide: ")], neighbours["hits"]
away, worst = apart(guides, value="change"), guides["change"].idxmin()

# %%
shuffled = guides.loc["guide: shuffled"]
needed = "do not show that a guide is needed" if end(shuffled, 1, "change") >= 0 else "show that it is"
control = order[order.index.get_level_values("second") == "shuffled"].max()
Markdown(
    f"The composed guide names a sensible neighbour for {own['composed']:.1f} of {neighbours['of'].max():.0f} classes, with exchanged"
    f" labels for {own['shuffled']:.1f}. Composed and tiny order the other classes alike (rank correlation"
    f" {order['composed', 'tiny']:.2f}; exchanged labels and any source at most {control:.2f}). Yet {len(away)} of {len(guides)}"
    f" sources move ToW (95 % interval leaves 0 out: {listed(name.removeprefix('guide: ') for name in away.index)}), the most by"
    f" {guides.loc[worst, 'change']:+.3f}, and exchanged labels by {change(shuffled)}: these seeds {needed}. Such an interval does not show that all sources are alike."
)

# %% [markdown]
# **Try it.** (1) Draw `heatmaps.matrix(matrices["names"], names, label="share")`: which two classes are alike by name
# alone? (2) Which rows of `effect` move retained accuracy and not ToW?
#
# Next: [A2, every method](A2_every_method.ipynb). Back: [02, one question and its answer](02_perturbing_labels.ipynb).

# %%
draws = table(data, "agreement")
claims = [
    finding("classes whose neighbour by the composed guide is sensible, more than chance", own["composed"], ">", neighbours["shuffled"].max()),
    finding("with exchanged labels fewer classes have a sensible neighbour than by the composed guide", own["shuffled"], "<", own["composed"]),
    finding("hits move with the draw of exemplars: half of the 95 % interval", half_width(draws.query("guide == 'composed'")["hits"]), "<", 1),
    finding("composed and tiny agree more than any pair with exchanged labels", order["composed", "tiny"], ">", control),
    finding("exchanged labels lower ToW: upper end of the 95 % interval of the change", end(shuffled, 1, "change"), "<", 0),
]  # fmt: skip
print(*statements(claims), sep="\n")
