r"""Tables and arrays to matplotlib figures, in one style; nothing is computed here."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from megu.figures.heatmaps import matrix
from megu.figures.style import METRICS, ONLY_A, ONLY_B, PART_COLOURS, SHARED, UNITS, styled


@styled
def image_grid(images, titles=(), columns=10, size=0.9, heading=None):
    r"""Images side by side.

    Args:
        images: ``(n, C, H, W)`` array or tensor in [0, 1].
        titles: text above each image, or fewer.
        columns: images in a row.
        size: width of one image, inch.
        heading: text above all.
    Returns: Figure.
    """
    images = np.asarray(images)
    n_rows, titled = -(-len(images) // columns), -(-len(titles) // columns)
    fig, axes = plt.subplots(
        n_rows, columns, figsize=(columns * size, n_rows * size + 0.25 * titled + 0.3), squeeze=False
    )
    for i, ax in enumerate(axes.flat):
        ax.axis("off")
        if i < len(images):
            picture = images[i].transpose(1, 2, 0)
            ax.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=1)
        if i < len(titles):
            ax.set_title(titles[i], fontsize=8)
    if heading:
        fig.suptitle(heading, fontsize=10)
    return fig


def stretched(images):
    r"""Each image scaled to fill [0, 1]: ``(n, C, H, W)`` tensor, for inputs such as noise that have no natural
    range."""
    low, high = images.amin((1, 2, 3), True), images.amax((1, 2, 3), True)
    return (images - low) / (high - low).clamp_min(1e-12)


@styled
def entanglement(sim, names, units, a):
    r"""Entangled concepts: centroid similarity, and units shared with and unique against every other class.

    Args:
        sim: ``(K, K)`` float, centroid similarity.
        names: K class names.
        units: DataFrame with class_a, class_b, shared, only_a, only_b.
        a: name of the class in question.
    Returns: Figure.  Role of Figure 1 of arXiv 2602.17088.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), width_ratios=(1.15, 1))
    matrix(
        sim,
        names,
        title="How close the class means lie",
        xlabel="class",
        ylabel="class",
        label="cosine of centred means",
        ax=left,
    )
    part = units[units["class_a"] == a].sort_values("shared")
    y = np.arange(len(part))
    right.barh(y, part["shared"], color=SHARED, label="shared")
    right.barh(y, part["only_a"], left=part["shared"], color=ONLY_A, hatch="//", edgecolor="white", label=f"only {a}")
    right.barh(y, -part["only_b"], color=ONLY_B, hatch="..", edgecolor="white", label="only the other class")
    right.set_yticks(y, part["class_b"])
    right.axvline(0, color="black", linewidth=0.8)
    right.set(
        title=f"Units that serve {a!r}, and those of each other class",
        xlabel="units of the last layer (left: the other class's own)",
    )
    right.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3)
    return fig


@styled
def label_distribution(table):
    r"""How often each class is chosen as perturbing label.

    Args:
        table: DataFrame with choice, label, share (percent); one group of bars for each choice.
    Returns: Figure.  Role of appendix C of arXiv 2602.17088.
    """
    choices, labels = list(dict.fromkeys(table["choice"])), list(dict.fromkeys(table["label"]))
    fig, axes = plt.subplots(1, len(choices), figsize=(2.3 * len(choices) + 1, 2.8), sharey=True, squeeze=False)
    for ax, choice in zip(axes.flat, choices, strict=True):
        part = table[table["choice"] == choice].set_index("label")["share"].reindex(labels).fillna(0)
        ax.barh(range(len(labels)), part, color=ONLY_A)
        ax.set_yticks(range(len(labels)), labels)
        ax.set_ylim(len(labels) - 0.4, -0.6)
        ax.set(title=choice, xlabel="share of forget images, %", xlim=(0, 100))
    return fig


@styled
def gaps(summary, titles, metrics, symlog=False):
    r"""Every method's distance to the retrained model, with the noise floor of retraining.

    Args:
        summary: DataFrame from `megu.measure.summary.summary`; with a column scenario, each has a row of panels, where
            methods that it lacks are "not run".
        titles: method name -> title, in the order of the rows.
        metrics: names of the metrics, one panel each.
        symlog: logarithmic beyond one unit, where some methods are far away.
    Returns: Figure.
    """
    methods = [name for name in titles if name in set(summary["method"]) and name != "retrain"]
    parts = dict(list(summary.groupby("scenario", sort=False))) if "scenario" in summary else {"": summary}
    size = (2.9 * len(metrics) + 1.2, (0.36 if len(parts) == 1 else 0.25) * len(methods) * len(parts) + 1.2)
    fig, axes = plt.subplots(
        len(parts), len(metrics), figsize=size, sharey=True, sharex="col" if symlog else False, squeeze=False
    )
    for (scenario, table), line in zip(parts.items(), axes, strict=True):
        for ax, metric in zip(line, metrics, strict=True):
            part = table[table["metric"] == metric].set_index("method")
            floor = part.loc["retrain", "half_width"]
            if np.isfinite(floor):
                ax.axvspan(
                    -floor * 2**0.5,
                    floor * 2**0.5,
                    color="#dddddd",
                    label="noise floor: difference of two sets of retrains (95 %)",
                )
            ax.axvline(0, color="black", linewidth=0.8)
            rows = part.reindex(methods)
            ax.errorbar(
                rows["gap"],
                range(len(methods)),
                xerr=rows["gap_half_width"].fillna(0),
                fmt="o",
                color=ONLY_A,
                capsize=3,
                markersize=4,
            )
            ax.set_yticks(range(len(methods)), [titles[name] for name in methods])
            for y in (y for y, name in enumerate(methods) if name not in part.index):
                ax.text(0, y, " not run", va="center", fontsize=7)
            unit, title = part["unit"].iloc[0], METRICS.get(metric, metric)
            if symlog:
                ax.set_xscale("symlog", linthresh=1 if unit == "percent" else 0.1)
            else:
                ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.tick_params("x", labelbottom=True, labelsize=7 if symlog else None)
            ax.set(
                title=f"{scenario}:\n{title}" if scenario else title, xlabel=f"gap to retrain ({UNITS.get(unit, unit)})"
            )
    axes[0, 0].invert_yaxis()
    handles, texts = axes[0, -1].get_legend_handles_labels()
    fig.legend(handles, texts, frameon=False, loc="outside lower right")
    return fig


