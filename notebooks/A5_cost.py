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
# # A5 · What a run costs
#
# **Question.** How do seconds and memory grow with the images to forget, the images to retain, the classes and the
# weights, and how many GPU hours do the paper's experiments need, and ImageNet's?
#
# | reads | writes | feeds |
# |---|---|---|
# | `paper_figures/data/cost.csv`, measured by `megu cost measure --out paper_figures/data` | nothing: it stands alone | `figure4_time` |
#
# Seconds are measured on a CPU, GPU hours are arithmetic: operations are counted, and the share of a card's speed that
# is reached is **assumed, not measured**. The last section but one says how to replace the assumption.

# %%
import json
from dataclasses import astuple

import pandas as pd
from IPython.display import Markdown

from megu.cost import predict as cost
from megu.cost.flops import forward_flops
from megu.cost.gpu import CARD
from megu.cost.stages import BATCH
from megu.figures import cost as cost_figures
from megu.runs.claims import finding, statements
from megu.settings.files import shipped
from megu.settings.values import check_parameters

pd.set_option("display.float_format", lambda number: f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}")
data = shipped("paper_figures") / "data"

# %% tags=["parameters"]
profile: str = "paper"  # whose grid is predicted
seeds: int = 3  # of pre-training

# %% [markdown]
# ## What was measured
#
# Each stage runs several times after one to warm up; the seconds are those of the processor, of one thread, so that
# what else runs on the machine disturbs little. Memory is that of live tensors, in a run of its own, and of the whole
# process, which is all there is where numpy works without tensors (NaN: the transition matrix, the keys of questions).
# *passes* is what the seconds should be proportional to: images times epochs, images times steps of noise, exemplars
# times $K^2$ for the transition matrix. Two stages have a second term, *entries*: the labels of n images take $n K^2$
# for a product of matrices and $n K$ numbers that are sorted, and a guide looks at n images once for all K labels, then
# answers $n K$ questions; it is asked with several K, to tell the two apart.

# %%
check_parameters(globals())
table = cost.fitted(pd.read_csv(data / "cost.csv"))
source = json.loads((data / "cost_source.json").read_text())
print("seconds", source["seconds"])
pd.DataFrame(source["measured"]).T.drop(columns="when")

# %% [markdown]
# ## A line through it
#
# $$\text{seconds} = a + b \cdot \text{passes} + c \cdot \text{entries}, \qquad \min_{a, b, c \ge 0} \sum_i \left(\frac{a + b\,n_i + c\,e_i - t_i}{t_i}\right)^2$$
#
# The errors are relative, so that small points count as much as large ones.

# %%
cost_figures.costs(table)

# %%
lines = cost.lines(table)
columns = {"overhead, ms": 1e3, "each, microseconds": 1e6, "entry, microseconds": 1e6}
pd.DataFrame(
    [[scale * part for scale, part in zip(columns.values(), astuple(line), strict=True)] for line in lines.values()],
    list(lines),
    columns,
)

# %% [markdown]
# How well does it predict? Every number of passes is left out in turn, the largest too, the line goes through the other
# points, and those left out are predicted (of a guide also images with a number of labels that no other point has). The
# control: the same with the seconds of each stage shuffled.

# %%
errors = cost.held_out(table)
mixed = table.assign(
    seconds=table.groupby("stage")["seconds"].transform(lambda part: part.sample(frac=1, random_state=seeds).to_numpy())
)
control = cost.held_out(mixed)
quality = pd.DataFrame({"points": errors.groupby("stage", sort=False).size()})
for name, how in (("median", "median"), ("largest", "max")):
    for kind, found in (("error", errors), ("shuffled", control)):
        quality[f"{name} {kind}, %"] = 100 * found["error"].abs().groupby(found["stage"]).agg(how)
quality.rename_axis(index=None, columns="stage")

# %% [markdown]
# ## From operations to seconds
#
# A forward pass of $f$ operations, a backward pass of $2f$: a training step of n images takes $3 f n$. How fast they
# are done depends on the network: small ones spend their time elsewhere.

# %%
cost_figures.steps(table)

# %%
steps = table[table["stage"].str.startswith("training step")].assign(speed=lambda part: part["gflop"] / part["seconds"])
steps[["stage", "speed"]].rename(columns={"speed": "GFLOP a second"}).round(0)

