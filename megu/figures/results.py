r"""Figures of one request and of the comparison."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from megu.figures.markdown import contenders, number, place
from megu.figures.style import (
    FLOOR,
    ONLY_A,
    ONLY_B,
    ZERO,
    by_part,
    forest,
    legend,
    name_points,
    named,
    panels,
    stacked,
    styled,
)  # fmt: skip

LABEL_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442")  # of Okabe-Ito, light enough for black text
METRICS = {  # metric -> what figures call it
    "acc_retain_test": "retain test accuracy",
    "acc_forget_train": "forget train accuracy",
    "acc_forget_test": "forget test accuracy",
    "mia_loss_auc": "loss attack AUC",
    "mia_ssd_member_rate": "SSD member rate (compat)",
    "tow": "tug-of-war (ToW)",
}


def differences(metric: str, unit: str) -> tuple[str, str, int]:
    r"""(What figures call a metric, the unit of its differences, their decimals)."""
    return METRICS.get(metric, metric), *(("points", 1) if unit == "percent" else (unit, 3))


@styled
def image_grid(
    images: Float[np.ndarray, "n C H W"], titles: Sequence[str] = (), columns: int = 10, size: float = 0.9
) -> Figure:
    r"""Images in [0, 1], ``columns`` in a row, ``size`` inches wide; ``titles``: of the first ones."""
    lines = -(-len(titles) // columns)
    fig, axes = panels(len(images), (size, size), (0, 0.25 * lines + 0.3), columns, sharey=False)
    for ax, image, title in zip_longest(axes, np.asarray(images), titles, fillvalue=""):
        ax.axis("off")
        ax.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
        ax.set_title(title, fontsize=8)
    return fig


@styled
def label_distribution(table: pd.DataFrame) -> Figure:
    r"""How often each class is chosen as perturbing label (role of appendix C); ``table``: choice (panels), label,
    share (percent)."""
    wide = table.pivot(index="label", columns="choice", values="share").fillna(0)
    wide = wide.loc[table["label"].unique(), table["choice"].unique()]
    fig, axes = panels(wide.shape[1], (2.3, 0.2 * len(wide)), (1, 1))
    for ax, (choice, shares) in zip(axes, wide.items(), strict=True):
        ax.barh(range(len(wide)), shares, color=ONLY_A)
        named(ax, wide.index)
        ax.set_title(f"{choice}:\n{shares.idxmax()}, {shares.max():.0f} %")
        ax.set(xlabel="share of forget images, %", xlim=(0, 100))
    return fig


def _forest_within(ax, part, limit, floor):
    """Gaps in rows; those beyond ``limit`` as an arrow at the edge with their number; ``floor`` is in view."""
    beyond, half = part["gap"].abs() > limit, part["gap_half_width"].fillna(0)
    shown = part.mask(beyond)
    forest(ax, shown[["gap", "gap_half_width"]])
    low, high = min(-floor, (shown["gap"] - half).min()), max(floor, (shown["gap"] + half).max())
    ax.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    for y, gap in zip(np.flatnonzero(beyond), part.loc[beyond, "gap"], strict=True):
        x, side, text = (0.02, "left", f"\u25c2 {gap:+.2g}") if gap < 0 else (0.98, "right", f"{gap:+.2g} \u25b8")
        ax.text(x, y, text, ha=side, va="center", fontsize=8, transform=ax.get_yaxis_transform())


def _unseen(row):
    return bool(abs(row["gap"]) <= row["gap_half_width"])


@styled
def gaps(summary: pd.DataFrame, titles: Mapping[str, str], metrics: Sequence[str]) -> Figure:
    r"""Every method's gap to the retrained model, by that of the first metric, and the noise floor of retraining;
    ``summary``: from `megu.measure.summary.summary`.  What is farther than twice the reach of three quarters of the
    methods is an arrow with its number."""
    table = summary.set_index(["metric", "method"]).sort_index()
    methods = [name for name in titles if name in set(summary["method"]) and name != "retrain"]
    names = [titles[name] for name in methods]
    order = table.loc[metrics[0], "gap"].reindex(methods).abs().sort_values(kind="stable").index
    fig, axes = panels(len(metrics), (1.9, 0.25 * len(methods)), (0.075 * max(map(len, names)), 1.5))
    for ax, metric in zip(axes, metrics, strict=True):
        part = table.loc[metric].reindex(order)
        floor = np.nan_to_num(table.loc[(metric, "retrain"), "half_width"]) * 2**0.5
        if floor:
            ax.axvspan(-floor, floor, color=FLOOR, label="noise floor: difference of two sets of retrains (95 %)")
        ax.axvline(0, **ZERO)
        reached = part["gap"].abs() + part["gap_half_width"].fillna(0)
        limit = max(2 * reached.quantile(0.75), floor)
        _forest_within(ax, part.rename(titles), limit, floor)
        title, unit, _ = differences(metric, part["unit"].iloc[0])
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.set_title(title, fontsize=9)
        ax.set_xlabel(f"gap to retrain ({unit})")
    if "megu" in order:
        *gap, unit = table.loc[(metrics[0], "megu"), ["gap", "gap_half_width", "unit"]]
        first, unit, digits = differences(metrics[0], unit)
        said = f"By the gap in {first} MeGU is {place(order)} methods: {number(*gap, digits, '+')} {unit}"
        blind = "original" in order and "mia_loss_auc" in metrics and _unseen(table.loc[("mia_loss_auc", "original")])
        fig.suptitle(said.removesuffix(" share") + "\n(the loss attack does not find the original)" * blind)
    legend(fig, axes)
    return fig


@styled
def pareto(summary: pd.DataFrame, titles: Mapping[str, str], forget: str = "acc_forget_test") -> Figure:
    r"""Forgetting against retained accuracy, the retrained model (a star) as the goal of both.

    Args:
        summary: from `megu.measure.summary.summary`, of one scenario.
        forget: its metric on the forgotten images.
    """
    table = summary.set_index(["metric", "method"])
    names = [name for name in titles if (forget, name) in table.index and pd.notna(table.loc[(forget, name), "mean"])]
    x, y = (table.loc[metric].loc[names] for metric in (forget, "acc_retain_test"))
    apart = pd.DataFrame({"x": x["gap"].abs(), "y": y["gap"].abs()}).loc[contenders(names)]
    fig, ax = plt.subplots(figsize=(7, 6.4))
    for name in names:
        look = {"retrain": {"fmt": "*", "color": "black", "markersize": 12}, "megu": {"fmt": "D", "color": ONLY_B}}
        look = {"fmt": "o", "color": ONLY_A, "markersize": 5} | look.get(name, {})
        ends = [[axis.loc[name, "half_width"]] if pd.notna(axis.loc[name, "half_width"]) else None for axis in (y, x)]
        ax.errorbar(x.loc[name, "mean"], y.loc[name, "mean"], *ends, elinewidth=0.6, ecolor=FLOOR, **look)
    low, high = y["mean"].min(), y["mean"].max()  # one interval may be longer than all of that
    low, high = low - 0.12 * (high - low), high + 0.12 * (high - low)
    cut = (y["mean"] - y["half_width"]).lt(low) | (y["mean"] + y["half_width"]).gt(high)
    retained = METRICS["acc_retain_test"] + ", %" + " (intervals that leave the picture are cut)" * bool(cut.any())
    ax.set(xlabel=f"{METRICS[forget]}, % (95 % interval over seeds)", ylabel=retained, ylim=(low, high))
    if "megu" in apart.index:
        nearer = int((apart < apart.loc["megu"]).all(axis=1).sum())
        said = f"{nearer} of {len(apart) - 1} other methods are nearer than MeGU"
        ax.set_title(f"{said} to the retrained model, on both axes")
    ax.margins(x=0.18)
    name_points(ax, np.stack([x["mean"], y["mean"]], 1), [titles[name] for name in names])
    return fig


@styled
def time_per_stage(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    r"""Seconds of every method by part, the longest first (role of Figure 4); ``table``: method, part, seconds."""
    titles = {**titles, "guide": "Guide, once per data set"}
    wide = by_part(table[table["method"].isin(titles) & (table["part"] != "evaluation")], "seconds")
    total = wide.sum(axis=1).sort_values(ascending=False)
    fig, ax = plt.subplots(figsize=(7, 0.42 * len(wide) + 1.1))
    stacked(ax, wide.loc[total.index].rename(titles), [f"{seconds:.1f} s" for seconds in total])
    ax.set(xlabel="seconds (evaluation not included)", xlim=(0, total.max() * 1.12))
    if {"megu", "retrain"} <= set(total.index):
        share, guide = (100 * total.get(name, 0) / total["retrain"] for name in ("megu", "guide"))
        with_it = f", {share + guide:.0f} % with the guide" * ("guide" in total)
        ax.set_title(f"MeGU takes {share:.0f} % of the time of retraining{with_it}")
    ax.legend(loc="lower right")
    return fig


@styled
def share_and_index(table: pd.DataFrame, concept: str) -> Figure:
    r"""Are perturbing labels near?  Their share of forget images, percent, against their entanglement index."""
    fig, ax = plt.subplots(figsize=(6, 3.8))
    ax.errorbar(table["index"], table["share"], xerr=(table["high"] - table["low"]) / 2, fmt="o", color=ONLY_A)
    ax.axvline(0, **ZERO)
    ax.set(ylabel=f"share of {concept} images, %", xlabel=f"entanglement index with {concept} (1: the same patterns)")
    most, near = table.loc[table["share"].idxmax()], table.loc[table["index"].idxmax()]
    said = f"{most['share']:.0f} % go to {most.name} (index {most['index']:+.2f})"
    ax.set_title(f"{said}, {near['share']:.0f} % to {near.name}, the most entangled ({near['index']:+.2f})")
    ax.margins(y=0.1)
    name_points(ax, table[["index", "share"]].to_numpy(), table.index)
    return fig


@styled
def flow(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    r"""Where the forget images go: what each model takes them for, by its distance to the retrained model, half of the
    sum of differences (role of appendix D); ``table``: method, label, share (percent), one value for each pair."""
    wide = table.pivot(index="method", columns="label", values="share").reindex(titles)
    far = (wide - wide.loc["retrain"]).abs().sum(axis=1).div(2).sort_values(kind="stable")
    shown = wide.loc["retrain"].add(wide.loc["original"]).sort_values(ascending=False, kind="stable").index[:5]
    wide = wide.loc[far.index, shown].assign(other=wide.drop(columns=shown).sum(axis=1))
    fig, ax = plt.subplots(figsize=(7.4, 0.4 * len(wide) + 1.3))
    left, colours = np.zeros(len(wide)), (*LABEL_COLOURS, FLOOR)
    for (label, share), colour in zip(wide.items(), colours, strict=False):
        ax.barh(range(len(wide)), share, left=left, color=colour, edgecolor="white", label=label)
        for y, value in enumerate(share):
            if value >= 6:
                ax.text(left[y] + value / 2, y, f"{value:.0f}", ha="center", va="center", fontsize=8)
        left += share.to_numpy()
    for y, (name, value) in enumerate(far.items()):
        ax.text(101, y, "the goal" if name == "retrain" else f"{value:.0f} % apart", va="center", fontsize=8)
    named(ax, [titles[name] for name in wide.index])
    ax.set(xlim=(0, 114), xlabel="share of forget images taken for a class, %", xticks=range(0, 101, 25))
    if "megu" in far:
        same = [name for name in contenders(far.index) if name != "megu" and round(far[name]) == round(far["megu"])]
        tie = f" (so is {', '.join(titles[name] for name in same)})" if same else ""
        said = f"MeGU's answers are {far['megu']:.0f} % apart from the retrained model's{tie}"
        ax.set_title(f"{said}:\nby that {place(far.index)}")
    legend(fig, [ax], "center", ncols=len(wide.columns))
    return fig
