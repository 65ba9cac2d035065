r"""Tables 1-4 and 6-8 of arXiv 2602.17088 in its layout, ours beside the paper's; the grid in one table, and the gaps
to retrain in every cell (appendix G)."""

import pandas as pd
from shared.beside import FORMS, OTHER, TIDY, distances, paper_table
from shared.drawing import HERE, TITLES, grids, main
from shared.grid import CELL, asked, read_grid
from shared.reported import COLUMNS, read_reported

from megu.figures import markdown
from megu.figures.grid import cells
from megu.figures.markdown import number
from megu.measure.summary import minutes, summary
from megu.settings.cells import PUBLIC_CODE

ARCHS = {"resnet18": "ResNet-18", "vit-b16": "ViT-B/16", "all": "both"}
DATA = {
    "cifar10": "CIFAR-10",
    "cifar20": "CIFAR-20 (superclasses)",
    "cifar100": "CIFAR-100",
    "fashion-mini": "Fashion mini",
}
WISE = {"class": "class-wise", "subclass": "sub-class-wise", "random": "random images"}
SHORT = {
    "compat": ("A_r", "A_f", "member rate"),
    "strict": ("A_r", "A_f", "loss AUC"),
}  # mode -> `COLUMNS` in a heading
VARIANTS = "; ".join(TITLES[name] for name in PUBLIC_CODE.values())
LEGEND = {  # mode -> its heading, and what stands in a cell
    "compat": (
        "## Compat: measured as the public code does\n\n"
        "A_r, A_f: mean of batch accuracies; member rate (the paper's MIA): share of forgotten training images that the"
        f" entropy attack calls members; all in percent. †: run as the public code runs it ({VARIANTS}); without †:"
        " what the strict tables show. A cell: **ours ± half-width / the paper's / ours minus the paper's**."
    ),
    "strict": (
        "## Strict: measured by image, against a true retrain\n\n"
        "A_r: accuracy on the test images of what is retained, percent; A_f: on those of what is forgotten (random"
        " images: on the forgotten training images), percent; loss AUC: of the loss attack, 0.5 = cannot be told. A"
        " cell: **ours ± half-width [gap to the retrain of the same seed ± half-width]**."
    ),
}
DISTANCE = (
    "## Distance to retrain\n\n"
    "Mean of |method - retrain| over the three columns and over the cells, in points (an AUC times 100), of each seed,"
    " then over the seeds. Each value is over the cells that its method was run in and the seeds that all of"
    " these have: the row says how many, or each value where they differ. Two retrains: the same between"
    " retrained models of two seeds. †: some of its cells have † above."
)


def dagger(row):
    r"""The mark of what was run as the public code runs it."""
    return "†" if isinstance(row.ours_method, str) and row.ours_method != row.method else ""


def cell(row, seeds):
    r"""Text of one cell; it says how many seeds it has where these are fewer than the grid's, or than an interval
    needs."""
    digits, ran = 3 if row.metric.startswith("mia_loss") else 1, row.status == "run"
    ours = number(row.ours, row.half_width, digits) + dagger(row) if ran else row.status
    ours += f" (n = {row.seeds})" if ran and row.seeds < max(2, seeds) else ""
    if row.mode == "compat":
        return f"{ours} / {number(row.paper, digits=2)} / {number(row.gap_to_paper, sign='+')}"
    if not ran or row.method == "retrain":
        return ours
    return f"{ours} [{number(row.gap_to_retrain, row.gap_half_width, digits, '+')}]"


def block(part, seeds):
    r"""Markdown of one architecture of one table: methods in rows, (forgotten concept, column) in columns."""
    concepts, (mode,) = part["forget"].unique(), part["mode"].unique()
    cells = {(row.forget, row.column, row.method): cell(row, seeds) for row in part.itertuples()}
    empty = "not run / - / -" if mode == "compat" else "not run"
    heads, keys = (
        [(forget, name) for forget in concepts for name in names] for names in (SHORT[mode], COLUMNS)
    )  # fmt: skip
    rows = [[TITLES[name], *(cells.get((*key, name), empty) for key in keys)] for name in part["method"].unique()]
    return markdown.table(["method", *(": ".join(head) for head in heads)], rows)


