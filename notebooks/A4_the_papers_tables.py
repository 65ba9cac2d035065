# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A4 · The paper's tables
#
# **Question.** Do the paper's claims hold on the requests of its tables, with smaller networks and fewer images?
#
# | reads | writes | feeds |
# |---|---|---|
# | tracked tables `grid_small`, `reported` (the paper's printed numbers), `comparison`, `ablation` | nothing | `table1_to_8_paper`, `figure4_time` |
#
# The requests are those of Tables 1-4 and 6-8 of [arXiv 2602.17088](https://arxiv.org/abs/2602.17088) (Table 5 is
# absent). The profile *small* trains small networks, here on a part of the images (CIFAR-10: a fifth, CIFAR-100: a
# half): signs and orders of magnitude can be compared, a gap to a printed number says nothing about the paper. `megu study paper --profile paper` measures the paper's own cells on a
# GPU; until then all of it is "not run" in [the full tables](../paper_figures/out/table1_to_8_paper.md).

# %%
import sys
from pathlib import Path

from IPython.display import Markdown

from megu.runs.claims import finding, statements
from megu.settings.files import shipped
from megu.settings.values import check_parameters

sys.path.insert(0, str(shipped("paper_figures")))

import figure4_time
import table1_to_8_paper as paper
from shared import reproduced
from shared.beside import paper_table
from shared.grid import CELL, read_grid
from shared.reported import read_reported

# %% tags=["parameters"]
data_dir: str = ""  # folder of tidy tables; empty: those that come with megu

# %%
check_parameters(globals())
data = Path(data_dir) if data_dir else shipped("paper_figures") / "data"
rows, seconds, source = read_grid(data, "small")
print(f"{source['measured']} results, networks {', '.join(rows['arch'].unique())}, seeds {source['seeds']}")
print(", ".join(f"{epochs} epochs ({name})" for name, epochs in source["epochs"].items()))

# %% [markdown]
# ## How near to retraining, request by request
#
# Bright is near. A method that was not asked of a request has "-"; what was asked and not run says so. ToW: 1 = as the
# retrained model ([A2](A2_every_method.ipynb) defines it). Columns are in the order of their mean ToW over the requests
# that they were run for, which are not the same for all.

# %%
paper.gaps(data)["small"]

# %%
Markdown(f"<details><summary>ToW with its intervals</summary>\n\n{paper.tow(data)}\n\n</details>")

# %% [markdown]
# ## Table 1 beside the paper's
#
# A_r, A_f: accuracy on retained and forgotten classes, member rate: the paper's MIA; all in percent, measured as the
# public code does (compat). A cell: **ours with half of its 95 % interval / the paper's / the difference**. †: run as
# the public code runs it. [All tables](../paper_figures/out/table1_to_8_small.md).

# %%
reported = read_reported(shipped("paper_figures") / "data")
beside = paper_table(rows, reported, "compat").astype({"table": str}).query("table == '1' and arch == 'resnet18'")
Markdown(paper.block(beside, len(source["seeds"])))

# %% [markdown]
# ## Figure 4: time

# %%
Markdown(figure4_time.shares(data, "small"))

# %% [markdown]
# ## Claim by claim
#
# Each verdict follows from the rule that its row states ([`reproduced.py`](../paper_figures/shared/reproduced.py)).

# %%
Markdown(reproduced.table(data).replace("](paper_figures/", "](../paper_figures/"))

# %% [markdown]
# ## What was found
#
# Do the paper's claims hold on the requests of its tables, on smaller networks?

# %%
tow = rows.query("metric == 'tow' and method not in ('retrain', 'original')")
tow = tow.groupby([*CELL, "method"])["value"].mean().unstack()
printed = reported.query("scenario == 'class' and method == 'megu' and metric == 'acc_forget'")["percent"].max()
megu, known = tow["megu"], rows.query("metric == 'tow' and method == 'original'").groupby(CELL)["value"].mean()
ahead = tow[megu >= tow.max(axis=1)].notna().sum(axis=1)  # where MeGU is first: of so many methods
first, where = len(ahead), "; ".join(f"{' '.join(cell)}: of {count} methods" for cell, count in ahead.items())
whole = rows.query("metric == 'acc_forget_test' and scenario == 'class' and arch == 'resnet-small'")
left = whole.groupby(["dataset", "forget", "method"])["value"].mean().unstack()["megu"]
pairs = tow[["megu", "megu-random-labels"]].dropna().diff(axis=1).iloc[:, 1]

# %%
Markdown(
    f"MeGU's ToW is {megu.min():.2f} to {megu.max():.2f} over {len(tow)} requests and the largest in {first} of them ({where or 'none'}). Of whole classes it still"
    f" names {left.min():.0f} to {left.max():.0f} % of the forgotten test images right (most: {' '.join(left.idxmax())}), where the paper prints"
    f" at most {printed:.0f} %. Random labels instead of the guide's change ToW by {pairs.min():+.2f} to {pairs.max():+.2f} in the {len(pairs)} requests that have"
    " both."
)

# %% [markdown]
# **Try it.** (1) `beside.query("method == 'megu'")`: in which column is ours farthest from the printed number, and is
# retrain's as far? (2) Which request has the widest interval in `paper.tow(data)`?
#
# Next: [A5, what a run costs](A5_cost.ipynb). Back: [05, the honest comparison](05_evaluate.ipynb).

# %%
claims = [
    finding("MeGU has the largest ToW: share of the requests", first / len(tow), ">", 0.5),
    finding("whole classes are forgotten by MeGU: largest share of test images named right, %", left.max(), "<=", 5),
    finding(
        "the guide's labels are better than random ones: largest loss of ToW without them", -pairs.min(), ">", 0.05
    ),
    finding(f"smallest ToW of MeGU over the requests (of the original {known.min():.2f})", megu.min(), ">", 0.5),
]
print(*statements(claims), sep="\n")
