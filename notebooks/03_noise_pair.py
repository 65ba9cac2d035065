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
# # 03 · A pair of noises
#
# **Question.** What does the network take for the perturbing class, and what for anything but the forgotten one?
#
# | reads | writes | minutes | feeds |
# |---|---|---|---|
# | original model, perturbing labels | strength of the noise pair, what it activates | quick 0.3 (2 cores); small, paper: not measured | `disentanglement` |
#
# A new label alone tells the network *that* an image is not a shirt. The noise pair tells it *where*: with the model frozen, two inputs are optimised (eq. 9-10),
#
# $$N_{pos} = \arg\min_N \mathrm{CE}(f(N), y_{perturb}) + \lambda\lVert N\rVert^2, \qquad N_{neg} = \arg\min_N -\mathrm{CE}(f(N), y) + \lambda\lVert N\rVert^2 .$$
#
# The positive noise carries what the network sees in the perturbing class, the negative one what it holds against the forgotten class. Added to a forget image, the pair
# is meant to take its unique patterns apart while the label moves. The norm, the number of steps and the rate are not in the paper (A6); they are UNSIR's.

# %%
import numpy as np
import pandas as pd
import torch

from megu.core.device import generator
from megu.core.train import predict
from megu.figures import patterns as pattern_figures
from megu.figures import results as figures
from megu.measure.disentanglement import shares
from megu.measure.patterns import EFFECT, moments, response
from megu.measure.summary import half_width
from megu.methods.megu import choose_labels, make_noise
from megu.noise_pair import NoisePair, added, optimise_noise, shuffled_pixels
from megu.runs.experiment import Experiment

# %% tags=["parameters"]
profile: str = "quick"  # quick, small or paper
seed: int = 0  # the repetitions use seed, seed + 1, ...
run_dir: str = ""  # empty: a directory under runs/ that is named after the settings
overrides: dict = {}  # e.g. {"forget.classes": ["sandal"]}

# %%
lab = Experiment(profile, seed, run_dir, overrides, stage="noise")
lab.require("prepare", "labels")
images, names, forget = lab.images, lab.images.classes, lab.split.forget
original, settings = lab.original(lab.settings.seed), lab.parameters("megu")
print(
    f"{settings.noise.steps} steps of Adam at {settings.noise.lr}, lambda {settings.noise.lam}, one noise for each {settings.noise.per}"
)

# %% [markdown]
# ## The pair
#
# One positive noise for each perturbing class and one negative noise for each forgotten class, shared by their images (A7).

# %%
task, x, y = lab.task("megu", lab.settings.seed), images.batch(forget), images.y[forget]
y_perturb = choose_labels(task, settings)
pair = make_noise(task, settings, y_perturb)
print(f"noise for {len(x)} images: {tuple(pair.pos.shape)} positive, {tuple(pair.neg.shape)} negative")

# %% [markdown]
# From left to right: the image, the positive noise of its perturbing label, the negative noise of its own label, and the image with the pair added by the weights of this run. Greys are scaled
# to what each noise spans.

# %% tags=["nbval-ignore-output"]
with_pair = added(x, pair, settings.noise)
shown = torch.stack(
    [
        images.restore(x[:3]),
        figures.stretched(pair.pos[:3]),
        figures.stretched(pair.neg[:3]),
        images.restore(with_pair[:3]),
    ],
    1,
).flatten(0, 1)
titles = [t for k in range(3) for t in (names[y[k]], f"pos: {names[y_perturb[k]]}", f"neg: {names[y[k]]}", "together")]
figures.image_grid(shown.cpu(), titles, columns=4, size=1.2)

# %% [markdown]
# ## What the network makes of them, against noise without meaning
#
# The control has the same pixels in random order: equal norm, no meaning. Shown are the mean probabilities that the original model gives.

# %% tags=["nbval-ignore-output"]
gen = generator(lab.settings.seed, "control")
inputs = {
    "positive": pair.pos,
    "negative": pair.neg,
    "positive, shuffled": shuffled_pixels(pair.pos, gen),
    "negative, shuffled": shuffled_pixels(pair.neg, gen),
}
with torch.no_grad():
    said = {name: original(n).softmax(1) for name, n in inputs.items()}
strength = pd.DataFrame([
    {"noise": name, "norm": inputs[name].flatten(1).norm(dim=1).mean().item(), "perturbing class": p.gather(1, y_perturb[:, None]).mean().item(),
     "forgotten class": p.gather(1, y[:, None]).mean().item()} for name, p in said.items()
])  # fmt: skip
lab.run.table("noise.csv", lambda: strength)
strength.round(3)

