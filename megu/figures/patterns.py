r"""Figures of entanglement: pairs of classes, depth, agreement with a guide, where in the image, what unlearning cut.
Nothing is computed here."""

import matplotlib.pyplot as plt
import numpy as np

from megu.figures.style import ONLY_A, ONLY_B, SHARED, THIRD, styled


@styled
def entanglement(pairs, a):
    r"""Entangled concepts: the index of one class with every other, and the units they share.

    Args:
        pairs: DataFrame from `megu.measure.patterns.entanglement`.
        a: name of the class in question.
    Returns: Figure.  Role of Figure 1 of arXiv 2602.17088.
    """
    part = pairs[pairs["class_a"] == a].sort_values("index")
    y = np.arange(len(part))
    fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 0.34 * len(part) + 1.6), sharey=True, width_ratios=(1.1, 1))
    left.axvspan(part["null_low"].min(), part["null_high"].max(), color="#bbbbbb", label="permuted labels (95 %)")
    left.errorbar(
        part["index"],
        y,
        xerr=[part["index"] - part["low"], part["high"] - part["index"]],
        fmt="o",
        color=ONLY_A,
        capsize=3,
        markersize=4,
    )
    left.set_yticks(y, part["class_b"])
    left.set(
        title=f"Entanglement of {a!r} with each other class", xlabel="entanglement index, 95 % interval over images"
    )
    left.legend(frameon=False, loc="lower right")
    right.barh(y, part["shared"], color=SHARED, label="associated: serve both")
    right.barh(y, part["only_a"], left=part["shared"], color=ONLY_A, hatch="//", edgecolor="white", label=f"only {a}")
    right.barh(y, -part["only_b"], color=ONLY_B, hatch="..", edgecolor="white", label="only the other class")
    right.axvline(0, color="black", linewidth=0.8)
    right.set(title="Units that serve them, by test", xlabel="units of the last layer (left: the other class's own)")
    right.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=8)
    return fig


@styled
def depth(pairs, a):
    r"""Where in depth concepts part: the entanglement index of one class with every other, layer by layer.

    Args:
        pairs: rows of `megu.measure.patterns.entanglement` for several layers, with a column layer, in the order of the
            forward pass.
        a: name of the class in question.
    Returns: Figure.
    """
    part, layers = pairs[pairs["class_a"] == a], list(dict.fromkeys(pairs["layer"]))
    last = part[part["layer"] == layers[-1]].sort_values("index", ascending=False)["class_b"]
    fig, ax = plt.subplots(figsize=(1.1 * len(layers) + 2.8, 3.6))
    null = (
        part.groupby("layer", sort=False)[["null_low", "null_high"]]
        .agg({"null_low": "min", "null_high": "max"})
        .reindex(layers)
    )
    ax.fill_between(
        range(len(layers)), null["null_low"], null["null_high"], color="#bbbbbb", label="permuted labels (95 %)"
    )
    for i, b in enumerate(last):
        row = part[part["class_b"] == b].set_index("layer").reindex(layers)
        colour, style = ((ONLY_A, ONLY_B, THIRD)[i], ("o-", "s--", "^:")[i]) if i < 3 else ("#c8c8c8", "-")
        ax.plot(
            range(len(layers)),
            row["index"],
            style,
            color=colour,
            markersize=4,
            label=b if i < 3 else "other classes" if i == 3 else None,
        )
        ax.fill_between(range(len(layers)), row["low"], row["high"], color=colour, alpha=0.2, linewidth=0)
    ax.set_xticks(range(len(layers)), layers)
    ax.set(
        xlabel="layer, from the image to the head",
        ylabel="entanglement index",
        title=f"Where in depth {a!r} parts from other classes",
    )
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


@styled
def agreement(table):
    r"""How far views of the features order the classes as one guide does: DataFrame from
    `megu.measure.views.agreement`, with a column guide, to Figure."""
    fig, ax = plt.subplots(figsize=(6, 0.36 * len(table) + 1.6))
    y = np.arange(len(table))
    reach = [table["order"] - table["low"], table["high"] - table["order"]]
    ax.errorbar(
        table["order"], y, xerr=reach, fmt="o", color=ONLY_A, capsize=3, label="mean over the classes, 95 % interval"
    )
    ax.plot(table["shuffled"], y, "|", color=ONLY_B, markersize=12, label="97.5 % of shuffled class names")
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(y, table["view"])
    guide = table["guide"].iloc[0]
    ax.set(
        title=f"Views of the features against T of one guide: {guide}",
        xlabel="rank correlation of a view with the guide's T",
        xlim=(-0.55, 1),
    )
    ax.set_ylim(len(table) - 0.5, -0.5)
    fig.legend(*ax.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=2, fontsize=8)
    return fig


