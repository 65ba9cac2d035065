r"""Tables 1-4 and 6-8 of arXiv 2602.17088 in its layout, ours beside the paper's, one Markdown and one tidy table for each profile of the grid."""

import pandas as pd
from drawing import HERE, folders, grids

from megu.grid_tables import minutes, read_grid
from megu.methods import METHODS
from megu.paper_tables import FORMS, OTHER, distances, paper_table
from megu.reported import COLUMNS, read_reported

ARCHS = {"resnet18": "ResNet-18", "vit-b16": "ViT-B/16", "all": "both"}
DATA = {"cifar10": "CIFAR-10", "cifar20": "CIFAR-20 (superclasses)", "cifar100": "CIFAR-100", "fashion-mini": "Fashion mini"}
WISE = {"class": "class-wise", "subclass": "sub-class-wise", "random": "random images"}
SHORT = {"compat": ("A_r", "A_f", "member rate"), "strict": ("A_r", "A_f", "loss AUC")}  # mode -> `COLUMNS` in a heading
FORM = {  # mode -> (heading, what stands in a cell)
    "compat": ("Compat: measured as the public code does", (
        "A_r, A_f: mean of batch accuracies; member rate (the paper's MIA): share of forgotten training images that the entropy attack calls members; "
        "all in percent. "
        "Where the grid has a method as the public code runs it, that one stands here, and its name says so. "
        "A cell: **ours ± half-width / the paper's / ours minus the paper's**."
    )),
    "strict": ("Strict: measured by image, against a true retrain", (
        "A_r: accuracy on the test images of what is retained, percent; A_f: on those of what is forgotten (random images: on the forgotten training images), "
        "percent; loss AUC: of the loss attack, 0.5 = cannot be told. A cell: **ours ± half-width [gap to the retrain of the same seed ± half-width]**."
    )),
}  # fmt: skip


def number(value, spread, digits, sign=""):
    r"""Text of a number with its interval, where there is one; "-" for none."""
    return "-" if pd.isna(value) else f"{value:{sign}.{digits}f}" + (f" ± {spread:.{digits}f}" if pd.notna(spread) else "")


def cell(row, seeds):
    r"""Text of one cell; it says how many seeds it has where these are fewer than the grid's, or than an interval needs."""
    digits = 3 if row.metric.startswith("mia_loss") else 1
    ours = number(row.ours, row.half_width, digits) if row.status == "run" else row.status
    ours += f" (n = {row.seeds})" if row.status == "run" and row.seeds < max(2, seeds) else ""
    if row.mode == "compat":
        return f"{ours} / {number(row.paper, None, 2)} / {number(row.gap_to_paper, None, 1, '+')}"
    return ours if row.status != "run" or row.method == "retrain" else f"{ours} [{number(row.gap_to_retrain, row.gap_half_width, digits, '+')}]"


def block(part, seeds):
    r"""Markdown of one architecture of one table: methods in rows, (forgotten concept, column) in columns."""
    concepts, (mode,) = list(dict.fromkeys(part["forget"])), part["mode"].unique()
    cells = {(row.forget, row.column, row.method): cell(row, seeds) for row in part.itertuples()}
    lines = ["| method | " + " | ".join(f"{forget}: {short}" for forget in concepts for short in SHORT[mode]) + " |"]
    lines.append("|---" * (1 + len(concepts) * len(COLUMNS)) + "|")
    for name, ours in dict(zip(part["method"], part["ours_method"], strict=True)).items():
        texts = [cells.get((forget, column, name), "not run / - / -" if mode == "compat" else "not run") for forget in concepts for column in COLUMNS]
        lines.append(f"| {METHODS[ours].title if ours in METHODS else ours} | " + " | ".join(texts) + " |")
    return lines


def blocks(found, seeds):
    r"""Markdown of all tables of one mode."""
    (mode,), lines = found["mode"].unique(), []
    for (table, dataset, scenario), whole in found.groupby(["table", "dataset", "scenario"], sort=False):
        title = "Not in the paper" if table == OTHER else f"Table {table}"
        lines += ["", f"### {title}: {DATA.get(dataset, dataset)}, {WISE[scenario]}, {mode}"]
        for arch, part in whole.groupby("arch", sort=False):
            ran = ", ".join(part["ours_arch"].dropna().unique())
            head = f"**{ARCHS.get(arch, arch)}** in the paper, {ran or 'not run'} here" if table != OTHER else f"**{ran}**"
            lines += ["", head, "", *block(part, seeds)] if ran or mode == "compat" else ["", head]
    return lines


