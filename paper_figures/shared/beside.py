r"""A grid beside the paper's numbers: every cell ours, the paper's, and the gaps; one profile and mode at a time."""

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from shared.grid import one_grid, place
from shared.reported import CELL, COLUMNS, apart

from megu.measure.summary import half_width, summary
from megu.settings.cells import PUBLIC_CODE

KEY = ["arch", *CELL, "method", "column"]  # of a value in a table, under the paper's names
OURS = ["ours", "half_width", "seeds", "gap_to_retrain", "gap_half_width", "gap_seeds"]
OTHER = "other"
TIDY = (
    "table dataset scenario arch ours_arch forget method ours_method mode metric column ours half_width seeds paper"
    " gap_to_paper gap_to_retrain gap_half_width gap_seeds status"
).split()


@dataclass(frozen=True)
class Form:
    r"""One way of measuring the paper's three columns.

    Attributes:
        metrics: one of `megu.measure.metrics.METRICS` for each of `COLUMNS`.
        random: the same where single images are forgotten.
        variants: method of the paper's tables -> the variant, repeating the public code, that stands for it in a cell
            that has it.
    """

    metrics: tuple[str, str, str]
    random: tuple[str, str, str]
    variants: dict[str, str]

    def columns(self, scenario: str) -> dict[str, str]:
        """Metric -> column of the paper."""
        return dict(zip(self.random if scenario == "random" else self.metrics, COLUMNS, strict=True))


_COMPAT = ("batch_acc_retain", "batch_acc_forget", "mia_ssd_member_rate")
_STRICT = ("acc_retain_test", "acc_forget_test", "mia_loss_auc")
FORMS = {
    "compat": Form(_COMPAT, _COMPAT, PUBLIC_CODE),
    "strict": Form(_STRICT, ("acc_retain_test", "acc_forget_train", "mia_loss_auc"), {}),
}


def measured(rows: pd.DataFrame, mode: str) -> pd.DataFrame:
    r"""The rows of one mode that the paper's columns need, methods and columns under the paper's names, architectures
    in the paper's places.

    Args:
        rows: from `read_grid`.
        mode: ``compat`` or ``strict``.
    Returns: ``rows`` with ours_arch and ours_method (what was run), column (of `COLUMNS`); compat: a variant that
        repeats the public code stands for its method in the cells that have it, in the others the method itself;
        strict: those variants are left out.
    Raises: ValueError as `one_grid`, or where a metric is not of the mode.
    """
    one_grid(rows)
    form = FORMS[mode]
    single = rows["scenario"].eq("random")
    column = rows["metric"].map(form.columns("class")).where(~single, rows["metric"].map(form.columns("random")))
    found = rows.assign(column=column).dropna(subset="column")
    if wrong := sorted(set(found["mode"]) - {mode}):
        metric = found.loc[found["mode"] == wrong[0], "metric"].iloc[0]
        raise ValueError(f"one table, one mode: {metric} is {wrong[0]}, the table {mode}")
    names = {variant: name for name, variant in form.variants.items()}
    found = found[~found["method"].isin(set(PUBLIC_CODE.values()) - set(names))]
    arch, method = found["arch"].map(place), found["method"].replace(names)
    found = found.assign(ours_arch=found["arch"], arch=arch, ours_method=found["method"], method=method)
    varied = found["ours_method"].ne(found["method"])
    has_variant = varied.groupby([found[name] for name in ("ours_arch", *CELL, "method")]).transform("any")
    return found[varied | ~has_variant.astype(bool)]


def paper_table(rows: pd.DataFrame, reported: pd.DataFrame, mode: str) -> pd.DataFrame:
    r"""Every cell of the paper's tables and of the grid, in the paper's order.

    Args:
        rows: from `read_grid`; any subset of cells.
        reported: from `read_reported`.
        mode: ``compat``, beside which the paper's numbers stand, or ``strict``.
    Returns: columns `TIDY`: table (the paper's number, or "other" for cells that the paper has not), dataset, scenario,
        arch (the paper's place), ours_arch, forget, method, ours_method (what was run for it in this cell; empty where
        nothing was), mode, metric, column, ours, half_width (of the 95 % t-interval over the seeds of pre-training),
        seeds, paper, gap_to_paper, gap_to_retrain, gap_half_width (of the paired differences to the retrain of the same
        seed), gap_seeds (that have both), status ("run" or "not run").
    Raises: ValueError as `measured`; strict: where a seed of a cell has no retrained model.
    """
    found, names = measured(rows, mode), _named(reported)
    cells = ["arch", *CELL, "ours_arch"]
    groups = found.groupby(cells, sort=False)
    parts = [_cell(part).assign(**dict(zip(cells, cell, strict=True))) for cell, part in groups]
    ours = pd.concat(parts) if parts else pd.DataFrame(columns=[*cells, *KEY[-2:], *OURS])
    out = pd.concat([names[["table", *KEY]], _beyond(ours, names)]).drop_duplicates().merge(ours, how="left", on=KEY)
    out = out.merge(names if mode == "compat" else names.assign(paper=np.nan), how="left", on=["table", *KEY])
    out = out.merge(found[[*KEY, "ours_method"]].drop_duplicates(), how="left", on=KEY)
    out[["seeds", "gap_seeds"]] = out[["seeds", "gap_seeds"]].fillna(0).astype(int)
    forms = {scenario: FORMS[mode].columns(scenario) for scenario in out["scenario"].unique()}
    metric = {(scenario, column): name for scenario, form in forms.items() for name, column in form.items()}
    out = out.assign(
        mode=mode, metric=list(map(metric.get, zip(out["scenario"], out["column"], strict=True))),
        gap_to_paper=out["ours"] - out["paper"], status=np.where(out["ours_method"].notna(), "run", "not run"),
    )  # fmt: skip
    order = [*dict.fromkeys(names["table"]), OTHER]
    return out.sort_values("table", key=lambda column: column.map(order.index), kind="stable", ignore_index=True)[TIDY]


