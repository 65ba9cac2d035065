r"""Which method when: what the comparison and the grid say, request by request."""

import pandas as pd
from shared.drawing import grids, read, source
from shared.grid import read_grid
from shared.tracked import of_retrain, title

from megu.figures import markdown
from megu.figures.markdown import number
from megu.measure.summary import half_width
from megu.methods import METHODS
from megu.settings.class_names import known_names

FORGET_ONLY = {"boundary-shrink"}  # sees no retained image
UNTRAINED = {"ssd", "ssd-code", "projection"}  # measures retained images, trains on none
KINDS = {"class": "whole classes", "subclass": "a sub-class", "random": "single images"}
CLOSE = 0.05  # of tug-of-war
SEVERAL = 4  # methods, at least, of a request that speaks for several
CELL = ["dataset", "arch", "scenario", "forget"]


def cells(data):
    r"""Tug-of-war of every method and seed (mean over its repeats), by `CELL`: the comparison's first, then grids'."""
    rows, out = read(data, "comparison"), []
    what = rows["scenario"].map({"class": "shirt", "subclass": "shirt", "random": "100 images"})
    out.append(rows.assign(dataset="fashion-mini", arch="resnet-small", forget=what))
    out += [read_grid(data, profile)[0] for profile in grids(data)]
    tow = pd.concat(out).query("metric == 'tow'")
    tow = tow[~tow["method"].map(lambda name: METHODS[name].reference) | tow["method"].eq("original")]
    return tow.groupby([*CELL, "method", "seed"], sort=False)["value"].mean().unstack("seed")


def ranked(cell):
    r"""(Methods of a cell by mean tug-of-war; those within `CLOSE` of the first that the seeds' paired differences do
    not tell apart, none of one seed; those no better than the original)."""
    cell = cell.dropna(axis=1, how="all")
    mean = cell.drop("original").mean(axis=1).sort_values(ascending=False, kind="stable")
    first, worse = cell.loc[mean.index[0]], [name for name in mean.index if mean[name] <= cell.loc["original"].mean()]
    alike = [name for name in mean.index[1:] if _touches(first - cell.loc[name]) and mean.iloc[0] - mean[name] <= CLOSE]
    return mean, alike, worse


def _touches(difference):
    reach = half_width(difference)
    return reach == reach and difference.mean() <= reach


def _size(dataset, scenario, forget):
    if scenario == "random":
        return forget
    fine, coarse = known_names(dataset)
    number_of = len(set(coarse)) if (dataset, scenario) == ("cifar20", "class") else len(fine)
    return f"{forget} (1 of {number_of} {'sub-' if scenario == 'subclass' else ''}classes)"


def situations(data):
    r"""A row for each request that was measured."""
    lines = []
    by_cell = sorted(cells(data).groupby(level=CELL, sort=False), key=lambda one: list(KINDS).index(one[0][2]))
    for (dataset, arch, scenario, forget), cell in by_cell:
        mean, alike, worse = ranked(cell.droplevel(CELL))
        seeds = int(cell.notna().any().sum())
        measured = f"{_size(dataset, scenario, forget)}, {dataset}, {arch}, {_seeds(seeds)}, {len(mean)} methods"
        still = next((name for name in mean.index if name in FORGET_ONLY | UNTRAINED), None)
        lines.append([
            KINDS[scenario], measured,
            f"{title(mean.index[0])} {mean.iloc[0]:.2f}", _list(alike),
            "-" if still is None else f"{title(still)} {mean[still]:.2f}", _list(worse),
        ])  # fmt: skip
    head = ["what goes", "measured on", "nearest to retraining", "not told apart from it"]
    return markdown.table([*head, "best without training on retained images", "no better than doing nothing"], lines)


def _seeds(count):
    return f"{count} seed{'s' * (count > 1)}"


def _list(names):
    return ", ".join(map(title, names)) or "-"


def spreads(data):
    r"""Kind of request -> its methods, by tug-of-war at the worst cell: mean, worst, number of cells."""
    table = cells(data).mean(axis=1).unstack("method").drop(columns="original").dropna(thresh=SEVERAL)
    for kind in KINDS:
        part = table.xs(kind, level="scenario")
        spread = pd.DataFrame({"mean": part.mean(), "worst": part.min(), "cells": part.notna().sum()})
        spread = spread[spread["cells"] == len(part)].sort_values("worst", ascending=False)
        if len(spread):
            yield kind, spread


def recommended(data):
    r"""Kind of request -> its methods, the one that is nearest to retraining at its worst cell first."""
    return {kind: list(spread.index) for kind, spread in spreads(data)}


def advice(data):
    r"""One line for each kind of request: how near methods, and the original, come at their worst cell."""
    lines, nothing = [], cells(data).mean(axis=1).unstack("method").dropna(thresh=SEVERAL + 1)["original"]
    for kind, spread in spreads(data):
        ends = (spread.head(4), spread[4:].tail(2))
        shown = (", ".join(f"{title(name)} {row['worst']:.2f}" for name, row in end.iterrows()) for end in ends)
        left = nothing.xs(kind, level="scenario")
        lines.append([KINDS[kind], f"{len(left)}", *shown, f"{left.min():.2f} to {left.max():.2f}"])
    return markdown.table(["what goes", "requests", "nearest", "farthest", "the original, nothing done"], lines)


def costs(data):
    r"""Time of the methods in the class-wise comparison, percent of retraining."""
    share = of_retrain(read(data, "comparison_seconds").query("scenario == 'class'")).drop(["original", "retrain"])
    share = share[[not METHODS[name].reference for name in share.index]].sort_values()
    return ", ".join(f"{title(name)} {number(value, digits=0)}" for name, value in share.items())


def page(data):
    r"""The page."""
    about = source(data, "comparison_source")
    return (
        f"{advice(data)}\n\n"
        "ToW of each method at the worst of the requests, largest first. Counted are requests for which at least"
        f" {SEVERAL} methods were run, and methods that were run for all of them. Where the original, to which nothing"
        " was done, comes as near as a method, that method won nothing: the last column of the next table names it.\n\n"
        f"{situations(data)}\n\n"
        f"Numbers are ToW (strict), 1 = as the retrained model. *Not told apart*: at most {CLOSE} less, and the 95 %"
        " t-interval of the paired difference over the seeds of pre-training includes 0. Few seeds and scattered"
        " results make that easy, so it is no merit. *No better than doing nothing*: a mean no larger than the"
        " original's; no interval was asked. ToW: see README.md. Time, % of retraining,"
        f" profile {about['profile']}, class-wise: {costs(data)}.\n"
    )
