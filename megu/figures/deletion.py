r"""Figures of a deletion report as inline SVG: accuracies, attacks, and what the forgotten images are taken for."""

import io
import re

import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

from megu.figures.style import STYLE

MODELS = {"before": "before", "after": "after", "reference": "retrained reference"}
PARTS = {  # part of the split -> what it is called
    "forget": "forgotten training images",
    "retain": "retained training images",
    "test_forget": "test images of what is forgotten",
    "test_retain": "test images of what is retained",
}
ATTACKS = {"loss": "loss of each image", "entropy": "entropy of each prediction"}
_LOOK = {  # colour, dash, mark, hatch: told apart without colour
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
    """One row for each label, the first on top, and the legend above."""
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.legend(frameon=False, fontsize=9, ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1))


def _svg(fig):
    """A figure as inline SVG whose black is the page's own text colour, with the same bytes each time."""
    out = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "megu"}):
        fig.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    plt.close(fig)
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r"(?<=<svg )(?=[^>]*>)", 'role="img" ', text, count=1)
    return re.sub(r"#000000|\bblack\b", "currentColor", text)


def curves(attacks):
    r"""ROC of every attack, one panel each; the diagonal is what a coin reaches.  None without attacks."""
    kinds = list(dict.fromkeys(row["attack"] for row in attacks))
    if not kinds:
        return None
    fig, axes = _axes(3.9 * len(kinds), 3.7, len(kinds))
    for ax, kind in zip(axes, kinds, strict=True):
        ax.plot([0, 1], [0, 1], color="#7f7f7f", lw=0.8)
        for row in (row for row in attacks if row["attack"] == kind):
            colour, dash, mark, _ = _LOOK[row["model"]]
            label = f"{MODELS[row['model']]}: AUC {row['auc']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
            line = {"color": colour, "ls": dash, "marker": mark, "ms": 4, "markevery": (10, 20), "label": label}
            ax.plot(row["roc"]["false"], row["roc"]["true"], **line)
        ax.set(title=ATTACKS.get(kind, kind), xlabel="unseen images called members")
        ax.set(ylabel="forgotten images called members", aspect="equal")
        ax.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return _svg(fig)


def bars(rows):
    r"""Accuracies with their 95 % intervals, one row for each part of the data."""
    parts = [part for part in PARTS if any(row["part"] == part for row in rows)]
    models = [model for model in MODELS if any(row["model"] == model for row in rows)]
    fig, (ax,) = _axes(7.2, 0.7 * len(parts) + 1.1)
    for i, model in enumerate(models):
        colour, _, mark, _ = _LOOK[model]
        own = [row for row in rows if row["model"] == model]
        y = [parts.index(row["part"]) + 0.22 * (i - (len(models) - 1) / 2) for row in own]
        reach = [
            [max(0, sign * (row[end] - row["percent"])) for row in own] for sign, end in ((-1, "low"), (1, "high"))
        ]
        percent = [row["percent"] for row in own]
        ax.errorbar(percent, y, xerr=reach, fmt=mark, color=colour, ms=6, capsize=3, label=MODELS[model])
    ax.set(xlim=(-3, 103), xlabel="named right, percent")
    _rows(ax, [PARTS[part] for part in parts])
    return _svg(fig)


def shares(by_model, most=12):
    r"""What the forget images are taken for, in percent: the labels with the largest shares."""
    top = {}
    for of in by_model.values():
        for label, share in of.items():
            top[label] = max(top.get(label, 0), share)
    labels = sorted(top, key=lambda label: -top[label])[:most]
    fig, (ax,) = _axes(7.2, 0.45 * len(labels) + 1.1)
    for i, model in enumerate(model for model in MODELS if model in by_model):
        colour, _, _, hatch = _LOOK[model]
        y = [k + 0.26 * (i - (len(by_model) - 1) / 2) for k in range(len(labels))]
        width = [by_model[model].get(label, 0) for label in labels]
        ax.barh(y, width, 0.24, facecolor="none", edgecolor=colour, hatch=hatch, label=MODELS[model])
    ax.set(xlabel="forgotten images, percent")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    short = [label if len(label) <= 30 else label[:29] + "…" for label in labels]
    _rows(ax, [label.replace("$", r"\$") for label in short])
    return _svg(fig)
