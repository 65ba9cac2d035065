r"""The deletion report of one unlearned model: a JSON file with a schema, and one HTML file that needs no other."""

import hashlib
import io
import json
import re
from importlib.resources import files
from pathlib import Path

import jinja2
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

import megu
from megu.figures.style import STYLE
from megu.own import findings
from megu.own.verdict import verdict
from megu.settings.errors import SettingsError
from megu.settings.files import atomic, write_json

NAME = "megu deletion report 1"
TITLES = {"before": "before", "after": "after", "reference": "retrained reference"}
_LOOK = {
    "before": ("#7f7f7f", ":", "o"),
    "after": ("#2a86c8", "-", "s"),
    "reference": ("#d55e00", "--", "^"),
}  # told apart without colour
_ATTACKS = {"loss": "loss of each image", "entropy": "entropy of each prediction"}


def compose(request, images, split, ids, trained_on, done, found, transition):
    r"""The report as a JSON-like dictionary that ``megu/own/assets/report.schema.json`` describes.

    Args:
        request: `megu.own.request.Request`.  images: `megu.datasets.images.Images`.  ids: what each training image is
            called.
        split: the parts that were measured.
        trained_on: how many images the model was trained on, or None where all were given.
        done: what was done, a dictionary.
        found: `megu.own.findings.Models`.
        transition: ``(K, K)`` array or None.
    """
    forget = request.split.forget
    sample = (images.num_train, trained_on) if trained_on is not None and trained_on > images.num_train else None
    measured, attacked = findings.accuracies(found, images, split), findings.curves(found, images, split)
    return {
        "report": NAME,
        "megu": megu.__version__,
        "asked": {
            "scenario": request.scenario,
            "names": list(request.names),
            "images": len(forget),
            "index_sha256": request.digest,
            "pixels_sha256": hashlib.sha256(images.x[forget].cpu().numpy().tobytes()).hexdigest(),
            "data": {
                "name": images.name,
                "digest": images.digest(),
                "classes": list(images.classes),
                "shape": list(images.shape),
                "training_images": images.num_train,
                "test_images": len(images.y) - images.num_train,
                "trained_on": trained_on,
                "retain_is_sample": sample is not None,
            },
        },
        "done": done,
        "accuracy": measured,
        "attacks": attacked,
        "metrics": findings.metrics(found, images, split),
        "predictions": findings.predictions(found, images, split, ids),
        "nearest": findings.nearest(found, images, split, transition),
        "verdict": verdict(request, found, images, split, sample, measured, attacked),
    }


def write(facts, folder):
    r"""Write report.json and report.html into a folder, each whole or not at all; returns the folder."""
    folder = Path(folder)
    write_json(folder / "report.json", facts, locked=True)
    write_html(facts, folder)
    return folder


def write_html(facts, folder):
    r"""Write report.html into a folder; returns its path."""
    page = html(facts)
    with atomic(Path(folder) / "report.html", locked=True) as part:
        part.write_text(page, encoding="utf-8")
    return Path(folder) / "report.html"


def read(path):
    r"""The report of a folder, or of its report.json.  Raises: SettingsError where there is none, or it is none."""
    path = Path(path)
    path = path / "report.json" if path.is_dir() else path
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path.name} cannot be read ({type(error).__name__}): give the folder of `python -m megu unlearn`, or its"
            " report.json"
        ) from None
    if not isinstance(facts, dict) or facts.get("report") != NAME:
        raise SettingsError(
            f"{path.name} is no {NAME!r}: give the folder of `python -m megu unlearn`, or its report.json"
        )
    return facts


def schema():
    r"""The JSON schema of a report."""
    return json.loads((files("megu.own") / "assets" / "report.schema.json").read_text())


def html(facts):
    r"""One HTML page without outside references: light or dark as the reader's screen, and for paper."""
    place = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    place.filters |= {
        "num": lambda value, digits=1: "not available" if value is None else f"{value:.{digits}f}",
        "count": lambda value: f"{value:,}",
    }
    page = place.from_string((files("megu.own") / "assets" / "report.html.j2").read_text(encoding="utf-8"))
    named = [name for name in TITLES if any(row["model"] == name for row in facts["accuracy"])]
    try:
        return page.render(
            r=facts,
            titles=TITLES,
            named=named,
            parts=findings.PARTS,
            attacks=_ATTACKS,
            curves=curves(facts["attacks"]),
            bars=bars(facts["accuracy"]),
            shares=shares(facts["predictions"]["shares"]),
        )
    except (jinja2.UndefinedError, TypeError, KeyError) as error:
        raise SettingsError(
            f"the report is not complete ({error}): make it again by `python -m megu unlearn`"
        ) from None


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


