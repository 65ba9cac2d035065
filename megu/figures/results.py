r"""Figures of one request and of the comparison."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from megu.figures.markdown import number
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

METRICS = {  # metric -> what figures call it
    "acc_retain_test": "retain test accuracy",
    "acc_forget_train": "forget train accuracy",
    "acc_forget_test": "forget test accuracy",
    "mia_loss_auc": "loss attack AUC",
    "mia_ssd_member_rate": "SSD member rate (compat)",
    "tow": "tug-of-war (ToW)",
}


def _differences(metric, unit):
    """(What figures call a metric, the unit of its differences, their decimals)."""
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


@styled
def gaps(summary: pd.DataFrame, titles: Mapping[str, str], metrics: Sequence[str], symlog: bool = False) -> Figure:
    r"""Every method's gap to the retrained model, by that of the first metric, and the noise floor of retraining.

    Args:
        summary: from `megu.measure.summary.summary`; with a column scenario, each has a row of panels.
        symlog: logarithmic beyond one unit, where some methods are far away.
    """
    methods = [name for name in titles if name in set(summary["method"]) and name != "retrain"]
    parts = list(summary.groupby("scenario", sort=False)) if "scenario" in summary else [("", summary)]
    columns, size = len(metrics), (2.9, (0.36 if len(parts) == 1 else 0.25) * len(methods))
    fig, axes = panels(len(parts) * columns, size, (1.2, 1.4), columns, sharex="col" if symlog else False)
    said = []
    for (scenario, table), line in zip(parts, axes.reshape(len(parts), -1), strict=True):
        wide = table.set_index(["metric", "method"]).sort_index()
        order = wide.loc[metrics[0], "gap"].reindex(methods).abs().sort_values(kind="stable").index
        for ax, metric in zip(line, metrics, strict=True):
            part = wide.loc[metric]
            floor = part.loc["retrain", "half_width"] * 2**0.5
            title, unit, _ = _differences(metric, part["unit"].iloc[0])
            if np.isfinite(floor):
                ax.axvspan(-floor, floor, color=FLOOR, label="noise floor: difference of two sets of retrains (95 %)")
            ax.axvline(0, **ZERO)
            forest(ax, part.reindex(order)[["gap", "gap_half_width"]].rename(titles))
            for y in np.flatnonzero(~order.isin(part.index)):
                ax.text(0, y, " not run", va="center", fontsize=7)
            if symlog:
                ax.set_xscale("symlog", linthresh=1 if unit == "points" else 0.1)
            else:
                ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.tick_params("x", labelbottom=True, labelsize=7 if symlog else None)
            ax.set_title(f"{scenario}:\n{title}".removeprefix(":\n"))
            ax.set_xlabel(f"gap to retrain ({unit})")
        if (metrics[0], "megu") in wide.index:
            *gap, unit = wide.loc[(metrics[0], "megu"), ["gap", "gap_half_width", "unit"]]
            first, _, digits = _differences(metrics[0], unit)
            said.append(f"{scenario} {number(*gap, digits, '+')}".strip())
    fig.suptitle(f"MeGU minus retrain, {first}: {', '.join(said)}" if said else None)
    legend(fig, axes[:columns])
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
    apart = pd.DataFrame({"x": x["gap"].abs(), "y": y["gap"].abs()}).drop("retrain")
    fig, ax = plt.subplots(figsize=(7, 4.6))
    for name in names:
        look = {"retrain": {"fmt": "*", "color": "black", "markersize": 12}, "megu": {"fmt": "D", "color": ONLY_B}}
        look = {"fmt": "o", "color": ONLY_A, "markersize": 5} | look.get(name, {})
        ends = [[axis.loc[name, "half_width"]] if pd.notna(axis.loc[name, "half_width"]) else None for axis in (y, x)]
        ax.errorbar(x.loc[name, "mean"], y.loc[name, "mean"], *ends, elinewidth=0.6, ecolor=FLOOR, **look)
    ax.set(xlabel=f"{METRICS[forget]}, % (95 % interval over seeds)", ylabel=f"{METRICS['acc_retain_test']}, %")
    if "megu" in apart.index:
        nearer = int((apart < apart.loc["megu"]).all(axis=1).sum())
        ax.set_title(f"{nearer} of {len(apart) - 1} are nearer than MeGU to the retrained model on both axes")
    ax.margins(0.08)
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
        ax.set_title(f"MeGU takes {100 * total['megu'] / total['retrain']:.0f} % of the time of retraining")
    ax.legend(loc="lower right")
    return fig


@styled
def ablation(table: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    r"""What each change of one setting does, and the retrained models' distance (role of appendices E and F);
    ``table``: from `megu.measure.summary.against_default`."""
    rows = table[~table["point"].isin(["default", "retrain"])]
    names = [b if b.startswith(a) else f"{a}: {b}" for a, b in rows[["point", "variant"]].to_numpy()]
    changes = rows.assign(name=names).set_index(["metric", "name"])[["change", "change_half_width"]]
    names = list(dict.fromkeys(names))
    fig, axes = panels(len(metrics), (2.8, 0.27 * len(names)), (1.8, 1.5))
    for ax, metric in zip(axes, metrics, strict=True):
        part = table[table["metric"] == metric]
        (title, unit, digits), found = _differences(metric, part["unit"].iloc[0]), changes.loc[metric].reindex(names)
        ax.axvline(0, **ZERO)
        ax.axvline(-part["default_distance"].iloc[0], color=ONLY_B, linestyle="--", label="retrain (mean)")
        forest(ax, found)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set(title=title, xlabel=f"change against the default ({unit})")
    most = found["change"].abs().idxmax()
    fig.suptitle(f"The largest change of {title}: {most}, {number(*found.loc[most], digits, '+')}")
    legend(fig, axes[-1:])
    return fig


@styled
def share_and_index(table: pd.DataFrame, concept: str) -> Figure:
    r"""Are perturbing labels near?  Their share of forget images, percent, against their entanglement index."""
    fig, ax = plt.subplots(figsize=(5.2, 3.4))
    ax.errorbar(table["index"], table["share"], xerr=(table["high"] - table["low"]) / 2, fmt="o", color=ONLY_A)
    for name, row in table[(table["share"] >= 1) | table["index"].eq(table["index"].max())].iterrows():
        ax.annotate(f" {name}", (row["index"], row["share"]), va="bottom")
    ax.axvline(0, **ZERO)
    ax.set(title=f"Which classes {concept} is pushed to", ylabel="share of forget images, %")
    ax.set_xlabel(f"entanglement index with {concept} (1: the same patterns)")
    return fig
