r"""The grid's tables to matplotlib figures: times and gaps to retrain of every cell; nothing is computed here."""

import matplotlib.pyplot as plt
import numpy as np

from megu.figures.style import PART_COLOURS, styled

OWN = {
    "original": {"color": "black", "marker": "x"},
    "megu": {"color": "#d55e00", "marker": "D"},
}  # what to look for first
COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # the rest of Okabe-Ito without yellow
MARKERS = "os^v"  # of each next round of colours
REQUEST = ["dataset", "scenario", "forget"]
CELL = ["ours_arch", *REQUEST]
PANELS = {  # column -> (title, unit, below this the axis is linear)
    "acc_retain": ("retain test accuracy", "points", 1),
    "acc_forget": ("forget accuracy", "points", 1),
    "mia": ("loss attack AUC", "share", 0.01),
}


def _name(cell):
    arch, dataset, scenario, forget = cell
    return f"{dataset}, {scenario}\n{forget}, {arch}"


def _known(titles, table):
    return [name for name in titles if name in set(table["method"])]


def _looks(methods):
    """Colour and marker of every method."""
    others = [name for name in methods if name not in OWN]
    return OWN | {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i // len(COLOURS)]}
        for i, name in enumerate(others)
    }


@styled
def cell_times(table, titles, asked, columns=4):
    r"""Time of every method as share of retraining, split into its parts, one panel for each cell.

    Args:
        table: DataFrame from `megu.figures.grid_tables.time_shares`.
        titles: method name -> title, in the order of the bars.
        asked: dictionary from `megu.figures.grid_tables.asked`: a method without a time is "not run" where its cell has
            it, else "-".
        columns: panels in a row.
    Returns: Figure.  Role of Figure 4 of arXiv 2602.17088.
    """
    cells, methods = list(table.groupby(CELL, sort=False)), _known(titles, table)
    parts = table["part"].where(table["part"].isin(PART_COLOURS), "other")
    columns = min(columns, len(cells))
    lines = -(-len(cells) // columns)
    size = (2.3 * columns + 2.2, (0.19 * len(methods) + 0.8) * lines + 0.4)
    fig, axes = plt.subplots(lines, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat[len(cells) :]:
        ax.axis("off")
    for ax, (cell, rows) in zip(axes.flat, cells, strict=False):
        wide = rows.groupby(["method", parts.loc[rows.index]])["share"].sum().unstack().reindex(methods)
        left = np.zeros(len(methods))
        for part in [name for name in PART_COLOURS if name in wide]:
            ax.barh(range(len(methods)), wide[part].fillna(0), left=left, color=PART_COLOURS[part])
            left += wide[part].fillna(0).to_numpy()
        for i, total in enumerate(left):
            missing = "not run" if methods[i] in asked.get(cell, ()) else "-"
            ax.text(total, i, f" {total:.0f}" if wide.iloc[i].notna().any() else f" {missing}", va="center", fontsize=7)
        ax.axvline(100, color="black", linewidth=0.8, linestyle="--")
        ax.set_title(_name(cell), fontsize=8)
        ax.set_yticks(range(len(methods)), [titles[name] for name in methods], fontsize=8)
    for column in range(columns):
        axes[(len(cells) - 1 - column) // columns, column].tick_params(labelbottom=True)
    axes[0, 0].invert_yaxis()
    fig.supxlabel("time, % of retraining (dashed), without guide and evaluation\n-: no method of this cell", fontsize=9)
    shown = [name for name in PART_COLOURS if name in set(parts)]
    fig.legend(
        [plt.Rectangle((0, 0), 1, 1, color=PART_COLOURS[name]) for name in shown],
        shown,
        frameon=False,
        loc="outside upper center",
        ncols=len(shown),
    )
    return fig


@styled
def cell_gaps(table, titles, asked):
    r"""Gap of every method to the retrained model, requests in rows, networks side by side, methods in colour, the
    retrained models' own spread in grey.

    Forget accuracy is that of the test images of what is forgotten, or of the forgotten images where single ones are.

    Args:
        table: DataFrame from `megu.figures.paper_tables.paper_table` in strict mode.
        titles: method name -> title, in the order of the legend.
        asked: dictionary from `megu.figures.grid_tables.asked`: a cell without values is "not run" where the grid has
            it on this network, else "not in the grid".
    Returns: Figure.  Role of appendix G of arXiv 2602.17088, for every cell.
    """
    table = table[table["status"] == "run"].drop_duplicates([*CELL, "method", "column"])
    methods, archs = [name for name in _known(titles, table) if name != "retrain"], list(table["ours_arch"].unique())
    cells = list(dict.fromkeys(table[REQUEST].itertuples(index=False, name=None)))
    height = max(0.1 * len(methods) + 0.1, 0.35) * len(cells)
    panels = [(arch, column) for arch in archs for column in PANELS]
    fig, axes = plt.subplots(1, len(panels), figsize=(2.6 * len(panels) + 2, height + 1.5), sharey=True)
    looks, offsets = _looks(methods), np.linspace(-0.38, 0.38, len(methods))
    for ax, (arch, column) in zip(axes, panels, strict=True):
        title, unit, linear = PANELS[column]
        rows = table[(table["column"] == column) & (table["ours_arch"] == arch)].set_index(["method", *REQUEST])
        floor = rows.loc["retrain"].reindex(cells)["half_width"].fillna(0) * 2**0.5
        for i, width in enumerate(floor):
            ax.fill_betweenx([i - 0.46, i + 0.46], -width, width, color="#dddddd", linewidth=0)
        for name, offset in zip(methods, offsets, strict=True):
            found = rows[rows.index.get_level_values("method") == name].droplevel("method").reindex(cells)
            ax.errorbar(
                found["gap_to_retrain"],
                np.arange(len(cells)) + offset,
                xerr=found["gap_half_width"].fillna(0),
                linestyle="none",
                markersize=3.5,
                elinewidth=0.8,
                label=titles[name],
                **looks[name],
            )
        for i, cell in enumerate(cells):
            ax.axhline(i - 0.5, color="#bbbbbb", linewidth=0.5)
            if cell not in rows.loc["retrain"].index:
                ax.text(
                    0,
                    i,
                    "not run" if (arch, *cell) in asked else "not in the grid",
                    ha="center",
                    va="center",
                    fontsize=8,
                    backgroundcolor="white",
                )
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set_xscale("symlog", linthresh=linear)
        ax.tick_params(labelsize=8)
        few, many = rows["seeds"].min(), rows["seeds"].max()
        seeds = f"{few} to {many} seeds" if few < many else f"{many} seed{'s' if many > 1 else ''}"
        ax.set(title=f"{arch}, {seeds}\n{title}", xlabel=f"gap to retrain ({unit})", ylim=(len(cells) - 0.5, -0.5))
        ax.set_yticks(range(len(cells)), [f"{dataset}, {scenario}\n{forget}" for dataset, scenario, forget in cells])
    for k in range(len(PANELS)):  # the same metric has the same limits for every network
        low, high = zip(*(ax.get_xlim() for ax in axes[k :: len(PANELS)]), strict=True)
        for ax in axes[k :: len(PANELS)]:
            ax.set_xlim(min(low), max(high))
    handles, texts = axes[0].get_legend_handles_labels()
    if table["half_width"].notna().any():
        handles.append(plt.Rectangle((0, 0), 1, 1, color="#dddddd"))
        texts.append("difference of two sets of retrains (95 %)")
    fig.legend(handles, texts, frameon=False, loc="outside lower center", ncols=4, fontsize=8)
    return fig
