r"""Figures of the noise pair: how it is made, what it looks like, and how its weights act."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from megu.figures.style import ONLY_A, ONLY_B, SHARED, legend, panels, styled

SIGNED = "RdBu_r"  # zero is white
WORDS = {"probability": "probability of its label", "norm": "norm"}
LOOKS = ((ONLY_A, "-"), (ONLY_B, "--"))


def _signed(ax: Axes, noise: Float[np.ndarray, "C H W"], top: float):
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax.imshow(noise.mean(0), cmap=SIGNED, vmin=-top, vmax=top, interpolation="nearest")


def _top(noises: Sequence[Float[np.ndarray, "n C H W"]]) -> float:
    return float(np.quantile(np.abs(np.concatenate([n.mean(1) for n in noises])), 0.995))


@styled
def growth(noises: Mapping[str, Float[np.ndarray, "S C H W"]], table: pd.DataFrame, columns: int = 6) -> Figure:
    r"""Noises as they are optimised, all on one scale, above the model's answer and their norm.

    Args:
        noises: title -> the noise at every step.
        table: noise (title), step, probability (of the label that it is made for), norm.
    """
    steps, top = len(table["step"].unique()) - 1, _top([n[-1:] for n in noises.values()])
    shown = np.unique(np.round(np.geomspace(1, steps + 1, columns)).astype(int) - 1)
    fig = plt.figure(figsize=(8.6, 1.35 * len(noises) + 2.4))
    upper, lower = fig.subfigures(2, 1, height_ratios=(1.35 * len(noises), 2.4))
    axes = upper.subplots(len(noises), len(shown), squeeze=False)
    for step, ax in zip(shown, axes[0], strict=True):
        ax.set_title(f"step {step}")
    for (title, noise), line in zip(noises.items(), axes, strict=True):
        said = table[table["noise"] == title].set_index("step")["probability"]
        for ax, step in zip(line, shown, strict=True):
            image = _signed(ax, noise[step], top)
            ax.set_xlabel(f"{said[step]:.2f}", fontsize=8)
        line[0].set_ylabel(title.replace(", ", ":\n"), rotation=0, ha="right", va="center")
    upper.colorbar(image, ax=axes, label="noise, s.d. of pixels", shrink=0.8, extend="both")
    for ax, column in zip(lower.subplots(1, 2), WORDS, strict=True):
        for (title, part), (colour, dash) in zip(table.groupby("noise", sort=False), LOOKS, strict=False):
            ax.plot(part["step"], part[column], dash, color=colour, label=title)
        ax.set(xlabel="step of Adam", ylabel=WORDS[column], ylim=(0, None))
    ax.legend(loc="upper right")
    last = table[table["step"] == steps]
    said = [f"{row.noise} {row.probability:.2f}" for row in last.itertuples()]
    fig.suptitle(f"Probability of its label after {steps} steps: {'; '.join(said)}")
    return fig


@styled
def anatomy(
    columns: Mapping[str, Float[np.ndarray, "n C H W"]], said: Mapping[str, Sequence[str]], title: str
) -> Figure:
    r"""Images, noises and their sums side by side, each with what the model says of it.

    Args: columns: name -> images in [0, 1], or noises, which have negative values.  said: name -> a text for each.
    """
    top, rows = _top([values for values in columns.values() if values.min() < 0]), len(next(iter(said.values())))
    fig, axes = panels(rows * len(columns), (1.55, 1.6), (1.1, 0.5), len(columns), sharey=False)
    for line, (name, values) in zip(axes.reshape(rows, -1).T, columns.items(), strict=True):
        line[0].set_title(name)
        for ax, value, text in zip(line, values, said[name], strict=True):
            shown = _signed(ax, value if values.min() < 0 else np.zeros_like(value), top)
            if values.min() >= 0:
                ax.imshow(value.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            ax.set_xlabel(text, fontsize=8)
    fig.colorbar(shown, ax=axes, label="noise, s.d. of pixels", shrink=0.6, extend="both")
    fig.suptitle(title)
    return fig


@styled
def over_alpha(table: pd.DataFrame, printed: float, chosen: tuple[float, float]) -> Figure:
    r"""What the model says of forget images with the pair, and the pair's strength, over alpha of eq. 11.

    Args:
        table: alpha, scale, forgotten, perturbing (percent of the images that are named so), strength (percent of the
            image's norm).
        printed: the paper's alpha, at scale 1.  chosen: alpha and scale of the run.
    """
    line = table[table["scale"] == 1].sort_values("alpha")
    point = table[(table["alpha"] == chosen[0]) & (table["scale"] == chosen[1])]
    fig, (left, right) = panels(2, (3.7, 2.4), (0.6, 0.9), sharey=False)
    shown = [(left, "forgotten", ONLY_B, "o"), (left, "perturbing", ONLY_A, "s"), (right, "strength", SHARED, "o")]
    words = {"forgotten": "forgotten class", "perturbing": "perturbing label", "strength": "eq. 11, scale 1"}
    for ax, column, colour, mark in shown:
        ax.plot(line["alpha"], line[column], f"{mark}-", color=colour, markersize=4, label=words[column])
        ax.plot(point["alpha"], point[column], "*", color=colour, markersize=11, markeredgecolor="black", zorder=3)
        ax.axvline(printed, color="black", linestyle=":", linewidth=1)
    right.plot([], [], "*", color="white", markeredgecolor="black", markersize=11, label="weights of this run")
    right.plot([], [], ":", color="black", linewidth=1, label="alpha of the paper")
    left.set(xlabel="alpha", ylabel="named so, % of the images", ylim=(-4, 104))
    right.set(xlabel="alpha", ylabel="norm of the pair, % of the image's", ylim=(0, None))
    legend(fig, (left, right), "center", ncols=5, fontsize=8)
    still = line.iloc[(line["alpha"] - printed).abs().argmin()]["forgotten"]
    said = f"{still:.0f} % by eq. 11, {point['forgotten'].iloc[0]:.0f} % by the weights of this run"
    fig.suptitle(f"Images with the pair that are still named right: {said}")
    return fig
