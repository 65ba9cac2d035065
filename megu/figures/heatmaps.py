r"""Tables and arrays to heat maps, in the style of `megu.figures.style`; nothing is computed here."""

import matplotlib.pyplot as plt
import numpy as np

from megu.figures.style import ONLY_B, styled


def _heat(ax, values, rows, columns, low, high, text):
    """A heat map of ``(n, m)`` values with their numbers, where there are few of them."""
    shown = ax.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    if max(values.shape) <= 20:
        for (i, j), value in np.ndenumerate(values):
            ax.text(
                j,
                i,
                text(value),
                ha="center",
                va="center",
                fontsize=7,
                color="black" if value > (low + high) / 2 else "white",
            )
        ax.set_xticks(range(values.shape[1]), columns, rotation=45, ha="right")
        ax.set_yticks(range(values.shape[0]), rows)
    ax.spines[:].set_visible(False)
    return shown


@styled
def matrix(values, names, *, title, xlabel, ylabel, label, ax=None, marked=None):
    r"""A square matrix with its numbers.

    Args:
        values: ``(K, K)`` float.
        names: K class names.
        title, xlabel, ylabel: texts.  label: of the colour bar.
        ax: Axes or None for a figure of its own.
        marked: list of (row, column) to be framed; the axis label has to say what the frame means.
    Returns: Figure.  Colours span the values off the diagonal; an arrow of the colour bar says that some on it lie
        beyond.
    """
    values, k = np.asarray(values, float), len(names)
    if ax is None:
        ax = plt.subplots(figsize=(0.52 * k + 1.6, 0.46 * k + 1.2))[1]
    off = values[~np.eye(k, dtype=bool)]
    shown = _heat(ax, values, names, names, off.min(), off.max(), lambda value: f"{value:.2f}".replace("0.", ".", 1))
    beyond = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(
        (values.min() < off.min(), values.max() > off.max()), "neither"
    )
    ax.figure.colorbar(shown, ax=ax, label=label, extend=beyond)
    for i, j in marked or ():
        ax.add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=ONLY_B, linewidth=2))
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return ax.figure


@styled
def matrices(table, names, columns=3):
    r"""Transition matrices of several guides side by side, each row of colours from its own least to its largest share
    off the diagonal.

    Args:
        table: dictionary, guide -> ``(K, K)`` float, column k = class k.
        names: K class names.
        columns: matrices in a row.
    Returns: Figure.
    """
    n_rows = -(-len(table) // columns)
    fig, axes = plt.subplots(
        n_rows, columns, figsize=(2.4 * columns + 0.8, 2.2 * n_rows + 0.9), sharey=True, squeeze=False
    )
    for ax in axes.flat[len(table) :]:
        ax.set_visible(False)
    for i, (ax, (guide, values)) in enumerate(zip(axes.flat, table.items(), strict=False)):
        values, off = np.asarray(values, float), ~np.eye(len(names), dtype=bool)
        ax.imshow(values, cmap="cividis", vmin=values[off].min(), vmax=values[off].max())
        ax.set_xticks(range(len(names)), names if i + columns >= len(table) else (), rotation=90, fontsize=7)
        ax.set_yticks(range(len(names)), names, fontsize=7)
        ax.set_title(guide)
        ax.spines[:].set_visible(False)
    fig.supxlabel("class k", fontsize=9)
    fig.supylabel("candidate label", fontsize=9)
    return fig


@styled
def predictions(table, titles):
    r"""What the forget images are taken for, before and after unlearning.

    Args:
        table: DataFrame with method, label, share (percent of the forget images, one value for each pair).
        titles: method name -> title, in the order of the rows.
    Returns: Figure.  Role of appendix D of arXiv 2602.17088.
    """
    wide = table.pivot(index="method", columns="label", values="share")[list(dict.fromkeys(table["label"]))].reindex(
        titles
    )
    fig, ax = plt.subplots(figsize=(0.62 * wide.shape[1] + 2.6, 0.36 * len(wide) + 1.4))
    shown = _heat(
        ax, wide.to_numpy(), [titles[name] for name in wide.index], wide.columns, 0, 100, lambda share: f"{share:.0f}"
    )
    fig.colorbar(shown, ax=ax, label="share of forget images, %")
    return fig
