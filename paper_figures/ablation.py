r"""MeGU's open points, changed one at a time; the roles of appendix E (sensitivity) and F (ablation)."""

import pandas as pd
from shared.drawing import main, read, request, source
from shared.mechanism import over_strengths

from megu.figures import changes, markdown
from megu.figures.markdown import number
from megu.measure.summary import against_default
from megu.methods import method_settings
from megu.settings.profiles import resolve

COLUMNS = {  # metric -> (heading with the mode, digits)
    "acc_retain_test": ("retain test acc. (strict)", 1),
    "acc_forget_test": ("forget test acc. (strict)", 1),
    "mia_ssd_member_rate": ("SSD member rate (compat)", 1),
    "tow": ("ToW (strict)", 3),
}
DRAWN = ["tow", "acc_forget_test", "acc_retain_test"]
SOURCES = ("A2", "A12", "noise", "A7", "A8", "A9", "A14", "A16")  # other sources of labels, other uses of the noise


def table(data, name="ablation"):
    r"""Markdown: change against the default of the same seed ± half-width of its 95 % t-interval; the default's own row
    has its values."""
    found, rows = against_default(read(data, name)), []
    about = source(data, f"{name}_source")
    # The other table is of before the check, which would not have come in.
    checked = " The default has the check (A16), the other rows have not." if name == "ablation_cifar100" else ""
    for (point, variant), part in found.groupby(["point", "variant"], sort=False):
        shown = (["mean"], "") if point in ("default", "retrain") else (["change", "change_half_width"], "+")
        part = part.set_index("metric")[shown[0]]
        cells = [number(*part.loc[metric], digits=digits, sign=shown[1]) for metric, (_, digits) in COLUMNS.items()]
        rows.append([point, variant, *cells])
    return (
        markdown.table(["point", "variant", *(title for title, _ in COLUMNS.values())], rows) + "\n\n"
        f"`make {name.replace('_', '-')}`, {request(about)}. Rows default and retrain: means; others:"
        f" {markdown.interval(about['seeds'], 'change against MeGU of the same seed')}."
        f"{checked}\n"
    )


def _usual():
    """{word of a parameter: text of its default}."""
    megu = method_settings("megu", resolve())
    a, b = megu.noise.weights
    return {"tau": megu.labels.tau, "weights": f"{a:g}, {b:g}", "lambda": megu.noise.lam, "steps": megu.noise.steps}


def over_parameters(data):
    """The changes of `sensitivity`, the default among its alternatives."""
    found, out = against_default(read(data, "ablation")), []
    among = (found["point"] != "noise") & ~found["variant"].str.startswith("eq. 11")
    for word, usual in _usual().items():
        part = found[among & found["variant"].str.contains(rf"\b{word}\b")]
        part = pd.concat([part, found[found["point"] == "default"].assign(variant=f"{word} {usual}")])
        text = part["variant"].str.replace(word, "").str.strip()
        first = text.str.extract(r"([\d.]+)")[0].astype(float)
        out.append(part.assign(parameter=word, value=text, first=first).sort_values("first", kind="stable"))
    return pd.concat(out)


def cifar100(data):
    """The table on CIFAR-100."""
    return table(data, "ablation_cifar100")


def sensitivity(data):
    """Lines over tau, the noise's weights, lambda and steps."""
    return changes.sensitivity(over_parameters(data), DRAWN)


def sources(data):
    """Other sources of labels, other uses of the noise, the pair of eq. 11."""
    found = against_default(read(data, "ablation"))
    shown = found["point"].isin(SOURCES) | found["variant"].str.startswith("eq. 11")
    return changes.ablation(found[shown], [*DRAWN, "mia_ssd_member_rate"])


def mechanism(data):
    """What is left against what the pair hides."""
    left = {"acc_forget_train": "forget images left by MeGU (%)", "tow": "ToW"}
    keys = ["point", "pair", "guided"]
    return changes.mechanism(over_strengths(data).groupby(keys).mean(numeric_only=True).reset_index(), left)


if __name__ == "__main__":
    main(
        mechanism=mechanism,
        ablation_table=table,
        ablation_cifar100_table=cifar100,
        ablation_sensitivity=sensitivity,
        ablation_sources=sources,
    )
