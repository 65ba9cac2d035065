r"""Figures of a deletion report and of a comparison: inline SVG, or PNG, which a notebook shows untrusted as well."""

import io
import re
import warnings

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from megu.figures.style import STYLE, name_points, reach

MODELS = {"before": "before", "after": "after", "reference": "retrained reference"}
PARTS = {
    "forget": "forgotten training images",
    "retain": "retained training images",
    "test_forget": "test images of what is forgotten",
    "test_retain": "test images of what is retained",
}
ATTACKS = {"loss": "loss of each image", "entropy": "entropy of each prediction"}
_LOOK = {  # colour, dash, mark, hatch
    "before": ("#7f7f7f", ":", "o", ""),
    "after": ("#2a86c8", "-", "s", "////"),
    "reference": ("#d55e00", "--", "^", "...."),
}


def _axes(width, height, columns=1):
    with plt.rc_context({**STYLE, "font.size": 10, "font.family": "sans-serif"}):
        fig, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False)
    for ax in axes[0]:
        ax.patch.set_alpha(0)
    return fig, axes[0]


def _rows(ax, labels):
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.legend(frameon=False, fontsize=9, ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1))


def _models(names):
    """(Model, its shift in bars, its look) of each model among ``names``."""
    models = [model for model in MODELS if model in names]
    return [(model, i - (len(models) - 1) / 2, _LOOK[model]) for i, model in enumerate(models)]


def svg(fig):
    """Text of a page: its black is the page's own text colour, its bytes are the same each time."""
    out = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "megu"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the page brings the letters, not the font of the drawing
        fig.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    plt.close(fig)
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    return re.sub(r"#000000|\bblack\b", "currentColor", text.replace("<svg ", '<svg role="img" ', 1))


def png(fig):
    """The bytes of an image file on white."""
    out = io.BytesIO()
    fig.savefig(out, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    plt.close(fig)
    return out.getvalue()


def curves(attacks, write=svg):
    r"""ROC of every attack, one panel each; grey: chance.  None without attacks."""
    kinds = list(dict.fromkeys(row["attack"] for row in attacks))
    if not kinds:
        return None
    fig, axes = _axes(3.9 * len(kinds), 3.7, len(kinds))
    for ax, kind in zip(axes, kinds, strict=True):
        ax.plot([0, 1], [0, 1], color="#7f7f7f", lw=0.8)
        for row in attacks:
            if row["attack"] == kind:
                colour, dash, mark, _ = _LOOK[row["model"]]
                label = f"{MODELS[row['model']]}: AUC {row['auc']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
                look = {"color": colour, "ls": dash, "marker": mark, "ms": 4, "markevery": (10, 20), "label": label}
                ax.plot(row["roc"]["false"], row["roc"]["true"], **look)
        ax.set(title=ATTACKS[kind], xlabel="unseen images called members", aspect="equal")
        ax.set_ylabel("forgotten images called members")
        ax.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return write(fig)


def bars(rows, write=svg):
    r"""Accuracies with their 95 % intervals, one row for each part of the data."""
    table = pd.DataFrame(rows)
    parts = [part for part in PARTS if part in set(table["part"])]
    fig, (ax,) = _axes(7.2, 0.7 * len(parts) + 1.1)
    for model, shift, (colour, _, mark, _) in _models(set(table["model"])):
        own = table[table["model"] == model]
        y = own["part"].map(parts.index) + 0.22 * shift
        look = {"fmt": mark, "color": colour, "ms": 6, "capsize": 3, "label": MODELS[model]}
        ax.errorbar(own["percent"], y, xerr=reach(own[["percent", "low", "high"]]).clip(0), **look)
    ax.set(xlim=(-3, 103), xlabel="named right, percent")
    _rows(ax, [PARTS[part] for part in parts])
    return write(fig)


def shares(by_model, write=svg):
    r"""What the forget images are taken for, in percent: the twelve labels with the largest shares."""
    table = pd.DataFrame(by_model).fillna(0).sort_index()  # else the order of equal shares is the dictionary's
    table = table.loc[table.max(axis=1).sort_values(ascending=False, kind="stable").index[:12]]
    fig, (ax,) = _axes(7.2, 0.45 * len(table) + 1.1)
    for model, shift, (colour, _, _, hatch) in _models(table):
        y = [k + 0.26 * shift for k in range(len(table))]
        ax.barh(y, table[model], 0.24, facecolor="none", edgecolor=colour, hatch=hatch, label=MODELS[model])
    ax.set(xlabel="forgotten images, percent")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    short = (label if len(label) <= 30 else label[:29] + "…" for label in table.index)
    _rows(ax, [label.replace("$", r"\$") for label in short])
    return write(fig)


def pareto(rows, write=svg):
    r"""Points from the goal on what is forgotten and on what is retained: lower left is better.

    Args: rows: title, forget, retain (points), front (no other is nearer on both), recommended.
    """
    table = pd.DataFrame(rows).sort_values(["forget", "retain"])
    fig, (ax,) = _axes(7.2, 4.6)
    front = table[table["front"]]
    look = {"color": "#7f7f7f", "lw": 0.8, "ls": "--", "label": "no other is better"}
    ax.step(front["forget"], front["retain"], where="post", **look)
    for best, part in table.groupby("recommended"):
        colour, _, mark, _ = _LOOK["reference" if best else "after"]
        look = {"color": colour, "marker": mark, "s": 36, "label": "recommended" if best else "method"}
        ax.scatter(part["forget"], part["retain"], **look, clip_on=False)
    ax.set_xscale("symlog", linthresh=5)
    ax.set_yscale("symlog", linthresh=5)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(ScalarFormatter())
    ax.set(xlim=(0, max(10, 1.6 * table["forget"].max())), ylim=(0, max(10, 1.3 * table["retain"].max())))
    ax.set_xlabel("forgotten images: points from the goal")
    ax.set_ylabel("held-out retained images: points from the goal")
    ax.legend(frameon=False, fontsize=9, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    name_points(ax, table[["forget", "retain"]].to_numpy(), table["title"])
    return write(fig)
