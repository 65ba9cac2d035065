r"""Every method against the true retrain, scenario by scenario."""

from shared.drawing import TITLES, main, read, source
from shared.tracked import of_retrain

from megu.figures import markdown, results
from megu.figures.markdown import number
from megu.measure.summary import summary

COLUMNS = {  # metric -> (heading with the mode, digits)
    "acc_retain_test": ("retain test acc. (strict)", 1),
    "acc_forget_train": ("forget train acc. (strict)", 1),
    "mia_loss_auc": ("loss attack AUC (strict)", 3),
    "mia_lira_online_auc": ("LiRA AUC (strict)", 3),
    "probe_forget_acc": ("probe, forget acc. (strict)", 1),
    "relearn_steps": ("relearn steps (strict)", 1),
    "mia_ssd_member_rate": ("SSD member rate (compat)", 1),
    "tow": ("ToW (strict)", 3),
}
SHOWN = ["tow", "acc_retain_test", "acc_forget_train", "mia_ssd_member_rate"]


def one(rows, seconds):
    r"""Markdown of one scenario: rows by tug-of-war, gaps to retrain ± half-width of their 95 % t-interval; retrain's
    row has its values."""
    found = summary(rows).set_index(["metric", "method"])
    share, lines = of_retrain(seconds), []
    order = found.loc["tow", "mean"].sort_values(ascending=False).index
    for name in dict.fromkeys(["retrain", *order]):
        cells = [TITLES.get(name, name)]
        for metric, (_, digits) in COLUMNS.items():
            own = name == "retrain" or metric == "tow"
            shown = ["mean", "half_width"] if own else ["gap", "gap_half_width"]
            values = found.loc[(metric, name), shown] if (metric, name) in found.index else [float("nan")]
            cells.append(number(*values, digits=digits, sign="" if own else "+", missing="n/a"))
        lines.append([*cells, "-" if name == "original" else f"{share[name]:.1f}"])
    return markdown.table(["method", *(title for title, _ in COLUMNS.values()), "time, % of retrain"], lines)


def tables(data):
    r"""Markdown of every scenario of ``comparison.csv``."""
    rows, seconds = read(data, "comparison"), read(data, "comparison_seconds")
    about, out = source(data, "comparison_source"), ""
    for scenario in about["scenarios"]:
        parts = (table[table["scenario"] == scenario] for table in (rows, seconds))
        out += f"**{scenario}**\n\n{one(*parts)}\n\n"
    chosen = "".join(f" --scenario {scenario}" for scenario in about["scenarios"])
    spread = markdown.interval(about["seeds"], "gap to the retrain of the same seed", "seeds of pre-training")
    return out + (
        f"`python -m megu study comparison --out paper_figures/data{chosen} --repeats {about['repeats']} --shadows"
        f" {about['shadows']}`, profile {about['profile']}, seeds {about['numbers']} of pre-training x"
        f" {about['repeats']} of unlearning, {about['shadows']} shadow models, {about['retain_images']} retain images,"
        f" {about['device']}, torch {about['torch']}. First row: the goal, and the interval of its own"
        f" seeds. Below: {spread}; ToW itself, 1 = as retrain. Rows are in the order of ToW.\n"
    )


def gaps(data):
    """To retrain, one figure for each scenario."""
    parts = read(data, "comparison").groupby("scenario", sort=False)
    return {name: results.gaps(summary(part), TITLES, SHOWN) for name, part in parts}


def pareto(data):
    """Forgetting against retained accuracy of whole classes."""
    return results.pareto(summary(read(data, "comparison").query("scenario == 'class'")), TITLES)


if __name__ == "__main__":
    main(comparison=gaps, comparison_table=tables, pareto=pareto)