def blocks(found, seeds):
    r"""Markdown of all tables of one mode."""
    (mode,), out = found["mode"].unique(), []
    for (table, dataset, scenario), whole in found.groupby(["table", "dataset", "scenario"], sort=False):
        title = "Not in the paper" if table == OTHER else f"Table {table}"
        out.append(f"### {title}: {DATA.get(dataset, dataset)}, {WISE[scenario]}, {mode}")
        for arch, part in whole.groupby("arch", sort=False):
            ran = ", ".join(part["ours_arch"].dropna().unique())
            paper = "" if table == OTHER else f"**{ARCHS.get(arch, arch)}** in the paper, "
            out.append(f"{paper}{ran or 'not run'} here" if paper else f"**{ran}**")
            out += [block(part, seeds)] if ran or mode == "compat" else []
    return out


def counted(texts, sizes):
    r"""(addition to the row's name, texts) with the sizes of the values, "" for none: said once where all have the
    same, else beside each."""
    if len(found := {size for size in sizes if size}) == 1:
        return f", {found.pop()}", texts
    return "", [f"{text} ({size})" if size else text for text, size in zip(texts, sizes, strict=True)]


def far(table):
    r"""Markdown of the distances to retrain of one mode: the paper's and ours in rows, methods in columns."""
    methods, out = table["method"].unique(), []
    for (printed, arch), part in table.groupby(["table", "arch"], sort=False):
        rows, (of,) = (
            list(part.set_index("method", drop=False).reindex(methods).itertuples()),
            part["paper_cells"].unique(),
        )
        cells = [f"{row.cells:.0f} of {of} cells" if row.cells > 0 else "" for row in rows]
        texts = [("the paper's", [number(row.paper, digits=2) for row in rows])] if part["paper"].notna().any() else []
        if texts and part["cells"].between(1, of - 1).any():
            sizes = ["" if pd.isna(row.paper_same) else size for row, size in zip(rows, cells, strict=True)]
            same, theirs = counted([number(row.paper_same, digits=2) for row in rows], sizes)
            texts.append((f"the paper's{same or ', our cells'}", theirs))
        ours, sizes = [], []
        for row, size in zip(rows, cells, strict=True):
            has = pd.notna(row.ours)
            sizes.append(f"{size}, {row.seeds:.0f} seed{'s' if row.seeds > 1 else ''}" if has else "")
            ours.append(number(row.ours, row.half_width, 2) + dagger(row) * has if row.cells else "not run")
        size, ours = counted(ours, sizes)
        out += [[printed, ARCHS[arch], whose, *values] for whose, values in [*texts, (f"ours{size}", ours)]]
    titles = ["two retrains" if name == "retrain" else TITLES[name] for name in methods]
    return markdown.table(["table", "network", "whose", *titles], out)


def listed(value):
    r"""Text of a value of a grid's source: one, several, or one for each name."""
    if isinstance(value, dict):
        return ", ".join(f"{one:,} ({name})" for name, one in value.items())
    return ", ".join(map(str, value if isinstance(value, list) else [value]))


def heading(profile, source, rows, seconds):
    r"""Paragraphs that say what was run, and what the tables are not."""
    out = [f"# The paper's tables, profile {profile}"]
    if not source:
        return [*out, (
            'Nothing of this profile has been run: every cell of ours says "not run". '
            f"`python -m megu study paper --profile {profile} --out paper_figures/data` makes the numbers."
        )]  # fmt: skip
    if profile != "paper":
        out.append(
            f"**Orientation, not a reproduction.** Profile {profile} trains other networks"
            f" ({', '.join(rows['arch'].unique())}), for as many epochs and on as many images as the next line says."
            " The paper's numbers (ResNet-18 and ViT-B/16, all 50,000 images) stand beside ours so that signs and"
            " orders of magnitude can be compared; a gap between the two says nothing about the paper."
        )
    images = {name: source["data"][name]["train"] for name in rows["dataset"].unique()}
    return [*out, (
        f"`{source['command']}`: profile {profile}, preset {listed(source['preset'])}; training images"
        f" {listed(images)}; epochs {listed(source['epochs'])};"
        f" {listed(source['retain_images'])} retain images; seeds"
        f" {listed(source['seeds'])} of pre-training x {source['repeats']} of unlearning; {source['measured']} results,"
        f" models trained in {minutes(seconds):.0f} minutes without their evaluation; {listed(source['device'])}, torch"
        f" {source['torch']}, code {source['code']}. Repeats are averaged for each seed; ± is half of the 95 %"
        ' t-interval over the seeds of pre-training, n = 1 has none. "-": no such number.'
    )]  # fmt: skip


