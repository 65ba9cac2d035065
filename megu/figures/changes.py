r"""Figures of the ablation: what one change does."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from megu.figures.markdown import number
from megu.figures.results import differences
from megu.figures.style import ONLY_A, ONLY_B, SHARED, THIRD, ZERO, forest, legend, panels, reach, styled


def _moved(changes, title, digits):
    """How many changes leave 0 out, and the largest."""
    away = (changes["change"].abs() > changes["change_half_width"]).sum()
    most = changes["change"].abs().idxmax()
    said = f"{away} of {len(changes)} changes move {title} (95 % interval leaves 0 out)"
    return f"{said}\nthe largest: {most}, {number(*changes.loc[most], digits, '+')}"


@styled
def ablation(table: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    r"""What each change of one setting does, by its change of the first metric, and the retrained models' distance
    (role of appendix F); ``table``: from `megu.measure.summary.against_default`."""
    rows = table[~table["point"].isin(["default", "retrain"])]
    names = [b if b.startswith(a) else f"{a}: {b}" for a, b in rows[["point", "variant"]].to_numpy()]
    changes = rows.assign(name=names).set_index(["metric", "name"])[["change", "change_half_width"]]
    order = changes.loc[metrics[0], "change"].sort_values(kind="stable").index
    fig, axes = panels(len(metrics), (1.9, 0.25 * len(order)), (2.2, 1.5))
    for ax, metric in zip(axes, metrics, strict=True):
        part = table[table["metric"] == metric]
        title, unit, _ = differences(metric, part["unit"].iloc[0])
        ax.axvline(0, **ZERO)
        ax.axvline(-part["default_distance"].iloc[0], color=ONLY_B, linestyle="--", label="retrain (mean)")
        forest(ax, changes.loc[metric].reindex(order))
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.set_title(title, fontsize=9)
        ax.set_xlabel(f"change ({unit})")
    title, _, digits = differences(metrics[0], table.loc[table["metric"] == metrics[0], "unit"].iloc[0])
    fig.suptitle(_moved(changes.loc[metrics[0]], title, digits))
    legend(fig, axes[-1:])
    return fig


@styled
def sensitivity(table: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    r"""Lines over each parameter, with 95 % intervals of the change against the default, an orange diamond (role of
    appendix E).

    Args:
        table: parameter, value (text, in the order to be drawn), metric, unit, change, change_half_width (NaN: the
            default), default_distance.
        metrics: one row of panels each.
    """
    parameters = table["parameter"].unique()
    size = {"sharey": "row", "sharex": "col"}
    fig, axes = panels(len(metrics) * len(parameters), (1.9, 1.45), (0.7, 0.9), len(parameters), **size)
    for line, metric in zip(axes.reshape(len(metrics), -1), metrics, strict=True):
        for ax, parameter in zip(line, parameters, strict=True):
            part = table[(table["metric"] == metric) & (table["parameter"] == parameter)].reset_index(drop=True)
            usual = part["change_half_width"].isna()
            ax.axhline(-part["default_distance"].iloc[0], color=SHARED, linestyle="--", label="retrain (mean)")
            bars = reach(part[["change", "change_half_width"]])
            ax.errorbar(part["value"], part["change"], yerr=bars, fmt="o-", color=ONLY_A, capsize=3, markersize=4)
            ax.plot(part.loc[usual, "value"], part.loc[usual, "change"], "D", color=ONLY_B, label="default")
            ax.margins(x=0.15)
        title, unit, _ = differences(metric, part["unit"].iloc[0])
        line[0].set_ylabel(f"{title},\nchange ({unit})", fontsize=8)
    for ax, parameter in zip(axes[-len(parameters) :], parameters, strict=True):
        ax.set_xlabel(parameter)
    first = table[(table["metric"] == metrics[0]) & table["change_half_width"].notna()]
    title, _, digits = differences(metrics[0], first["unit"].iloc[0])
    names = first["parameter"] + " " + first["value"]
    fig.suptitle(_moved(first.set_index(names)[["change", "change_half_width"]], title, digits))
    legend(fig, axes[-1:], "center", ncols=2)
    return fig


@styled
def mechanism(table: pd.DataFrame, metrics: dict[str, str]) -> Figure:
    r"""What MeGU leaves against the share of perturbed images that the original still names, a dot for each setting of
    the pair; a colour for each strength of the original, filled with the guide's labels, hollow with random ones.

    Args:
        table: point (epochs of the original), known (percent of the forget images that it names), guided (whether),
            noised_named and the metrics, means over seeds.
        metrics: name -> label of its axis; a panel each.
    """
    fig, axes = panels(len(metrics), (3.0, 2.6), (0.6, 0.9), sharey=False)
    colours = [SHARED, THIRD, ONLY_A, ONLY_B]
    for ax, (metric, label) in zip(axes, metrics.items(), strict=True):
        for colour, (epochs, part) in zip(colours, table.groupby("point", sort=True), strict=True):
            for guided, dots in part.groupby("guided"):
                name = f"original of {epochs} epoch{'s' * (epochs > 1)}, {part['known'].iloc[0]:.0f} % known"
                face = {"label": name, "facecolors": colour} if guided else {"facecolors": "none"}
                ax.scatter(dots["noised_named"], dots[metric], 28, edgecolors=colour, clip_on=False, **face)
        ax.set_xlabel("perturbed images that the original\nstill names right (%)")
        ax.set_ylabel(label)
        ax.set_xlim(0, 100)
    fig.suptitle("Filled: the guide's labels; hollow: random ones")
    legend(fig, axes[:1], "center", ncols=2)
    return fig
