r"""Tables 1-4 and 6-8 of arXiv 2602.17088 in its layout, ours beside the paper's, one Markdown and one tidy table for
each profile of the grid."""

import pandas as pd
from drawing import HERE, folders, grids

from megu.figures.grid_tables import read_grid
from megu.figures.paper_tables import FORMS, OTHER, distances, paper_table
from megu.figures.reported import COLUMNS, read_reported
from megu.measure.summary import minutes
from megu.methods import METHODS

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
FORM = {  # mode -> (heading, what stands in a cell)
    "compat": (
        "Compat: measured as the public code does",
        (
            "A_r, A_f: mean of batch accuracies; member rate (the paper's MIA): share of forgotten training images"
            " that the entropy attack calls members; all in percent. †: run as the public code runs it"
            f" ({'; '.join(METHODS[name].title for name in FORMS['compat'].variants.values())}); without †: what the"
            " strict tables show. A cell: **ours ± half-width / the paper's / ours minus the paper's**."
        ),
    ),
    "strict": (
        "Strict: measured by image, against a true retrain",
        (
            "A_r: accuracy on the test images of what is retained, percent; A_f: on those of what is forgotten (random"
            " images: on the forgotten training images), percent; loss AUC: of the loss attack, 0.5 = cannot be told. A"
            " cell: **ours ± half-width [gap to the retrain of the same seed ± half-width]**."
        ),
    ),
}


def number(value, spread, digits, sign=""):
    r"""Text of a number with its interval, where there is one; "-" for none."""
    return (
        "-" if pd.isna(value) else f"{value:{sign}.{digits}f}" + (f" ± {spread:.{digits}f}" if pd.notna(spread) else "")
    )


def dagger(row):
    r"""The mark of what was run as the public code runs it."""
    return "†" if isinstance(row.ours_method, str) and row.ours_method != row.method else ""


def cell(row, seeds):
    r"""Text of one cell; it says how many seeds it has where these are fewer than the grid's, or than an interval
    needs."""
    digits = 3 if row.metric.startswith("mia_loss") else 1
    ours = number(row.ours, row.half_width, digits) + dagger(row) if row.status == "run" else row.status
    ours += f" (n = {row.seeds})" if row.status == "run" and row.seeds < max(2, seeds) else ""
    if row.mode == "compat":
        return f"{ours} / {number(row.paper, None, 2)} / {number(row.gap_to_paper, None, 1, '+')}"
    return (
        ours
        if row.status != "run" or row.method == "retrain"
        else f"{ours} [{number(row.gap_to_retrain, row.gap_half_width, digits, '+')}]"
    )


def block(part, seeds):
    r"""Markdown of one architecture of one table: methods in rows, (forgotten concept, column) in columns."""
    concepts, (mode,) = list(dict.fromkeys(part["forget"])), part["mode"].unique()
    cells = {(row.forget, row.column, row.method): cell(row, seeds) for row in part.itertuples()}
    lines = ["| method | " + " | ".join(f"{forget}: {short}" for forget in concepts for short in SHORT[mode]) + " |"]
    lines.append("|---" * (1 + len(concepts) * len(COLUMNS)) + "|")
    for name in part["method"].unique():
        texts = [
            cells.get((forget, column, name), "not run / - / -" if mode == "compat" else "not run")
            for forget in concepts
            for column in COLUMNS
        ]
        lines.append(f"| {METHODS[name].title} | " + " | ".join(texts) + " |")
    return lines


def blocks(found, seeds):
    r"""Markdown of all tables of one mode."""
    (mode,), lines = found["mode"].unique(), []
    for (table, dataset, scenario), whole in found.groupby(["table", "dataset", "scenario"], sort=False):
        title = "Not in the paper" if table == OTHER else f"Table {table}"
        lines += ["", f"### {title}: {DATA.get(dataset, dataset)}, {WISE[scenario]}, {mode}"]
        for arch, part in whole.groupby("arch", sort=False):
            ran = ", ".join(part["ours_arch"].dropna().unique())
            head = (
                f"**{ARCHS.get(arch, arch)}** in the paper, {ran or 'not run'} here" if table != OTHER else f"**{ran}**"
            )
            lines += ["", head, "", *block(part, seeds)] if ran or mode == "compat" else ["", head]
    return lines


def counted(texts, sizes):
    r"""(addition to the row's name, texts) with the sizes of the values, "" for none: said once where all have the
    same, else beside each."""
    if len(found := {size for size in sizes if size}) == 1:
        return f", {found.pop()}", texts
    return "", [f"{text} ({size})" if size else text for text, size in zip(texts, sizes, strict=True)]


