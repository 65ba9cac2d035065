r"""The tracked tables as sentences need them: each read once, each number as text."""

import re
import textwrap
from functools import lru_cache

from shared.drawing import TITLES, read, source

from megu.figures.markdown import number
from megu.measure.summary import against_default, by_scenario, over_seeds, summary
from megu.settings.profiles import resolve

MARK = re.compile(r" (?=%|(?:[-+*>]|#+|\d+[.)])(?: |$))")  # the space before it
table = lru_cache(read)  # name of a tidy table in the folder of tidy tables


@lru_cache
def compared(data):
    r"""Means and gaps by (scenario, metric, method): the one table that sentences about methods are written from."""
    return by_scenario(table(data, "comparison")).set_index(["scenario", "metric", "method"]).sort_index()


@lru_cache
def ablated(data):
    r"""Changes against MeGU of the same seed, by (point, variant, metric)."""
    return against_default(table(data, "ablation")).set_index(["point", "variant", "metric"]).sort_index()


@lru_cache
def disentangled(data):
    r"""Means over the seeds of what a method suppresses and keeps, by (view, measure, method)."""
    keys = ["view", "measure", "method"]
    return over_seeds(table(data, "disentanglement_all"), keys).set_index(keys).sort_index()


def of_retrain(seconds):
    r"""Total seconds of each method over those of the retrain of the same seed, mean in percent."""
    total = seconds[seconds["part"] == "total"].groupby(["method", "seed"])["seconds"].mean().unstack("seed")
    return (100 * total / total.loc["retrain"]).mean(axis=1)


@lru_cache
def time_share(data):
    r"""`of_retrain` of the methods in the class-wise comparison, which leave the guide out, and of the guide itself."""
    seconds = table(data, "comparison_seconds").query("scenario == 'class'")
    shares = of_retrain(seconds.replace({"part": {"guide": "total"}}))
    return shares.drop(["original", "retrain"])


def default_request(data):
    r"""(summary, seconds, source) of the default request's methods: from the comparison where it is there, so that one
    name has one value, else a run's own."""
    if not (data / "comparison.csv").exists():
        return read(data, "summary"), read(data, "timings"), source(data)
    names = ("original", "retrain", *resolve().compare)
    rows, seconds = (read(data, name).query("scenario == 'class'") for name in ("comparison", "comparison_seconds"))
    about = source(data, "comparison_source") | {"command": "make comparison", "forget": resolve().forget.model_dump()}
    return summary(rows[rows["method"].isin(names)]), seconds[seconds["method"].isin((*names, "guide"))], about


def concept(data):
    r"""Name of the class whose entanglement is shown: the first of maps.csv."""
    return read(data, "maps")["row"].iloc[0].rpartition(" ")[0]


def gap(row, digits=1):
    r"""The gap to retraining of a row of `compared`."""
    return number(row["gap"], row["gap_half_width"], digits, "+")


def end(rows, side, value="gap"):
    r"""The upper (side 1) or lower (-1) end of the interval of a gap to retraining, or of another value, of rows."""
    return rows[value] + side * rows[f"{value}_half_width"]


def change(row, digits=3):
    r"""The change against MeGU of a row of `ablated`."""
    return number(row["change"], row["change_half_width"], digits, "+")


def apart(rows, side=0, value="gap"):
    r"""The rows whose interval leaves 0 out: above it (side 1), below it (-1) or either (0)."""
    low, high = end(rows, -1, value), end(rows, 1, value)
    return rows[((low > 0) & (side >= 0)) | ((high < 0) & (side <= 0))]


def title(name):
    r"""A method's title, its variant in brackets: a comma would look like the next of a list."""
    method, _, variant = TITLES[name].partition(", ")
    return f"{method} ({variant.replace(' (', ', ').rstrip(')')})" if variant else method


def listed(parts):
    r"""Comma-separated, or "none"."""
    return ", ".join(parts) or "none"


def bullets(*paragraphs, width=118):
    r"""A Markdown list, wrapped; no line begins with % (a comment of MyST) or a mark of a list, title or quotation."""
    wrap = {"width": width, "subsequent_indent": "  ", "break_long_words": False, "break_on_hyphens": False}
    kept = (MARK.sub("\N{NO-BREAK SPACE}", " ".join(paragraph.split())) for paragraph in paragraphs)
    lines = "\n".join(textwrap.fill(f"- {paragraph}", **wrap) for paragraph in kept) + "\n"
    return lines.replace("\N{NO-BREAK SPACE}", " ")