# %% [markdown]
# On a GPU with a peak of $P$ operations a second, of which a share $u$ is reached,
#
# $$\text{hours} = \frac{3 f \cdot \text{images} \cdot \text{epochs}}{3600\, P u}.$$
#
# Training is in bfloat16; noise, importances and evaluation are in float32 ($2f$ for a noise, whose gradient ends at
# the image, $f$ for an image that is only seen). The stated card and the assumed speeds, $10^{12}$ operations a second:

# %%
gpu = CARD
print(gpu.name)
pd.DataFrame(
    {
        f"{kind}, {end}": {arch: speeds[i] for arch, speeds in getattr(gpu, kind).items()}
        for kind in ("trained", "seen")
        for i, end in enumerate(("low", "high"))
    }
)

# %% [markdown]
# ## The paper's grid
#
# Every cell of Tables 1-4 and 6-8 with every method of its columns, and the public code's variants. Originals are
# shared by data and network, so they and their evaluation have no scenario; *trained*, *noised* and *seen* are passes
# of each model of a row, PFLOP and hours are those of all its models, at the high and at the low speed: $10^{15}$ PFLOP
# $=$ models $\cdot\, (3\,trained + 2\,noised + seen)\, f$. The passes are counted: each method runs on images of four
# pixels, as many and with the same labels as the true ones. MeGU's noises are those of the labels that a guide without
# knowledge chooses.

# %%
grid = cost.grid_cost(profile, seeds, gpu)
grid["what"] = cost.references(grid).map({True: "references and evaluation", False: "unlearning"})
added = ["models", "pflop", "hours_low", "hours_high"]
total = grid[added].sum()
print(
    f"{total['models']:.0f} models and evaluations, {total['pflop']:,.0f} PFLOP, {total['hours_low']:.0f} to {total['hours_high']:.0f} hours on one card"
)
parts = grid.groupby(["arch", "what"])[added].sum()
shares = 100 * parts / parts.groupby("arch").transform("sum")
print(
    "unlearning, share of the hours:",
    ", ".join(f"{arch} {share:.0f} %" for arch, share in shares.xs("unlearning", level="what")["hours_high"].items()),
)
parts.rename_axis(index=[None, None])

# %% [markdown]
# With a card at hand, `python env/gpu_smoke.py --out gpu_smoke.json` measures its speed, and `megu cost predict --smoke
# gpu_smoke.json` prints the same table with it in place of the assumption.
#
# ## The guide
#
# It is asked once per data set: n exemplars of each of K classes with each of K labels. An image is looked at once for
# all its labels, so that
#
# $$\text{seconds} = a + b \cdot n K + c \cdot n K^2$$
#
# and neither of the last two terms can be left out: what a question takes where ten share an image is not what it takes
# where a thousand do. Hours are those of the guides that are small enough for a CPU (without loading them, and without
# the keys of the questions, a line of their own above; the tiny multimodal LLM was asked about at most 100 labels an
# image, so ImageNet's hours are extrapolated); a large one is paid by the token (three images of 576 tokens and some
# words for a question with two examples: assumed).

# %%
asking = {stage.removeprefix("guide "): line for stage, line in lines.items() if stage.startswith("guide")}
asked = cost.guide_cost(asking, source["exemplars"])
asked

# %% [markdown]
# ## ImageNet-1k
#
# One class of 1,300 images, ResNet-50 and ViT-B/16 at 224 px, one seed. Retraining grows with all images of the data
# set. Unlearning grows with the images to forget, with those that it retains, and with the classes: the noises take 40
# passes, one for each step, of each label that is chosen and of the one that goes. An evaluation is of three
# models: the original, the retrained one and MeGU's (an untrained network is shown the forget images alone).

# %%
imagenet = cost.imagenet_cost(gpu=gpu)
imagenet[["stage", "arch", "retain", "pflop", "hours_low", "hours_high"]]

# %% [markdown]
# Is it time that stops this project there? Its images lie on the device as bytes.

# %%
side, channels = 224, 3
held = (cost.IMAGENET["train"] + cost.IMAGENET["test"]) * channels * side**2 / 1e9
print(f"{held:,.0f} GB of pixels at {side} px")

# %% [markdown]
# ## What was found
#
# Are seconds a line in the images that pass through the network, so that one fitted without a number of images predicts
# it, and not with shuffled seconds? The largest error leaves one point out: an evaluation of half a batch of images,
# which takes less than a line says. Which part of the hours is unlearning, and would ImageNet-1k be possible? The lines below answer from the
# tracked table; a finding that fails is printed as failing.

