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
# # 07 · What a run costs
#
# **Question.** How do seconds and memory grow with the images to forget, the images to retain, the classes and the weights, and how many GPU hours do the paper's experiments need, and ImageNet's?
#
# | reads | writes | minutes | feeds |
# |---|---|---|---|
# | `paper_figures/data/cost.csv`, measured by `python -m megu cost --out paper_figures/data` | nothing: it stands alone | 0.3 (1 core) | `figure4_time` |
#
# Seconds are measured on a CPU, GPU hours are arithmetic: operations are counted, and the share of a card's speed that is reached is **assumed, not measured**. The last section but one says how to replace the assumption.

# %%
import json
from dataclasses import astuple

import pandas as pd

from megu.cost import predict as cost
from megu.cost.flops import forward_flops
from megu.cost.stages import BATCH
from megu.figures import cost as cost_figures
from megu.settings.files import project_root

pd.set_option("display.precision", 3, "display.max_rows", 100)
data = project_root() / "paper_figures" / "data"

# %% tags=["parameters"]
profile: str = "paper"  # whose grid is predicted
seeds: int = 3  # of pre-training

# %% [markdown]
# ## What was measured
#
# Each stage runs several times after one to warm up; the seconds are those of the processor, of one thread, so that what else runs on the machine disturbs little. Memory is that of live tensors, in a run of
# its own, and of the whole process, which is all there is where numpy works without tensors (NaN: the transition matrix, the keys of questions). *passes* is what the seconds should be proportional to: images times
# epochs, images times steps of noise, exemplars times $K^2$ for the transition matrix. Two stages have a second term, *entries*: the labels of n images take $n K^2$ for a product of matrices and $n K$ numbers that are
# sorted, and a guide looks at n images once for all K labels, then answers $n K$ questions; it is asked with several K, to tell the two apart.

# %%
table = cost.fitted(pd.read_csv(data / "cost.csv"))
source = json.loads((data / "cost_source.json").read_text())
print("seconds", source["seconds"])
print(pd.DataFrame(source["measured"]).T.to_string())
ends = table.groupby("stage", sort=False).agg(
    {name: ["min", "max"] for name in ("passes", "seconds", "tensor_mb", "process_mb")}
)
ends

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
# How well does it predict? Every number of passes is left out in turn, the largest too, the line goes through the other points, and those left out are predicted (of a guide also images with a number of
# labels that no other point has). The control: the same with the seconds of each stage shuffled.

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
quality

# %% [markdown]
# ## From operations to seconds
#
# A forward pass of $f$ operations, a backward pass of $2f$: a training step of n images takes $3 f n$. How fast they are done depends on the network: small ones spend their time elsewhere.

# %%
cost_figures.steps(table)

# %%
steps = table[table["stage"].str.startswith("training step")].assign(speed=lambda part: part["gflop"] / part["seconds"])
steps[["stage", "value", "gflop", "seconds", "speed", "tensor_mb"]].rename(
    columns={"value": "weights", "speed": "GFLOP a second"}
)

# %% [markdown]
# On a GPU with a peak of $P$ operations a second, of which a share $u$ is reached,
#
# $$\text{hours} = \frac{3 f \cdot \text{images} \cdot \text{epochs}}{3600\, P u}.$$
#
# Training is in bfloat16; noise, importances and evaluation are in float32 ($2f$ for a noise, whose gradient ends at the image, $f$ for an image that is only seen). The stated card and the assumed speeds, $10^{12}$ operations a second:

# %%
gpu = cost.CARD
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
# Every cell of Tables 1-4 and 6-8 with every method of its columns, and the public code's variants. Originals are shared by data and network, so they and their evaluation have no scenario; *trained*, *noised* and *seen* are passes of each model of a row, PFLOP and hours are
# those of all its models, at the high and at the low speed: $10^{15}$ PFLOP $=$ models $\cdot\, (3\,trained + 2\,noised + seen)\, f$. MeGU's noises are counted at most: one of each label that may be chosen, also where no image takes it.

# %%
grid = cost.grid_cost(profile, seeds, gpu)
grid

# %%
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
parts

# %% [markdown]
# With a card at hand, `python env/gpu_smoke.py --out gpu_smoke.json` measures its speed in ten minutes, and `python -m megu cost --smoke gpu_smoke.json` prints the same table with it in place of the assumption.
#
# ## The guide
#
# It is asked once per data set: n exemplars of each of K classes with each of K labels. An image is looked at once for all its labels, so that
#
# $$\text{seconds} = a + b \cdot n K + c \cdot n K^2$$
#
# and neither of the last two terms can be left out: what a question takes where ten share an image is not what it takes where a thousand do. Hours are those of the guides that are small enough for a CPU (without loading them, and without the keys of
# the questions, a line of their own above; the tiny multimodal LLM was asked about at most 100 labels an image, so ImageNet's hours are extrapolated); a large one is paid by the token (three images of 576 tokens and some words for a question with two examples: assumed).

# %%
asking = {stage.removeprefix("guide "): line for stage, line in lines.items() if stage.startswith("guide")}
asked = cost.guide_cost(asking, source["exemplars"])
asked