# %% [markdown]
# ## Which patterns the pair activates
#
# The claim of the paper is about features: the pair shall take the forgotten concept's unique patterns apart and bring those of the perturbing class. Notebook 01 says which
# units these are. Three sets of the last layer's units, with degrees of membership: unique to the forgotten class, associated with any retained class, and those that serve the most
# frequent perturbing class. Shown is the mean response in standard deviations of ordinary images: of 32 noises from fresh starts, and of the forget images without and with the pair.

# %%
everything = torch.cat([lab.split.test_retain, lab.split.test_forget])
ordinary = moments(original, images, everything, boot=0, null=0)[None]
asked, per = int(y[0]), int(y_perturb.mode().values)
effects = ordinary.effects()[0]
own = shares(effects, (asked,))
groups = {
    f"unique to {names[asked]}": own.unique[0],
    f"{names[asked]} and others": own.associated[0].max(0),
    f"of {names[per]}": np.maximum(effects[per] - EFFECT, 0),
}

# %% tags=["nbval-ignore-output"]
gen = generator(lab.settings.seed, "meaning")
fresh = {
    f"positive ({names[per]})": optimise_noise(original, y.new_full((32,), per), images.shape, +1, settings.noise, gen),
    f"negative ({names[asked]})": optimise_noise(
        original, y.new_full((32,), asked), images.shape, -1, settings.noise, gen
    ),
}
blind = NoisePair(shuffled_pixels(pair.pos, gen), shuffled_pixels(pair.neg, gen))
shown = {
    name: n
    for kind, noise in fresh.items()
    for name, n in ((kind, noise), (f"{kind}, shuffled", shuffled_pixels(noise, gen)))
}
shown |= {"forget images": x, "with the pair": with_pair, "with the pair, shuffled": added(x, blind, settings.noise)}
responses = {
    (name, group): response(original, n, weights, ordinary)
    for name, n in shown.items()
    for group, weights in groups.items()
}
meaning = pd.DataFrame(
    [
        {"input": name, "patterns": group, "mean": r.mean(), "half_width": half_width(r), "n": len(r)}
        for (name, group), r in responses.items()
    ]
)
lab.run.table("noise_meaning.csv", lambda: meaning)
meaning.pivot(index="input", columns="patterns", values="mean").reindex(index=list(shown), columns=list(groups)).round(
    2
)

# %% tags=["nbval-ignore-output"]
pattern_figures.meaning(meaning)

# %% [markdown]
# ## What was found
#
# The positive noise is taken for the perturbing class and the negative noise for anything but the forgotten one, at a norm at which shuffled pixels mean neither. In the features
# the pair raises the perturbing class's patterns in the forget images more than the same pixels shuffled do, and lowers those that the forgotten class shares with others. It has not been shown to take the *unique*
# patterns apart: what it does to them differs between two trainings of the same seed (README, "Entanglement"). Whether unlearning needs any of this meaning is another question, which
# README's ablation answers with "not shown": shuffled noise unlearns as well.

# %%
default = not lab.overrides and lab.settings.profile == "quick"  # these four were found on this request
low, high = (
    meaning.assign(edge=meaning["mean"] + sign * meaning["half_width"]).pivot(
        index="input", columns="patterns", values="edge"
    )
    for sign in (-1, 1)
)
positive, negative, _, shared, of_per = *fresh, *groups
in_features = {
    "positive noise activates the perturbing class's patterns more than shuffled": not default
    or low[of_per][positive] > high[of_per][f"{positive}, shuffled"],
    "negative noise activates the associated ones less": not default
    or high[shared][negative] < low[shared][f"{negative}, shuffled"],
    "with the pair the associated ones respond less than with it shuffled": not default
    or high[shared]["with the pair"] < low[shared]["with the pair, shuffled"],
    "and the perturbing class's more": not default
    or low[of_per]["with the pair"] > high[of_per]["with the pair, shuffled"],
}

# %%
at = strength.set_index("noise")
claims = {
    "the positive noise is taken for the perturbing class more than chance": at.loc["positive", "perturbing class"]
    > 1 / images.num_classes,
    "and more than the same pixels shuffled": at.loc["positive", "perturbing class"]
    > at.loc["positive, shuffled", "perturbing class"],
    "the negative noise is not taken for the forgotten class": at.loc["negative", "forgotten class"] < 0.01,
    "while the same pixels shuffled are, more than it": at.loc["negative, shuffled", "forgotten class"]
    > at.loc["negative", "forgotten class"],
    **in_features,
    "the pair is finite": bool(torch.isfinite(with_pair).all()),
    "the original model is the one of notebook 00": torch.allclose(
        predict(original, images, forget), lab.logits("original", lab.settings.seed)["forget"], atol=1e-3
    ),
}
lab.seal(claims)
print(*claims, sep="\n")
