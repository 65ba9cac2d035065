r"""What is called forgotten, and where: the rules side by side, their bounds from the code that applies them."""

import re

from shared.drawing import HERE
from shared.reproduced import NEAR

from megu.figures import markdown
from megu.methods.goal import LEFT
from megu.own.verdict import FEW

CLAIM = re.compile(r'finding\("MeGU has forgotten[^"]*", [^\n]*"<=", (\d+)')


def _bound(name):
    # of a notebook's first line on it
    return CLAIM.search((HERE.parent / f"notebooks/{name}.py").read_text())[1]


def table(data):
    r"""Markdown: rule by rule; ``data`` is not asked."""
    five, every = (f"notebook [{name[:2]}](../notebooks/{name}.ipynb)" for name in ("05_evaluate", "A2_every_method"))
    test = "forgotten *test* images named right"
    rows = [
        (five, test, f"at most {_bound('05_evaluate')} %, mean over the seeds"),
        (
            every,
            test,
            f"at most {_bound('A2_every_method')} points more than by the retrained model: the mean, and the upper end",
        ),
        (
            "the claim in [REPRODUCIBILITY](../REPRODUCIBILITY.md#claim-by-claim)",
            test,
            f"at most {NEAR} points more than by the retrained model, mean over the seeds, cell by cell",
        ),
        (
            "the verdict of a [report](../megu/own/README.md#the-verdict)",
            "forgotten *training* images named right",
            f"at most {FEW:g} %, upper end of the interval, or none; with a reference no more than by it, or at most"
            f" {FEW:g} points, by the interval",
        ),
        (
            "MeGU's own check (A16, `forget_items=checked`)",
            "forgotten *training* images named right",
            f"at most {LEFT:g} points more than 0, or, where labels stay, than a linear head names that is refitted"
            " without them; else it trains once more",
        ),
    ]
    return markdown.table(["who says it", "of what", "rule"], rows)