# %% [markdown]
# ## ImageNet-1k
#
# One class of 1,300 images, ResNet-50 and ViT-B/16 at 224 px, one seed. Retraining grows with all images of the data set. Unlearning grows with the images to forget, with those that it retains, and with the classes: the noises take
# at most $40\,((K - 1) + 1)$ passes, 40 steps for each label that may be chosen and for the one that goes. That is an upper bound: labels that no image takes need no noise. An evaluation is of four models, as in the grid: the
# original, the untrained network, the retrained one and MeGU's.

# %%
imagenet = cost.imagenet_cost(gpu=gpu)
imagenet[["stage", "arch", "retain", "models", "trained", "noised", "seen", "pflop", "hours_low", "hours_high"]]

# %% [markdown]
# Time is not what stops this project there: its images lie on the device as bytes.

# %%
side, channels = 224, 3
held = (cost.IMAGENET["train"] + cost.IMAGENET["test"]) * channels * side**2 / 1e9
print(f"{held:,.0f} GB of pixels at {side} px")

# %% [markdown]
# ## What was found
#
# Seconds are a line in the images that pass through the network: one fitted without a number of images predicts it, and with shuffled seconds it does not. The exception is half a batch of an evaluation, which takes
# less than the line says; what the number of classes alone decides takes milliseconds and is extrapolated less well (*transition*, *perturbing labels*: two terms go through the labels of 1000 classes where these are among the points,
# and miss them by more where they are not). What a question to a guide takes depends on how many share an image: the composed guide, which spends its time on the image, would be said to need many times its hours with a thousand labels if the
# seconds of a question with ten were multiplied. In the paper's grid the references (originals, retrained models) and the evaluation take most of the time of each network; the share of unlearning is printed above. On
# ImageNet-1k unlearning would be cheap beside retraining, but this project would need a data loader that it does not have, and a guide that is asked eight million questions.

# %%
passing = ["fine-tuning", "evaluation", "noise", "MeGU without noise"]
middle, mixed_up = (found["error"].abs().groupby(found["stage"]).median()[passing] for found in (errors, control))
batches = errors[errors["stage"].isin(passing) & ~((errors["stage"] == "evaluation") & (errors["passes"] < BATCH))]
largest = (
    table.loc[table.groupby("stage")["passes"].idxmax(), ["stage", "passes"]]
    .merge(errors)
    .set_index("stage")["error"]
    .abs()
)
most = imagenet.pivot_table(index="arch", columns="stage", values="hours_high", aggfunc="max")
grows = table[table["stage"].isin(passing)].groupby("stage")["tensor_mb"].agg(lambda part: part.max() / part.min())
ratio = forward_flops("vit-b16", 100, (3, 32, 32)) / forward_flops("resnet18", 100, (3, 32, 32))
labels = table[table["stage"] == "perturbing labels"].sort_values("passes")
passes, seconds, extrapolated = labels["passes"], labels["seconds"], largest["perturbing labels"]
two, one = (
    abs(cost.fit(passes, seconds, e).seconds(passes, e)[-1] / seconds.iloc[-1] - 1) for e in (labels["entries"], 0)
)
# Of 30 labels an image, which no other point of a guide has; and seconds of a question where ten share an image, over those where a thousand do.
asked_of_30 = table.loc[table["variable"] == "questions, 30 labels", ["stage", "passes"]].merge(errors)["error"].abs()
shared = {guide: (line.each / 10 + line.entry) / (line.each / 1000 + line.entry) for guide, line in asking.items()}
print(
    "a question of ten labels takes",
    ", ".join(f"{times:.1f} times that of a thousand ({guide})" for guide, times in shared.items()),
)

# %%
claims = {
    "points that were left out are predicted within 25 % in the median of each network's stage, shuffled ones of none": middle.max()
    < 0.25
    < mixed_up.min(),
    "each within 40 % (not half a batch of an evaluation), the largest within 15 %": batches["error"].abs().max() < 0.4
    and largest[passing].max() < 0.15,
    "two terms fitted through all labels are within 10 % at 1000 classes; one is not, nor two that left these out": two
    < 0.1
    < min(one, extrapolated),
    "a guide's seconds at 30 labels an image are predicted from other numbers of labels within 25 %": asked_of_30.max()
    < 0.25,
    "to the composed guide a question of ten labels takes more than five times one of a thousand": shared["composed"]
    > 5,
    "more images need no more memory in fine-tuning, but more in noise, 256 at a time": grows["fine-tuning"] < 1.5
    and grows["noise"] > 3,
    "networks reach different shares of the same processor": steps["speed"].max() > 1.5 * steps["speed"].min(),
    "a ViT-B/16 takes about thirty times the operations of a ResNet-18": 30 < ratio < 33,
    "unlearning is less than a quarter of each network's time": (
        shares.xs("unlearning", level="what")["hours_high"] < 25
    ).all(),
    "on ImageNet MeGU takes less than a tenth of retraining": (most["megu"] < most["retrain"] / 10).all(),
    "its pixels do not fit on a card of 80 GB": held > 80,
}
assert all(claims.values()), claims
print(*claims, sep="\n")