def tables(data, profile):
    r"""(Markdown, tidy DataFrame) of one profile's grid beside the paper's numbers."""
    (rows, seconds, source), reported = read_grid(data, profile), read_reported(HERE / "data")
    tidy, text = [], heading(profile, source, rows, seconds)
    for mode, legend in LEGEND.items():
        found = paper_table(rows, reported, mode)
        text += [legend, *blocks(found, len(source.get("seeds", ())))]
        tidy.append(found)
    text.append(DISTANCE)
    for mode in FORMS:
        found = distances(rows, reported, mode)
        text += [f"**{mode}**", far(found)]
        tidy.append(found.assign(
            forget="all", mode=mode, metric="distance_to_retrain", gap_to_paper=found["ours"] - found["paper_same"],
            status=found["cells"].gt(0).map({True: "run", False: "not run"}),
        ))  # fmt: skip
    columns = [*(name for name in TIDY if name != "column"), "cells", "paper_cells", "paper_same"]
    return "\n\n".join(text) + "\n", pd.concat([part.reindex(columns=columns) for part in tidy])


def beside(data):
    r"""`tables` of every profile; what was not run is shown for the tracked data alone: a single run has no grid."""
    always = ("small", "paper") if data == HERE / "data" else ()
    return {profile: tables(data, profile) for profile in sorted({*grids(data), *always})}


def _near(rows):
    """ToW and gaps to the retrained model, cell by cell, in the columns of `cells`."""
    out = []
    for (arch, dataset, scenario, forget), part in rows.groupby(CELL, sort=False):
        found = summary(part).assign(cell=f"{dataset} {forget}, {scenario}, {arch}", value=lambda of: of["gap"])
        found["value"] = found["value"].where(found["metric"] != "tow", found["mean"])
        left = "acc_forget_train" if scenario == "random" else "acc_forget_test"
        out.append(found.replace({"metric": {left: "acc_forget", "acc_retain_test": "acc_retain"}}))
    return pd.concat(out).query("metric in ('tow', 'acc_forget', 'acc_retain') and method != 'retrain'")


def gaps(data):
    """Of every cell, one figure for each profile."""
    made = {}
    for profile in grids(data):
        near = _near(read_grid(data, profile)[0])
        wanted = {f"{key[1]} {key[3]}, {key[2]}, {key[0]}": names for key, names in asked(profile).items()}
        wanted = {name: wanted.get(name, ()) for name in near["cell"].unique()}
        near = near[~near["method"].isin(PUBLIC_CODE.values())]
        made[profile] = cells(near, TITLES, wanted)
    return made


def tow(data, profile="small"):
    r"""Markdown: tug-of-war of every cell and method ± half-width of its 95 % t-interval over the seeds, 1 = as the
    retrained model of the same seed."""
    rows, seconds, source = read_grid(data, profile)
    rows, out = rows[rows["metric"] == "tow"], []
    names = [name for name in TITLES if name in set(rows["method"]) - {"retrain", *PUBLIC_CODE.values()}]
    for key, part in rows.groupby(CELL, sort=False):
        own, seeds, texts = summary(part).set_index("method").reindex(names), part["seed"].nunique(), []
        for name, row in own.iterrows():
            missing = "not run" if name in asked(profile).get(key, ()) else "-"
            few = f" (n = {row['seeds']:.0f})" if row["seeds"] < seeds else ""
            texts.append(number(row["mean"], row["half_width"], 2, missing=missing) + few)
        out.append(["{}, {}, {}: {}".format(*key), str(seeds), *texts])
    images = ", ".join(f"{about['train']:,} of {name}" for name, about in source["data"].items())
    return (
        markdown.table(["network, data, what is forgotten", "seeds", *(TITLES[name] for name in names)], out) + "\n\n"
        f"`{source['command']}`, profile {profile}, seeds {listed(source['seeds'])} of pre-training x"
        f" {source['repeats']} of unlearning; training images {images}, a tenth of them held out; epochs"
        f" {listed(source['epochs'])}; {listed(source['retain_images'])} retain images; {source['measured']} results,"
        f" models trained in {minutes(seconds):.0f} process minutes, evaluation left out, {'; '.join(source['device'])}"
        f", torch {source['torch']}, code {source['code']}. -: not of this cell. Tug-of-war (strict): product over"
        " forgotten training, retained training and retained test accuracy of 1 - |difference to the retrain of the"
        " same seed|, 1 = as retrain; ± half of the 95 % t-interval over the seeds, (n = ): of fewer seeds.\n"
    )


def tows(data):
    r"""`tow` of every profile."""
    return {profile: tow(data, profile) for profile in grids(data)}


if __name__ == "__main__":
    main(table1_to_8=beside, grid_gaps=gaps, grid_tow=tows)
