r"""Documents whose numbers are read from tables: `python paper_figures/documents.py` writes their marked spans again.

A span stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.  Outside of spans no number is a measured one.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import table1_results
from jupytext.cli import jupytext
from shared import (
    assumptions,
    called_forgotten,
    cifar100,
    findings,
    findings_cost,
    findings_guides,
    findings_more,
    findings_patterns,
    hidden,
    mechanism,
    method_list,
    notebook_map,
    reproduced,
    rulers,
    searches,
    unseen,
    which_method,
)
from shared.drawing import HERE

from megu.figures.markdown import fill

DOCUMENTS = {  # path -> {span: function of the folder of tidy tables}
    "README.md": {"findings": findings.main_findings, "notebooks": notebook_map.table, "results": table1_results.table},
    "notebooks/00_prepare.py": {"notebooks": partial(notebook_map.table, folder="")},
    "REPRODUCIBILITY.md": {"claims": reproduced.table},
    "megu/guide/README.md": {"guides": findings_guides.guide_findings},
    "megu/guide/assets/tiny_mllm.md": {"quality": findings_guides.quality},
    "megu/cli/README.md": {},
    "megu/methods/README.md": {"which-method": which_method.page, "unseen": unseen.page, "methods": method_list.table},
    "megu/own/README.md": {},
    "paper_figures/README.md": {
        "made": findings_more.made,
        "methods": searches.methods,
        "forgotten": called_forgotten.table,
        "hidden": hidden.page,
        "places": rulers.ruled,
        "eq11": cifar100.variants,
        "requests": cifar100.requests,
        "sure": cifar100.sure,
        "mechanism": mechanism.said,
        "more": findings_more.more_findings,
        "patterns": findings_patterns.pattern_findings,
        "cost": findings_cost.cost_findings,
        "budget": findings_cost.budget,
        "assumptions": assumptions.table,
    },
}


def filled(text: str, spans: Mapping[str, Callable[[Path], str]], data: Path) -> str:
    r"""A document with its spans as the tables say."""
    return fill(text, {name: partial(make, data) for name, make in spans.items()})


if __name__ == "__main__":
    for name, spans in DOCUMENTS.items():
        path = HERE.parent / name
        path.write_text(filled(path.read_text(), spans, HERE / "data"))
        if path.suffix == ".py":  # its paired notebook, outputs kept
            jupytext(["--quiet", "--to", "ipynb", "--update", str(path)])
        print(path)