@styled
def maps(table, layer):
    r"""Where in the images patterns are seen, on one scale.

    Args:
        table: DataFrame with row, panel (titles), y, x, grey (the image in [0, 1]) and value (the map, NaN for the
            image alone).
        layer: name of the layer whose units are shown.
    Returns: Figure.
    """
    rows, panels = (list(dict.fromkeys(table[name])) for name in ("row", "panel"))
    fig, axes = plt.subplots(
        len(rows),
        len(panels),
        figsize=(1.35 * len(panels) + 2, 1.1 * len(rows) + 0.6),
        squeeze=False,
        layout="compressed",
    )
    top, shown = np.nanquantile(table["value"], 0.998), None
    for (row, panel), part in table.groupby(["row", "panel"], sort=False):
        ax = axes[rows.index(row), panels.index(panel)]
        grey, value = (part.pivot(index="y", columns="x", values=name).to_numpy() for name in ("grey", "value"))
        ax.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        if np.isfinite(value).any():
            shown = ax.imshow(value, cmap="inferno", vmin=0, vmax=top, alpha=0.75, interpolation="nearest")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        if rows.index(row) == 0:
            ax.set_title(panel, fontsize=8)
        if panels.index(panel) == 0:
            ax.set_ylabel(row, fontsize=8, rotation=0, ha="right", va="center")
    fig.get_layout_engine().set(w_pad=0.15)
    fig.colorbar(shown, ax=axes, label=f"activation of {layer} above the mean,\ns.d. of image means", shrink=0.8)
    return fig


@styled
def meaning(table):
    r"""What noises activate, against the same pixels shuffled.

    Args:
        table: DataFrame with input, patterns, mean, half_width (standard deviations of ordinary images).
    Returns: Figure.
    """
    inputs, groups = (list(dict.fromkeys(table[name])) for name in ("input", "patterns"))
    fig, axes = plt.subplots(
        1, len(groups), figsize=(2.5 * len(groups) + 1.4, 0.34 * len(inputs) + 1.1), sharey=True, squeeze=False
    )
    for ax, group in zip(axes.flat, groups, strict=True):
        part = table[table["patterns"] == group].set_index("input").reindex(inputs)
        colours = [SHARED if "shuffled" in name else ONLY_A for name in inputs]
        ax.axvline(0, color="black", linewidth=0.8)
        for y, (row, colour) in enumerate(zip(part.itertuples(), colours, strict=True)):
            ax.errorbar(
                row.mean,
                y,
                xerr=row.half_width,
                fmt="s" if colour == SHARED else "o",
                color=colour,
                capsize=3,
                markersize=4,
            )
        ax.set_yticks(range(len(inputs)), inputs)
        ax.set(title=group, xlabel="response, s.d.")
    axes[0, 0].invert_yaxis()
    return fig


@styled
def disentangled(table, titles):
    r"""What each method suppressed of the unique patterns and kept of the associated ones.

    Args:
        table: DataFrame with method, view, measure (suppressed, kept, score), mean, half_width over seeds.
        titles: method name -> title, in the order of the rows.
    Returns: Figure: a row of panels; the retrained model, where it can be compared, is the line, its interval the band.
    """
    panels = [(view, measure) for view in dict.fromkeys(table["view"]) for measure in dict.fromkeys(table["measure"])]
    methods = [name for name in titles if name in set(table["method"]) and name != "retrain"]
    reach = table["half_width"].fillna(0)  # a t-interval over few seeds may leave [0, 1]; it is shown whole
    limits = min(0, (table["mean"] - reach).min()) - 0.05, max(1, (table["mean"] + reach).max()) + 0.05
    fig, axes = plt.subplots(
        1, len(panels), figsize=(1.75 * len(panels) + 2.4, 0.27 * len(methods) + 1.2), sharey=True, squeeze=False
    )
    for ax, (view, measure) in zip(axes.flat, panels, strict=True):
        part = table[(table["view"] == view) & (table["measure"] == measure)].set_index("method")
        if "retrain" in part.index:
            goal, half = part.loc["retrain", ["mean", "half_width"]]
            ax.axvspan(
                goal - np.nan_to_num(half),
                goal + np.nan_to_num(half),
                color="#dddddd",
                label="retrain: 95 % interval over seeds",
            )
            ax.axvline(goal, color=ONLY_B, linestyle="--", label="retrain: mean")
        rows = part.reindex(methods)
        ax.errorbar(
            rows["mean"],
            range(len(methods)),
            xerr=rows["half_width"].fillna(0),
            fmt="o",
            color=ONLY_A,
            capsize=2,
            markersize=4,
        )
        ax.set_yticks(range(len(methods)), [titles[name] for name in methods])
        what = {"suppressed": "share of unique", "kept": "share of associated", "score": "suppressed x kept"}[measure]
        ax.set(title=f"{view}:\n{measure}", xlabel=what, xlim=limits)
    axes[0, 0].invert_yaxis()
    fig.legend(*axes[0, -1].get_legend_handles_labels(), frameon=False, loc="outside lower right", ncols=2)
    return fig