# %%
passing = ["fine-tuning", "evaluation", "noise", "MeGU without noise"]
middle, mixed_up = (found["error"].abs().groupby(found["stage"]).median()[passing] for found in (errors, control))
batches = errors[errors["stage"].isin(passing) & ~((errors["stage"] == "evaluation") & (errors["passes"] < BATCH))]
ends = table.loc[table.groupby("stage")["passes"].idxmax(), ["stage", "passes"]]
largest = ends.merge(errors).set_index("stage")["error"].abs()
most = imagenet.pivot_table(index="arch", columns="stage", values="hours_high", aggfunc="max")
grows = table[table["stage"].isin(passing)].groupby("stage")["tensor_mb"].agg(lambda part: part.max() / part.min())
ratio = forward_flops("vit-b16", 100, (3, 32, 32)) / forward_flops("resnet18", 100, (3, 32, 32))

# %%
labels = table[table["stage"] == "perturbing labels"].sort_values("passes")
passes, seconds, extrapolated = labels["passes"], labels["seconds"], largest["perturbing labels"]
fits = (cost.fit(passes, seconds, e).seconds(passes, e)[-1] for e in (labels["entries"], 0))
two, one = (abs(fitted / seconds.iloc[-1] - 1) for fitted in fits)
# Of 30 labels an image, which no other point of a guide has.
asked_of_30 = table.loc[table["variable"] == "questions, 30 labels", ["stage", "passes"]].merge(errors)["error"].abs()
# Seconds of a question where ten share an image, over those where a thousand do.
shared = {guide: (line.each / 10 + line.entry) / (line.each / 1000 + line.entry) for guide, line in asking.items()}
said = ", ".join(f"{times:.1f} times that of a thousand ({guide})" for guide, times in shared.items())
print("a question of ten labels takes", said)

# %%
share_of_hours = shares.xs("unlearning", level="what")["hours_high"]
times = (most["megu"] / most["retrain"]).max()
Markdown(
    f"A line in the passes predicts points that it has not seen with a median error of {100 * middle.max():.0f} % at most"
    f" (shuffled seconds: {100 * mixed_up.min():.0f} % at least). The paper's grid would take {total['hours_low']:.0f} to"
    f" {total['hours_high']:.0f} hours on one card, of which unlearning is {share_of_hours.min():.0f} to"
    f" {share_of_hours.max():.0f} % by network. On ImageNet-1k MeGU would take at most {100 * times:.1f} % of retraining;"
    f" its images are {held:,.0f} GB of pixels, which here lie on the device."
)

# %% [markdown]
# **Try it.** (1) Set `seeds` to 10: how many hours does unlearning add? (2) Which stage of the guide would you make
# faster for a thousand classes?
#
# Back: [A4, the paper's tables](A4_the_papers_tables.ipynb), [00, the map](00_prepare.ipynb). Code: `megu/cost`.

# %%
claims = [
    finding("points that were left out: median error of each network's stage, the largest", middle.max(), "<", 0.25),
    finding("with shuffled seconds the median error of each network's stage, the smallest", mixed_up.min(), ">", 0.25),
    finding("points left out: largest error, half a batch's evaluation aside", batches["error"].abs().max(), "<", 0.4),
    finding("the largest point of each stage, extrapolated: largest error", largest[passing].max(), "<", 0.15),
    finding("perturbing labels, two terms through all labels: error at 1000 classes", two, "<", 0.1),
    finding("perturbing labels, one term through all labels: error at 1000 classes", one, ">", 0.1),
    finding("perturbing labels, two terms fitted without 1000 classes: error there", extrapolated, ">", 0.1),
    finding("a guide at 30 labels an image, from other numbers of labels: largest error", asked_of_30.max(), "<", 0.25),
    finding("a question of ten labels over one of a thousand, composed guide: times", shared["composed"], ">", 5),
]

# %%
claims += [
    finding("memory of fine-tuning, most images over fewest: times", grows["fine-tuning"], "<", 1.5),
    finding("memory of noise, 256 at a time, most images over fewest: times", grows["noise"], ">", 3),
    finding(
        "speeds that networks reach on one processor, most over least: times",
        steps["speed"].max() / steps["speed"].min(),
        ">",
        1.5,
    ),
    finding("operations of a ViT-B/16 over a ResNet-18's: times", ratio, ">", 25),
    finding("unlearning, share of each network's hours in the grid, %", share_of_hours.max(), "<", 25),
    finding("MeGU over retraining on ImageNet, hours", times, "<", 0.1),
    finding("ImageNet's pixels do not fit on a card of 80 GB: GB", held, ">", 80),
]
print(*statements(claims), sep="\n")
