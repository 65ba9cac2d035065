r"""Figures that follow one image: what the guide says of it, which label it gets, what forgetting does."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from megu.figures.style import ONLY_A, ONLY_B, SHARED, named, styled

Picture = Float[np.ndarray, "C H W"]
MOST = 10  # classes in one panel
ROLES = {"own": SHARED, "chosen": ONLY_B}  # other classes are blue


def typical(pictures: Float[np.ndarray, "n C H W"], among: Bool[np.ndarray, " n"]) -> int:
    r"""Position of the most typical picture: of those ``among`` (of all, where none is) the nearest to their mean."""
    index = np.flatnonzero(among) if np.any(among) else np.arange(len(pictures))
    some = np.asarray(pictures)[index].reshape(len(index), -1)
    return int(index[np.square(some - some.mean(0)).sum(1).argmin()])


def image(ax: Axes, picture: Picture, title: str = "", reach: float | None = None):
    r"""A picture in [0, 1]; with ``reach`` a noise, its mean over the channels from -reach (blue) to reach (red)."""
    shown, look = np.asarray(picture), {"cmap": "gray", "vmin": 0, "vmax": 1}
    if reach is not None:
        shown, look = shown.mean(0, keepdims=True), {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}
    ax.imshow(shown.transpose(1, 2, 0).squeeze(), interpolation="nearest", **look)
    ax.set_title(title)
    ax.axis("off")


def bars(ax: Axes, values: pd.Series, title: str, roles: Mapping[str, str], digits: int = 2):
    r"""The largest ``values`` and those of ``roles`` (class -> a key of `ROLES`), with their numbers."""
    part = values.sort_values(ascending=False, kind="stable")
    part = part[(np.arange(len(part)) < MOST) | part.index.isin(list(roles))]
    ax.barh(range(len(part)), part, color=[ROLES.get(roles.get(name), ONLY_A) for name in part.index])
    for y, value in enumerate(part):
        ax.text(max(value, 0), y, f" {value:.{digits}f}", va="center", fontsize=7)
    named(ax, part.index)
    ax.set(title=title, xticks=[], xlim=(min(0, part.min()), 1.25 * max(part.max(), 1e-9)))
    ax.spines["bottom"].set_visible(False)


@styled
def answers(picture: Picture, title: str, panels: Mapping[str, pd.Series], own: str) -> Figure:
    r"""An image that a guide is asked about, and beside it what is said of it: ``panels`` of title -> values by word or
    class, the class ``own`` in grey."""
    widths = [1, *[1.15] * len(panels)]
    fig, axes = plt.subplots(1, len(widths), figsize=(2.3 * sum(widths), 2.5), width_ratios=widths)
    image(axes[0], picture, title)
    for ax, (name, values) in zip(axes[1:], panels.items(), strict=True):
        bars(ax, values, name, {own: "own"})
    return fig


@styled
def ranking(picture: Picture, table: pd.DataFrame, barred: Sequence[str], chosen: str) -> Figure:
    r"""How one image comes to its perturbing label (eq. 7-8).

    Args:
        table: by class the columns posterior and association.
        barred: classes that may not be chosen, the image's own first.
    """
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(8.6, 2.6), width_ratios=(0.8, 1, 1))
    own, ranked = barred[0], table["association"].drop(list(barred)).sort_values(ascending=False, kind="stable")
    image(left, picture, f"a forget image: {own}")
    bars(middle, table["posterior"], "f(x), the original's softmax", {own: "own", chosen: "chosen"})
    place = ranked.index.get_loc(chosen) + 1
    bars(right, ranked, f"R without {own}: number {place} is {chosen}", {chosen: "chosen"}, digits=3)
    return fig


@styled
def overview(pictures: Mapping[str, Picture], table: pd.DataFrame, own: str, chosen: str, other: str) -> Figure:
    r"""The method on one image of a run (role of Figure 2).

    Args:
        pictures: image and sum in [0, 1]; positive and negative, the noises with their weights.
        table: by class the columns transition (T, the column of ``other``), association (R) and what is said of the
            image by the models original, unlearned, retrained.
        chosen: the perturbing label.  other: what the original believes most beside ``own``, whose entry eq. 7 clears.
    """
    fig = plt.figure(figsize=(9.4, 5))
    top, bottom = fig.subfigures(2, 1)
    roles, said = {own: "own", chosen: "chosen"}, table[["original", "unlearned", "retrained"]]
    first, asked, ranked = top.subplots(1, 3, width_ratios=(0.8, 1, 1))
    image(first, pictures["image"], f"1  a forget image: {own}")
    second = f"2  second belief: {other} ({100 * said.loc[other, 'original']:.0f} %);\nwhat is like it, by the guide?"
    bars(asked, table["transition"], second, roles)
    association = table["association"].drop(own).sort_values(ascending=False, kind="stable")
    third = f"3  all beliefs but {own}, so passed on:\nnumber {association.index.get_loc(chosen) + 1} is {chosen}"
    bars(ranked, association, third, roles, digits=3)
    positive, negative, joined, last = bottom.subplots(1, 4, width_ratios=(0.8, 0.8, 0.8, 1.3))
    pair = np.stack([pictures["positive"], pictures["negative"]])
    norms, reach = np.linalg.norm(pair.reshape(2, -1), axis=1), np.abs(pair.mean(1)).max()
    image(positive, pair[0], f"4  weighted noise towards\n{chosen}, norm {norms[0]:.1f}", reach)
    image(negative, pair[1], f"and away from\n{own}, norm {norms[1]:.1f}", reach)
    colours = f"blue -{reach:.1f} to red +{reach:.1f}, s.d. of pixels"
    negative.text(0.5, -0.03, colours, transform=negative.transAxes, ha="center", va="top", fontsize=8)
    image(joined, pictures["sum"], f"5  the sum, which is\ntrained as {chosen}")
    for ax, sign in ((positive, "+"), (negative, "+"), (joined, "=")):
        ax.text(-0.06, 0.5, sign, transform=ax.transAxes, ha="right", va="center", fontsize=14)
    rows = said.loc[said.max(axis=1).sort_values(ascending=False, kind="stable").index[:5]]
    looks = {"original": SHARED, "unlearned": ONLY_B, "retrained": ONLY_A}
    for k, (model, colour) in enumerate(looks.items()):
        last.barh(np.arange(len(rows)) + 0.27 * (k - 1), rows[model], 0.25, color=colour, label=model)
    named(last, rows.index)
    last.set(title="6  what the models say of the image", xlim=(0, 1), xlabel="share of the softmax")
    last.legend(fontsize=8, loc="lower right")
    calls = {model: f"{said[model].idxmax()} ({100 * said[model].max():.0f} %)" for model in looks}
    fig.suptitle(
        "The original says {original}, the unlearned model {unlearned}, the retrained {retrained}".format(**calls)
    )
    return fig