def far(table):
    r"""Markdown of the distances to retrain of one mode: the paper's and ours in rows, methods in columns."""
    methods = list(table["method"].unique())
    titles = ["two retrains" if name == "retrain" else METHODS[name].title for name in methods]
    lines = ["| table | network | whose | " + " | ".join(titles) + " |", "|---" * (3 + len(methods)) + "|"]
    for (printed, arch), part in table.groupby(["table", "arch"], sort=False):
        rows, (of,) = part.set_index("method").reindex(methods), part["paper_cells"].unique()
        ran = part["cells"].max()
        texts = {"the paper's": [number(value, None, 2) for value in rows["paper"]]} if part["paper"].notna().any() else {}
        if texts and 0 < ran < of:
            texts[f"the paper's, {ran} of {of} cells"] = [number(value, None, 2) for value in rows["paper_same"]]
        fewer = [f" ({row.cells:.0f} of {of})" if row.cells < ran else "" for row in rows.itertuples()]
        ours = [number(row.ours, row.half_width, 2) + less if row.cells > 0 else "-" if pd.isna(row.cells) else "not run"
                for row, less in zip(rows.itertuples(), fewer, strict=True)]  # fmt: skip
        seeds = part["seeds"].max()
        texts[f"ours, {ran} of {of} cells, {seeds} seed{'s' if seeds > 1 else ''}" if ran else "ours"] = ours
        lines += [f"| {printed} | {ARCHS[arch]} | {whose} | " + " | ".join(values) + " |" for whose, values in texts.items()]
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
            f"`python -m megu grid --profile {profile} --out paper_figures/data` makes the numbers."
        )]  # fmt: skip
    if profile != "paper":
        lines += [(
            f"**Orientation, not a reproduction.** Profile {profile} trains other networks ({', '.join(archs)}), for as many epochs and on as many images as "
            "the next line says. The paper's numbers (ResNet-18 and ViT-B/16, all 50,000 images) stand beside ours so that signs and orders of magnitude "
            "can be compared; a gap between the two says nothing about the paper."
        ), ""]  # fmt: skip
    images = {name: source["data"][name]["train"] for name in datasets}
    return [*lines, (
        f"`{source['command']}`: profile {profile}, preset {listed(source['preset'])}; training images {listed(images)}; "
        f"epochs {listed(source['epochs'])}; {listed(source['retain_images'])} retain images; seeds {listed(source['seeds'])} of pre-training x "
        f"{source['repeats']} of unlearning; {source['measured']} results, models trained in {minutes(seconds):.0f} minutes without their evaluation; "
        f"{listed(source['device'])}, torch {source['torch']}, code {source['code']}. "
        'Repeats are averaged for each seed; ± is half of the 95 % t-interval over the seeds of pre-training, n = 1 has none. "-": no such number.'
    )]  # fmt: skip


def tables(data, profile):
    r"""(Markdown, tidy DataFrame) of one profile's grid beside the paper's numbers."""
    (rows, seconds, source), reported = read_grid(data, profile), read_reported(HERE / "data")
    seeds, tidy, lines = len(source.get("seeds", ())), [], heading(profile, source, rows["arch"].unique(), rows["dataset"].unique(), seconds)
    for mode, (title, legend) in FORM.items():
        found = paper_table(rows, reported, mode)
        lines += ["", f"## {title}", "", legend, *blocks(found, seeds)]
        tidy.append(found)
    lines += ["", "## Distance to retrain", "", (
        "Mean of |method - retrain| over the three columns and over the cells, in points (an AUC times 100), of each seed, then over the seeds. "
        "Two retrains: the same between retrained models of two seeds, the noise floor."
    )]  # fmt: skip
    for mode, cells in zip(FORMS, tidy[:], strict=True):
        found, ran = distances(rows, reported, mode), cells.drop_duplicates("method").set_index("method")["ours_method"]
        lines += ["", f"**{mode}**", "", *far(found)]
        tidy.append(found.assign(
            forget="all", mode=mode, metric="distance_to_retrain", ours_method=found["method"].map(ran),
            gap_to_paper=found["ours"] - found["paper_same"], status=found["ours"].notna().map({True: "run", False: "not run"}),
        ))  # fmt: skip
    columns = [name for name in tidy[0] if name != "column"]
    return "\n".join(lines) + "\n", pd.concat([part[columns] if "column" in part else part.reindex(columns=columns) for part in tidy])


if __name__ == "__main__":
    data, out = folders()
    own = data == HERE / "data"  # elsewhere, what was not run is not shown: a single run has no grid
    profiles = sorted({*grids(data), *(("small", "paper") if own else ())})
    for profile in profiles:
        markdown, tidy = tables(data, profile)
        (out / f"grid_{profile}_tables.md").write_text(markdown)
        tidy.to_csv(out / f"grid_{profile}_tables.csv", index=False, float_format="%.6g")
        print(out / f"grid_{profile}_tables.md")