def _axes(width, height, columns=1):
    rc = {**STYLE, "font.size": 10, "font.family": "sans-serif"}
    with plt.rc_context(rc):
        fig, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False)
    for ax in axes[0]:
        ax.patch.set_alpha(0)
    return fig, axes[0]


def curves(attacks):
    r"""ROC of every attack, one panel each, as SVG; the diagonal is what a coin reaches.  None without attacks."""
    kinds = list(dict.fromkeys(row["attack"] for row in attacks))
    if not kinds:
        return None
    fig, axes = _axes(3.9 * len(kinds), 3.7, len(kinds))
    for ax, kind in zip(axes, kinds, strict=True):
        ax.plot([0, 1], [0, 1], color="#7f7f7f", lw=0.8)
        for row in (row for row in attacks if row["attack"] == kind):
            colour, dash, mark = _LOOK[row["model"]]
            label = f"{TITLES[row['model']]}: AUC {row['auc']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
            ax.plot(
                row["roc"]["false"],
                row["roc"]["true"],
                color=colour,
                ls=dash,
                marker=mark,
                markevery=(10, 20),
                ms=4,
                label=label,
            )
        ax.set(
            title=_ATTACKS.get(kind, kind),
            xlabel="unseen images called members",
            ylabel="forgotten images called members",
            aspect="equal",
        )
        ax.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return _svg(fig)


def bars(rows):
    r"""Accuracies with their 95 % intervals as SVG, one row for each part of the data."""
    parts = [part for part in findings.PARTS if any(row["part"] == part for row in rows)]
    fig, (ax,) = _axes(7.2, 0.7 * len(parts) + 1.1)
    names = [name for name in TITLES if any(row["model"] == name for row in rows)]
    for i, name in enumerate(names):
        colour, _, mark = _LOOK[name]
        own = [
            (parts.index(row["part"]) + 0.22 * (i - (len(names) - 1) / 2), row) for row in rows if row["model"] == name
        ]
        where, values = [y for y, _ in own], [row["percent"] for _, row in own]
        reach = [
            [max(0, row["percent"] - row["low"]) for _, row in own],
            [max(0, row["high"] - row["percent"]) for _, row in own],
        ]
        ax.errorbar(values, where, xerr=reach, fmt=mark, color=colour, ms=6, capsize=3, label=TITLES[name])
    ax.set(
        xlim=(-3, 103),
        xlabel="named right, percent",
        yticks=range(len(parts)),
        yticklabels=[findings.PARTS[part] for part in parts],
    )
    ax.set_ylim(len(parts) - 0.5, -0.5)
    ax.legend(frameon=False, fontsize=9, ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1))
    return _svg(fig)


def shares(found, most=12):
    r"""What the forget images are taken for, in percent, as SVG: the labels with the largest shares."""
    top = {}
    for of in found.values():
        for label, share in of.items():
            top[label] = max(top.get(label, 0), share)
    labels = sorted(top, key=lambda label: -top[label])[:most]
    fig, (ax,) = _axes(7.2, 0.45 * len(labels) + 1.1)
    for i, name in enumerate(name for name in TITLES if name in found):
        colour, _, mark = _LOOK[name]
        where = [k + 0.26 * (i - (len(found) - 1) / 2) for k in range(len(labels))]
        hatch = {"before": "", "after": "////", "reference": "...."}[name]
        ax.barh(
            where,
            [found[name].get(label, 0) for label in labels],
            0.24,
            facecolor="none",
            edgecolor=colour,
            hatch=hatch,
            label=TITLES[name],
        )
    shown = [label if len(label) <= 30 else label[:29] + "…" for label in labels]
    ax.set(xlabel="forgotten images, percent", yticks=range(len(labels)))
    ax.set_yticks(range(len(labels)), [label.replace("$", r"\$") for label in shown])
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, fontsize=9, ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1))
    return _svg(fig)
