r"""Documents whose numbers are read from tables: `python paper_figures/documents.py` writes their marked spans again.

A span stands between ``<!-- begin name -->`` and ``<!-- end name -->``.  Outside of spans no number is a measured one.
"""

import re
from pathlib import Path

import assumptions
import findings
import findings_cost
import findings_guides
import findings_more
import findings_patterns
import notebook_map
import tab01_results
import tab06_grid
from drawing import HERE

DOCUMENTS = {  # path -> {span: function of the folder of tidy data}
    "README.md": {
        "findings": findings.main_findings,
        "notebooks": notebook_map.table,
        "results": tab01_results.table,
        "grid": tab06_grid.table,
        "assumptions": assumptions.table,
    },
    "megu/guide/README.md": {"guides": findings_guides.guide_findings},
    "megu/guide/assets/tiny_mllm.md": {"quality": findings_guides.quality},
    "megu/own/README.md": {},
    "paper_figures/README.md": {
        "made": findings_more.made,
        "more": findings_more.more_findings,
        "patterns": findings_patterns.pattern_findings,
        "cost": findings_cost.cost_findings,
    },
}


def filled(text, spans, data):
    r"""The text of a document with its spans as the data say.

    Raises: ValueError where a span has no function, or a function no span.
    """
    marked = re.findall(r"^<!-- begin ([\w-]+) -->$", text, re.M)
    if sorted(marked) != sorted(spans):
        raise ValueError(f"the document has the spans {', '.join(marked)}, written are {', '.join(spans)}")
    for name, make in spans.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        text = re.sub(
            f"^{begin}$.*?^{end}$", lambda _, b=begin, e=end, m=make: f"{b}\n{m(data)}{e}", text, flags=re.S | re.M
        )
    return text


def without_spans(text):
    r"""What is written by hand in a document."""
    return re.sub(r"^<!-- begin ([\w-]+) -->$.*?^<!-- end \1 -->$", "", text, flags=re.S | re.M)


if __name__ == "__main__":
    for name, spans in DOCUMENTS.items():
        path = Path(HERE.parent / name)
        path.write_text(filled(path.read_text(), spans, HERE / "data"))
        print(path)
