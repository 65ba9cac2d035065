r"""Is a class that a method took away named again when its images are prepared otherwise?"""

import pandas as pd
from shared.drawing import request, source
from shared.tracked import listed, table, title

from megu.figures import markdown
from megu.figures.markdown import number
from megu.measure.summary import half_width
from megu.own.verdict import FEW

GIVEN, OTHERS = "as given", "retained "  # columns of the table: a preparation, or the retained images in it


def _seen(data):
    # Of each method and seed: percent of forget images named right as given; in the other preparation in which most
    # are, beyond the retained images that get that name (of those in which the original knows half as many); these.
    wide = table(data, "hidden").pivot_table(index=["method", "seed"], columns="metric", values="value", sort=False)
    gone = wide[[how for how in wide if not how.startswith(OTHERS) and how != GIVEN]]
    stray = wide[[f"{OTHERS}{how}" for how in gone]].set_axis(gone.columns, axis=1)
    known = gone.xs("original").ge(wide[GIVEN].xs("original") / 2, axis=0)
    more = (gone - stray).where(known.reindex(wide.index, level="seed"))
    at = list(zip(more.index, more.idxmax(axis=1), strict=True))
    chosen = [(gone.at[one, how], stray.at[one, how], how) for one, how in at]
    return wide[[GIVEN]].join(pd.DataFrame(chosen, wide.index, ["most", "stray", "how"]))


def page(data):
    r"""Markdown: forget images named right as given, and in the other preparation in which most are, by method."""
    lines, about = [], source(data, "hidden_source")
    for name, seen in sorted(_seen(data).groupby("method"), key=lambda one: -one[1]["most"].mean()):
        given, most, stray = (number(seen[k].mean(), half_width(seen[k]), 0) for k in (GIVEN, "most", "stray"))
        sure = seen["most"] - seen["stray"] > FEW
        ways = listed(dict.fromkeys(seen["how"][sure])) if sure.any() else "-"
        lines.append([title(name), given, most, stray, f"{sure.sum()} of {len(seen)}", ways])
    head = ["method", "as given, %", "prepared otherwise, %", "retained images so named, %"]
    head += [f"over {FEW:g} points more, seeds", "in which preparation"]
    return f"{markdown.table(head, lines)}\n\n`megu study hidden --out paper_figures/data`: {request(about)}."


def said(data, names=("megu", "megu-printed", "retrain")):
    r"""A sentence on what is named again in another preparation."""
    seen, classes = _seen(data), source(data, "hidden_source")["forget"]["classes"]
    more = (seen["most"] - seen["stray"]).groupby("method")
    found = (f"{title(name)} {number(more.mean()[name], half_width(more.get_group(name)), 0)}" for name in names)
    what = f"images of {listed(classes)} are named so more often than retained ones, by points: {listed(found)}"
    return f"[Prepared otherwise](paper_figures/README.md#hidden-or-forgotten), {what}."