@styled
def plane(points, names, highlight=()):
    r"""A map of the features in the plane.

    Args:
        points: DataFrame with x, y, class.  names: class names in order.  highlight: classes in colour, the others in
            grey.
    Returns: Figure.
    """
    fig, ax = plt.subplots(figsize=(5.2, 3.9))
    palette = dict(zip(highlight, (ONLY_B, ONLY_A, THIRD, "#cc79a7", "#e69f00"), strict=False))
    for name in sorted(names, key=lambda n: n in palette):
        part = points[points["class"] == name]
        ax.scatter(
            part["x"],
            part["y"],
            s=7,
            color=palette.get(name, "#cfcfcf"),
            linewidths=0,
            label=name if name in palette else None,
        )
        if name not in palette:
            ax.text(part["x"].median(), part["y"].median(), name, ha="center", fontsize=7, color="#555555")
    ax.set_axis_off()
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    return fig


@styled
def recovered(layers, forgetting, titles):
    r"""The measures against the known parts: recovery of the true overlap by layer, and what is left of the parts after
    forgetting.

    Args:
        layers: DataFrame with layer, rho, null_low, null_high, seed.  forgetting: DataFrame with method, measure
            (unique, shared), mean, half_width.
        titles: method name -> title, in the order of the rows.
    Returns: Figure.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.1))
    names = list(dict.fromkeys(layers["layer"]))
    null = layers.groupby("layer", sort=False)[["null_low", "null_high"]].mean()
    left.fill_between(
        range(len(names)), null["null_low"], null["null_high"], color="#bbbbbb", label="permuted labels (95 %)"
    )
    for seed, part in layers.groupby("seed"):
        left.plot(
            range(len(names)),
            part["rho"],
            "o-",
            color=ONLY_A,
            markersize=4,
            label="index against true overlap" if seed == layers["seed"].min() else None,
        )
    left.axhline(0.9, color=ONLY_B, linestyle="--", linewidth=1, label="0.9, what notebook 01 asks of the last layer")
    left.set_xticks(range(len(names)), names)
    left.set(
        ylabel="rank correlation",
        xlabel="layer, from the image to the head",
        title="Recovery of the overlap that is there",
    )
    methods = [name for name in titles if name in set(forgetting["method"])]
    for measure, colour, mark, shift in (("unique", ONLY_A, "o", -0.12), ("shared", SHARED, "s", 0.12)):
        part = forgetting[forgetting["measure"] == measure].set_index("method").reindex(methods)
        y = np.arange(len(methods)) + shift
        right.errorbar(
            part["mean"],
            y,
            xerr=part["half_width"].fillna(0),
            fmt=mark,
            color=colour,
            capsize=2,
            markersize=4,
            label=f"{measure} parts",
        )
    right.set_yticks(range(len(methods)), [titles[name] for name in methods])
    right.invert_yaxis()
    right.axvline(1, color="black", linewidth=0.8, label="as in the original")
    right.set(
        xlabel="reaction to a part over the original's, 95 % interval over seeds",
        title="What is left of the forgotten class's parts",
    )
    handles, texts = (
        sum(both, []) for both in zip(left.get_legend_handles_labels(), right.get_legend_handles_labels(), strict=True)
    )
    fig.legend(handles, texts, frameon=False, loc="outside lower center", ncols=3, fontsize=8)
    return fig
