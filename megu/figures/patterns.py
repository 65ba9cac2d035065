r"""Figures of entanglement: what it is, where it is seen, what unlearning cut."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from megu.figures.markdown import number, place
from megu.figures.style import (
    FLOOR,
    NULL,
    ONLY_A,
    ONLY_B,
    OURS,
    SHARED,
    THIRD,
    ZERO,
    forest,
    legend,
    name_points,
    panels,
    styled,
)

CHANCE = {"color": NULL, "label": "permuted labels (95 %)"}
VALUE = ["mean", "half_width"]


@styled
def entanglement(pairs: pd.DataFrame, a: str) -> Figure:
    r"""The index of class ``a`` with every other, and the units they share (role of Figure 1); ``pairs``: from
    `megu.measure.patterns.entanglement`."""
    part = pairs[pairs["class_a"] == a].sort_values("index", ascending=False)
    y, high = range(len(part)), part["null_high"].max()
    fig, (left, right) = panels(2, (4.6, 0.34 * len(part)), (1.3, 1.9), width_ratios=(1.1, 1))
    left.axvspan(part["null_low"].min(), high, **CHANCE)
    forest(left, part.set_index("class_b")[["index", "low", "high"]])
    left.set(title=f"{a!r} with each other class", xlabel="entanglement index, 95 % interval over images")
    left.legend(loc="lower right")
    right.barh(y, part["shared"], color=SHARED, label="associated: serve both")
    right.barh(y, part["only_a"], left=part["shared"], color=ONLY_A, hatch="//", label=f"only {a}", edgecolor="white")
    right.barh(y, -part["only_b"], color=ONLY_B, hatch="..", label="only the other class", edgecolor="white")
    right.axvline(0, **ZERO)
    right.set(title="Units that serve them, by test", xlabel="units of the last layer (left: the other class's own)")
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=8)
    entangled = ", ".join(part.loc[part["low"] > high, "class_b"])
    fig.suptitle(f"Entangled with {a} beyond chance: {entangled or 'no class'}")
    return fig


@styled
def depth(pairs: pd.DataFrame, a: str) -> Figure:
    r"""The index of class ``a`` with every other, layer by layer; ``pairs``: as of `entanglement`, with a column layer
    in the order of the forward pass."""
    layers = pairs["layer"].unique()
    wide = pairs[pairs["class_a"] == a].pivot(index="layer", columns="class_b").loc[layers]
    order = wide["index"].iloc[-1].sort_values(ascending=False).index
    fig, ax = plt.subplots(figsize=(1.1 * len(layers) + 2.8, 3.6))
    ax.fill_between(layers, wide["null_low"].min(axis=1), wide["null_high"].max(axis=1), **CHANCE)
    nearest = (ONLY_A, "o-"), (ONLY_B, "s--"), (THIRD, "^:")
    for i, b in enumerate(order):
        colour, style, label = (*nearest[i], b) if i < 3 else ("#c8c8c8", "-", "other classes" if i == 3 else None)
        ax.plot(layers, wide["index", b], style, color=colour, markersize=4, label=label)
        ax.fill_between(layers, wide["low", b], wide["high", b], color=colour, alpha=0.2, linewidth=0)
    ax.set(xlabel="layer, from the image to the head", ylabel="entanglement index")
    ax.set_title(f"At the last layer {a!r} is nearest to {', '.join(order[:3])}")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


@styled
def agreement(table: pd.DataFrame, level: float = 0.025) -> Figure:
    r"""How far views of the features order classes as a guide does, which counts where at most the share ``level`` of
    shuffled class names does as well; ``table``: `megu.measure.views.agreement` and a column guide."""
    table = table.sort_values("order", ascending=False)
    table.index = table["view"] + table["p"].map(", p = {:.4f}".format)
    fig, ax = plt.subplots(figsize=(7, 0.36 * len(table) + 1.6))
    forest(ax, table[["order", "low", "high"]], label="mean over the classes, 95 % interval")
    ax.plot(table["shuffled"], table.index, "|", color=ONLY_B, markersize=12, label="97.5 % of shuffled class names")
    ax.axvline(0, **ZERO)
    ax.set(xlabel="rank correlation of a view with the guide's T", xlim=(-0.55, 1))
    apart, guide = (table["p"] <= level).sum(), table["guide"].iloc[0]
    shuffled = f"at most {100 * level:g} % of shuffled class names do as well (p)"
    ax.set_title(f"{apart} of {len(table)} views agree with T of the guide {guide}:\n{shuffled}")
    legend(fig, [ax], "center", ncols=2, fontsize=8)
    return fig


@styled
def maps(table: pd.DataFrame, layer: str, title: str | None = None) -> Figure:
    r"""Where the units of ``layer`` are seen, on one scale; ``table``: row, panel (titles), y, x, grey (the image in
    [0, 1]), value (the map; NaN: none)."""
    rows, columns = table["row"].unique(), table["panel"].unique()
    look = {"sharey": False, "layout": "compressed"}
    fig, axes = panels(len(rows) * len(columns), (1.35, 1.1), (2, 0.6), len(columns), **look)
    at, top = pd.DataFrame(axes.reshape(len(rows), -1), rows, columns), np.nanquantile(table["value"], 0.998)
    for (row, panel), part in table.groupby(["row", "panel"], sort=False):
        ax = at.loc[row, panel]
        grey, value = (part.pivot(index="y", columns="x", values=name).to_numpy() for name in ("grey", "value"))
        ax.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        if np.isfinite(value).any():
            shown = ax.imshow(value, cmap="inferno", vmin=0, vmax=top, alpha=0.75, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for name, ax in at.iloc[0].items():
        ax.set_title(name, fontsize=8)
    for name, ax in at.iloc[:, 0].items():
        weight = "bold" if name.rpartition(": ")[2] == OURS else None
        ax.set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center", fontweight=weight)
    fig.get_layout_engine().set(w_pad=0.15)
    label = f"activation of {layer} above the mean,\ns.d. of image means"
    fig.colorbar(shown, ax=axes, label=label, shrink=0.8)
    fig.suptitle(title)
    return fig


@styled
def meaning(table: pd.DataFrame) -> Figure:
    r"""What noises activate, beside the same pixels shuffled, on one axis; ``table``: input, patterns, mean, half_width
    (s.d. of ordinary images)."""
    inputs, groups = table["input"].unique(), table["patterns"].unique()
    table = table.set_index(["patterns", "input"])[VALUE]
    fig, ax = plt.subplots(figsize=(7, 0.42 * len(inputs) + 1.3))
    ax.axvline(0, **ZERO)
    looks = zip((ONLY_A, SHARED, ONLY_B), "osD", (-0.2, 0, 0.2), strict=True)
    for group, (colour, marker, shift) in zip(groups, looks, strict=False):
        forest(ax, table.loc[group].reindex(inputs), colour, marker, shift, label=group)
    ax.set_xlabel("response of patterns, standard deviations of ordinary images (95 % interval)")
    shown = [name for name in inputs if not name.startswith(("positive", "negative")) or "shuffled" not in name]
    said = "; ".join(f"{name} {table.loc[(groups[-1], name), 'mean']:+.1f}" for name in shown)
    fig.suptitle(textwrap.fill(f"Patterns {groups[-1]}: {said} s.d.", 75))
    legend(fig, [ax], "center", ncols=len(groups))
    return fig


@styled
def disentangled(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    r"""What each method kept of the associated patterns against what it suppressed of the unique ones, with lines of
    equal score (their product), the retrained model as a star; ``table``: method, view, measure (suppressed, kept,
    score), mean, half_width over seeds."""
    views, wide = table["view"].unique(), table.set_index(["view", "measure", "method"])[VALUE].sort_index()
    fig, axes = panels(len(views), (7, 4.6), columns=1)
    for ax, view in zip(axes, views, strict=True):
        x, y, score = (wide.loc[(view, measure)] for measure in ("suppressed", "kept", "score"))
        shown = [name for name in titles if name in x.index and x["mean"].notna()[name]]
        for name in shown:
            look = {"retrain": {"fmt": "*", "color": "black", "markersize": 12}, "megu": {"fmt": "D", "color": ONLY_B}}
            look = {"fmt": "o", "color": ONLY_A, "markersize": 5} | look.get(name, {})
            ends = np.nan_to_num([y.loc[name, "half_width"], x.loc[name, "half_width"]])
            ax.errorbar(x.loc[name, "mean"], y.loc[name, "mean"], *ends, elinewidth=0.6, ecolor=FLOOR, **look)
        grid = np.meshgrid(np.linspace(*ax.get_xlim(), 100), np.linspace(*ax.get_ylim(), 100))
        lines = ax.contour(*grid, grid[0] * grid[1], 5, colors=SHARED, linewidths=0.5, linestyles=":")
        points = np.stack([x["mean"][shown], y["mean"][shown]], 1)
        ax.clabel(lines, fontsize=7, fmt="score %g", manual=_between(ax, points, lines.levels))
        ax.set(xlabel="suppressed, share of unique", ylabel="kept, share of associated")
        if "megu" in shown:
            said = f"{number(*score.loc['megu'], 2)}, by that {place(score['mean'].sort_values(ascending=False).index)}"
            ax.set_title(f"{view}: MeGU's score is {said} methods")
        name_points(ax, points, [titles[name] for name in shown])
    return fig


def _between(ax: Axes, points: Float[np.ndarray, "n 2"], scores: Sequence[float]) -> Float[np.ndarray, "m 2"]:
    r"""Where on its line each score is farthest from all points."""
    spots, away = [], ax.transLimits.transform(points)
    for score in scores:
        kept = np.linspace(*ax.get_ylim(), 100)
        way = ax.transLimits.transform(np.stack([score / kept, kept], 1))
        way = way[((way > 0.1) & (way < 0.9)).all(1)]
        spots += [way[np.linalg.norm(way[:, None] - away, axis=2).min(1).argmax()]] if score and len(way) else []
    return ax.transLimits.inverted().transform(np.reshape(spots, (-1, 2)))


@styled
def plane(points: pd.DataFrame, highlight: Sequence[str], title: str) -> Figure:
    r"""Features of several models in one plane (``points``: model, x, y, class), one panel each; the classes to
    ``highlight`` in colour, the first in the foreground, others in grey."""
    models, others = list(points.groupby("model", sort=False)), sorted(set(points["class"]) - set(highlight))
    palette = dict(zip(highlight, (ONLY_B, ONLY_A, THIRD), strict=False))
    fig, axes = panels(len(models), (3.8, 3.4), (0, 0.4), sharex=True, sharey=True)
    for ax, (model, part) in zip(axes, models, strict=True):
        for name in [*others, *reversed(palette)]:
            own, label = part[part["class"] == name], name if name in palette else None
            ax.scatter(own["x"], own["y"], s=7, color=palette.get(name, "#cfcfcf"), linewidths=0, label=label)
            if not label:
                ax.text(own["x"].median(), own["y"].median(), name, ha="center", fontsize=7, color="#555555")
        ax.set_title(model)
        ax.set_axis_off()
    fig.suptitle(title)
    legend(fig, axes[:1], "center", ncols=3, markerscale=2)
    return fig


@styled
def units(values: pd.DataFrame, pictures: Mapping[str, Sequence[tuple[str, np.ndarray]]]) -> Figure:
    r"""What a unit serves: its activations by class, and the images that move it most.

    Args:
        values: unit (title), class, activation.
        pictures: by unit, the strongest first: (class, image ``(C, H, W)`` in [0, 1]).
    """
    count, colours = max(map(len, pictures.values())), (ONLY_B, ONLY_A, THIRD)
    size, widths = (3.4 + 0.95 * count, 1.9 * len(pictures)), (3.4, *[1] * count)
    fig, axes = plt.subplots(len(pictures), 1 + count, figsize=size, width_ratios=widths, squeeze=False)
    for (ax, *places), (unit, strongest) in zip(axes, pictures.items(), strict=True):
        part = values[values["unit"] == unit]
        edges = np.histogram_bin_edges(part["activation"], 30)
        for (name, own), colour in zip(part.groupby("class", sort=False), colours, strict=True):
            ax.hist(own["activation"], edges, histtype="step", linewidth=1.5, color=colour, label=name)
        ax.set(title=unit, yticks=[], ylabel="images", xlabel="activation, mean over the image")
        for shown, (name, picture) in zip(places, strongest, strict=True):
            shown.imshow(np.asarray(picture).transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
            shown.set_title(name, fontsize=8)
        for shown in places:
            shown.axis("off")
    legend(fig, axes[0][:1], "center", ncols=3)
    return fig


@styled
def recovered(layers: pd.DataFrame, forgetting: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    r"""Of known parts: recovery of the true overlap (layer, rho, null_low, null_high, seed), and what forgetting leaves
    (method, measure: unique or shared, mean, half_width)."""
    fig, (left, right) = panels(2, (4.6, 3.3), (1.3, 0.9), sharey=False)
    mean = layers.groupby("layer", sort=False)[["null_low", "null_high", "rho"]].mean()
    left.fill_between(mean.index, mean["null_low"], mean["null_high"], **CHANCE)
    for _, part in layers.groupby("seed"):
        left.plot(part["layer"], part["rho"], "o-", color=ONLY_A, markersize=4, label="index against true overlap")
    left.axhline(0.9, color=ONLY_B, linestyle="--", linewidth=1, label="0.9, what notebook 01 asks of the last layer")
    left.set(xlabel="layer, from the image to the head", ylabel="rank correlation")
    left.set_title(f"Index against the true overlap, last layer: {mean['rho'].iloc[-1]:.2f}")
    wide = forgetting.set_index(["measure", "method"])[VALUE]
    methods = [name for name in wide.loc["unique", "mean"].sort_values().index if name in titles]
    for measure, *look in (("unique", ONLY_A, "o", -0.12), ("shared", SHARED, "s", 0.12)):
        forest(right, wide.loc[measure].reindex(methods).rename(titles), *look, label=f"{measure} parts")
    right.axvline(1, **ZERO, label="as in the original")
    right.set_xlabel("reaction to a part over the original's, 95 % interval over seeds")
    right.set_title(f"MeGU leaves {number(*wide.loc[('unique', 'megu')], 2)} of the reaction to unique parts")
    legend(fig, [left, right], "center", ncols=3, fontsize=8)
    return fig