def _named(reported):
    return reported.rename(columns={"metric": "column", "percent": "paper"}).assign(table=reported["table"].astype(str))


def _cell(part):
    """Means, intervals and gaps of one cell; where a public code's retrain is not there for a seed, that seed has no
    gaps."""
    has = set(part.loc[part["method"] == "retrain", "seed"])
    if set(part["mode"]) == {"compat"}:
        without = part[~part["seed"].isin(has)].drop_duplicates(["seed", "column"])
        part = pd.concat([part, without.assign(method="retrain", repeat=0, value=np.nan)])
    elif missing := sorted(set(part["seed"]) - has):
        about = " ".join(part[["dataset", "ours_arch", "scenario", "forget"]].iloc[0])
        raise ValueError(f"{about}, seed {missing[0]}: there is no retrained model, which is the reference of all gaps")
    found = summary(part.assign(metric=part["column"]))
    both = part[part["seed"].isin(has)].groupby(["method", "column"])["seed"].nunique().rename("gap_seeds")
    found = found.join(both, on=["method", "metric"])
    return found.rename(columns={"metric": "column", "mean": "ours", "gap": "gap_to_retrain"})[[*KEY[-2:], *OURS]]


def _beyond(ours, names):
    """What was run and the paper has not: a method goes to the first table that has the cell, an architecture to all, a
    cell to `OTHER`."""
    where = names[["table", *CELL]].drop_duplicates()
    shown = names[["table", *CELL, "method"]].drop_duplicates().assign(shown=True)
    order = {name: i for i, name in enumerate(names["method"].unique())}
    ours = ours.sort_values("method", key=lambda column: column.map(order).fillna(len(order)), kind="stable")
    found = ours[KEY].merge(where, how="left", on=CELL).fillna({"table": OTHER})
    found = found.merge(shown, how="left", on=["table", *CELL, "method"])
    known = found.groupby([*CELL, "method"])["shown"].transform("count") > 0
    first = found["table"] == found.groupby([*CELL, "method"])["table"].transform("first")
    return found.loc[found["shown"].notna() | (~known & first), ["table", *KEY]]


def distances(rows: pd.DataFrame, reported: pd.DataFrame, mode: str) -> pd.DataFrame:
    r"""Mean of $|\text{method} - \text{retrain}|$ over cells and columns, in points (an AUC times 100), ours and the
    paper's.

    Args: as of `paper_table`.
    Returns: table, arch ("all": every architecture of the table), method, ours_method (what was run for it, several
        where cells differ), paper, paper_cells, paper_same (over the cells of ours only), ours (mean over the seeds),
        half_width, seeds, cells (of ours).  Each value of ours is over the cells that have this method, and the seeds
        that all these cells have; without such a seed it is empty.  The row retrain holds the mean distance of two
        retrained models of different seeds; strict has no numbers of the paper.
    """
    found, distant = measured(rows, mode), apart(reported).assign(table=lambda part: part["table"].astype(str))
    points = found["value"] * np.where(found["unit"] == "share", 100, 1)
    found, cell, out = found.assign(value=points).merge(_named(reported)[["table", *KEY]], on=KEY), ["arch", *CELL], []
    for table, whole in distant.groupby("table", sort=False):
        archs = list(whole["arch"].unique())
        for arch in [*archs, *(["all"] if len(archs) > 1 else [])]:
            theirs = whole[whole["arch"].eq(arch) | (arch == "all")]
            ours = found[found["table"].eq(table) & found["arch"].isin(theirs["arch"])]
            about = {"table": table, "arch": arch, "paper_cells": len(theirs[cell].drop_duplicates())}
            for method in ("retrain", *theirs["method"].unique()):
                printed, (numbers, ran) = theirs[theirs["method"] == method], _distance(ours, method)
                kinds = ours[ours["method"] == method].merge(ran, on=cell)["ours_method"].unique()
                names = {"method": method, "ours_method": ", ".join(kinds) or np.nan}
                same = printed.merge(ran, on=cell)["apart"].mean()
                paper = {"paper": printed["apart"].mean(), "paper_same": same}
                out.append(about | names | paper | numbers | {"cells": len(ran)})
    out = pd.DataFrame(out)
    return out if mode == "compat" else out.assign(paper=np.nan, paper_same=np.nan)


def _distance(part, method):
    """Distance of a method to the retrain of its seed, cell by cell and column by column, of the retrain to those of
    the other seeds; and the cells."""
    if not {"retrain", method} <= set(part["method"]):
        return {"ours": np.nan, "half_width": np.nan, "seeds": 0}, part[["arch", *CELL]].head(0)
    part = part[part["method"].isin(["retrain", method])]
    wide = part.groupby(["arch", *CELL, "column", "method", "seed"])["value"].mean().unstack(["method", "seed"])
    values = wide["retrain"] if method == "retrain" else (wide[method] - wide["retrain"]).abs()
    values = values.dropna(how="all").dropna(axis=1)
    cells = values.index.droplevel("column").unique().to_frame(index=False)
    if method == "retrain":
        pairs = [(values[a] - values[b]).abs().mean() for a, b in itertools.combinations(values, 2)]
        return {"ours": np.mean(pairs) if pairs else np.nan, "half_width": np.nan, "seeds": values.shape[1]}, cells
    return {"ours": values.mean().mean(), "half_width": half_width(values.mean()), "seeds": values.shape[1]}, cells