@styled
def time_per_stage(table, titles):
    r"""Seconds of every method, split into its parts, mean over the seeds.

    Args:
        table: DataFrame with method, part, seconds (mean).
        titles: method name -> title, in the order of the bars.
    Returns: Figure.  Role of Figure 4 of arXiv 2602.17088.
    """
    titles = {**titles, "guide": "Guide, once per data set"}
    wide = (
        table.pivot(index="method", columns="part", values="seconds")
        .reindex([name for name in titles if name in set(table["method"])])
        .fillna(0)
    )
    wide = wide.drop(columns="evaluation", errors="ignore")
    wide = (
        wide.T.groupby(lambda part: part if part in PART_COLOURS else "other").sum().T
    )  # what single methods have: teachers, importance, ...
    fig, ax = plt.subplots(figsize=(7, 0.42 * len(wide) + 1.1))
    left = np.zeros(len(wide))
    for part in [name for name in PART_COLOURS if name in wide]:
        ax.barh(range(len(wide)), wide[part], left=left, color=PART_COLOURS[part], label=part)
        left += wide[part].to_numpy()
    for i, total in enumerate(left):
        ax.text(total, i, f" {total:.1f} s", va="center", fontsize=8)
    ax.set_yticks(range(len(wide)), [titles[name] for name in wide.index])
    ax.invert_yaxis()
    ax.set(xlabel="seconds (evaluation not included)", xlim=(0, left.max() * 1.12))
    ax.legend(frameon=False, loc="lower right")
    return fig


@styled
def ablation(table, metrics):
    r"""What each change of one setting does, beside the distance of the default to the retrained models.

    Args:
        table: DataFrame from `megu.measure.summary.against_default`.
        metrics: names of the metrics, one panel each.
    Returns: Figure.  Role of appendices E and F of arXiv 2602.17088.
    """
    rows = table[["point", "variant"]].drop_duplicates()
    rows = rows[~rows["point"].isin(["default", "retrain"])]
    names = [
        row.variant if row.variant.startswith(row.point) else f"{row.point}: {row.variant}" for row in rows.itertuples()
    ]
    fig, axes = plt.subplots(
        1, len(metrics), figsize=(2.8 * len(metrics) + 1.8, 0.27 * len(rows) + 1.2), sharey=True, squeeze=False
    )
    for ax, metric in zip(axes.flat, metrics, strict=True):
        part = table[table["metric"] == metric]
        unit = part["unit"].iloc[0]
        found = rows.merge(part, how="left", on=["point", "variant"])
        ax.axvline(0, color="black", linewidth=0.8)
        ax.axvline(-part["default_distance"].iloc[0], color=ONLY_B, linestyle="--", label="retrain (mean)")
        ax.errorbar(
            found["change"],
            range(len(found)),
            xerr=found["change_half_width"],
            fmt="o",
            color=ONLY_A,
            capsize=3,
            markersize=4,
        )
        ax.set_yticks(range(len(found)), names)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set(title=METRICS.get(metric, metric), xlabel=f"change against the default ({UNITS.get(unit, unit)})")
    axes[0, 0].invert_yaxis()
    handles, texts = axes[0, -1].get_legend_handles_labels()
    fig.legend(handles, texts, frameon=False, loc="outside lower right")
    return fig


@styled
def share_and_index(table, concept):
    r"""Are perturbing labels near?  Share of forget images, percent, against entanglement index: DataFrame by label."""
    fig, ax = plt.subplots(figsize=(5.2, 3.4))
    ax.errorbar(table["index"], table["share"], xerr=(table["high"] - table["low"]) / 2, fmt="o", color=ONLY_A)
    for name, row in table[(table["share"] >= 1) | table["index"].eq(table["index"].max())].iterrows():
        ax.annotate(f" {name}", (row["index"], row["share"]), va="bottom")
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set(title=f"Which classes {concept} is pushed to", ylabel="share of forget images, %")
    ax.set_xlabel(f"entanglement index with {concept} (1: the same patterns)")
    return fig