def far(table):
    r"""Markdown of the distances to retrain of one mode: the paper's and ours in rows, methods in columns."""
    methods = list(table["method"].unique())
    titles = ["two retrains" if name == "retrain" else METHODS[name].title for name in methods]
    lines = ["| table | network | whose | " + " | ".join(titles) + " |", "|---" * (3 + len(methods)) + "|"]
    for (printed, arch), part in table.groupby(["table", "arch"], sort=False):
        rows, (of,) = (
            list(part.set_index("method", drop=False).reindex(methods).itertuples()),
            part["paper_cells"].unique(),
        )
        cells = [f"{row.cells:.0f} of {of} cells" if row.cells > 0 else "" for row in rows]
        texts = [("the paper's", [number(row.paper, None, 2) for row in rows])] if part["paper"].notna().any() else []
        if texts and part["cells"].between(1, of - 1).any():
            theirs = [number(row.paper_same, None, 2) for row in rows]
            same, theirs = counted(
                theirs, [size if text != "-" else "" for text, size in zip(theirs, cells, strict=True)]
            )
            texts.append((f"the paper's{same or ', our cells'}", theirs))
        sizes = [
            f"{size}, {row.seeds:.0f} seed{'s' if row.seeds > 1 else ''}" if pd.notna(row.ours) else ""
            for row, size in zip(rows, cells, strict=True)
        ]
        ours = [
            (
                "not run"
                if row.cells == 0
                else number(row.ours, row.half_width, 2) + (dagger(row) if pd.notna(row.ours) else "")
            )
            for row in rows
        ]
        size, ours = counted(ours, sizes)
        lines += [
            f"| {printed} | {ARCHS[arch]} | {whose} | " + " | ".join(values) + " |"
            for whose, values in [*texts, (f"ours{size}", ours)]
        ]
    return lines


def listed(value):
    r"""Text of a value of a grid's source: one, several, or one for each name."""
    if isinstance(value, dict):
        return ", ".join(f"{one:,} ({name})" for name, one in value.items())
    return ", ".join(map(str, value if isinstance(value, list) else [value]))


def heading(profile, source, archs, datasets, seconds):
    r"""Lines that say what was run, and what the tables are not."""
    lines = [f"# The paper's tables, profile {profile}", ""]
    if not source:
        return [*lines, (
            'Nothing of this profile has been run: every cell of ours says "not run". '
            f"`python -m megu study paper --profile {profile} --out paper_figures/data` makes the numbers."
        )]  # fmt: skip
    if profile != "paper":
        lines += [
            (
                f"**Orientation, not a reproduction.** Profile {profile} trains other networks ({', '.join(archs)}),"
                " for as many epochs and on as many images as the next line says. The paper's numbers (ResNet-18 and"
                " ViT-B/16, all 50,000 images) stand beside ours so that signs and orders of magnitude can be"
                " compared; a gap between the two says nothing about the paper."
            ),
            "",
        ]
    images = {name: source["data"][name]["train"] for name in datasets}
    return [
        *lines,
        (
            f"`{source['command']}`: profile {profile}, preset {listed(source['preset'])}; training images"
            f" {listed(images)}; epochs {listed(source['epochs'])}; {listed(source['retain_images'])} retain images;"
            f" seeds {listed(source['seeds'])} of pre-training x {source['repeats']} of unlearning;"
            f" {source['measured']} results, models trained in {minutes(seconds):.0f} minutes without their evaluation;"
            f" {listed(source['device'])}, torch {source['torch']}, code {source['code']}. Repeats are averaged for"
            ' each seed; ± is half of the 95 % t-interval over the seeds of pre-training, n = 1 has none. "-": no'
            " such number."
        ),
    ]


def tables(data, profile):
    r"""(Markdown, tidy DataFrame) of one profile's grid beside the paper's numbers."""
    (rows, seconds, source), reported = read_grid(data, profile), read_reported(HERE / "data")
    seeds, tidy, lines = (
        len(source.get("seeds", ())),
        [],
        heading(profile, source, rows["arch"].unique(), rows["dataset"].unique(), seconds),
    )
    for mode, (title, legend) in FORM.items():
        found = paper_table(rows, reported, mode)
        lines += ["", f"## {title}", "", legend, *blocks(found, seeds)]
        tidy.append(found)
    lines += [
        "",
        "## Distance to retrain",
        "",
        (
            "Mean of |method - retrain| over the three columns and over the cells, in points (an AUC times 100), of"
            " each seed, then over the seeds. Each value is over the cells that its method was run in and the seeds"
            " that all of these have: the row says how many, or each value where they differ. Two retrains: the same"
            " between retrained models of two seeds, the noise floor. †: some of its cells have † above."
        ),
    ]
    for mode in FORMS:
        found = distances(rows, reported, mode)
        lines += ["", f"**{mode}**", "", *far(found)]
        tidy.append(found.assign(
            forget="all", mode=mode, metric="distance_to_retrain", gap_to_paper=found["ours"] - found["paper_same"],
            status=found["cells"].gt(0).map({True: "run", False: "not run"}),
        ))  # fmt: skip
    columns = [*(name for name in tidy[0] if name != "column"), "cells", "paper_cells", "paper_same"]
    return "\n".join(lines) + "\n", pd.concat([part.reindex(columns=columns) for part in tidy])


if __name__ == "__main__":
    data, out = folders()
    own = data == HERE / "data"  # elsewhere, what was not run is not shown: a single run has no grid
    profiles = sorted({*grids(data), *(("small", "paper") if own else ())})
    for profile in profiles:
        markdown, tidy = tables(data, profile)
        (out / f"grid_{profile}_tables.md").write_text(markdown)
        tidy.to_csv(out / f"grid_{profile}_tables.csv", index=False, float_format="%.6g")
        print(out / f"grid_{profile}_tables.md")
