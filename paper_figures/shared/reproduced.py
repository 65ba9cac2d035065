r"""REPRODUCIBILITY.md: the paper's claims, and what this project's tables say of each, by stated rules."""

from shared.drawing import read
from shared.findings import AWAY, FAST, forgotten, ranked
from shared.grid import CELL, read_grid
from shared.tracked import ablated, apart, change, compared, listed, time_share

from megu.figures import markdown
from megu.figures.markdown import contenders, number, place
from megu.measure.summary import half_width

HEAD = ("claim of the paper", "where", "here", "evidence")
NEAR = 5  # points from the retrained model's forget accuracy that count as forgotten


def _word(true, of):
    return "holds" if true == of else "holds in part" if true else "does not hold"


def _cells(data, metric):
    # {(dataset, forget): values by seed and method} of the small grid's class-wise cells
    rows = read_grid(data, "small")[0].query("scenario == 'class' and arch == 'resnet-small' and metric == @metric")
    wide = rows.pivot_table(index=[*CELL, "seed"], columns="method", values="value")
    return {(cell[1], cell[3]): values.dropna(axis=1) for cell, values in wide.groupby(level=CELL)}


def forgets(data):
    r"""Is the class forgotten?  (word, evidence)."""
    cells = _cells(data, "acc_forget_test")
    near = sum((values["megu"] - values["retrain"]).mean() <= NEAR for values in cells.values())
    left = listed(f"{' '.join(cell)} {values['megu'].mean():.0f} %" for cell, values in cells.items())
    theirs = [values for cell, values in cells.items() if cell != ("cifar10", "cat")]  # which the paper has not
    reached = sum((values["megu"] - values["retrain"]).mean() <= NEAR for values in theirs)
    quick = compared(data).loc[("class", "acc_forget_test", "megu")]
    return _word(near + (quick["gap"] <= NEAR), len(cells) + 1), (
        f"forgotten test images that are still named right: fashion-mini {forgotten()} {quick['mean']:.0f} %, {left};"
        f" means at most {NEAR} points above the retrained model's (the rule) in {near + (quick['gap'] <= NEAR)} of"
        f" {len(cells) + 1}, of the paper's own cells in {reached} of {len(theirs)}"
    )


def keeps(data):
    r"""Is it nearer to the retrained model than its rivals?  (word, evidence)."""
    cells = [values[contenders(values.columns)].mean() for values in _cells(data, "tow").values()]
    quick = ranked(data)["mean"]
    first = sum(means.idxmax() == "megu" for means in [*cells, quick])
    return _word(first, len(cells) + 1), (
        f"the largest mean ToW (the rule) in {first} of {len(cells) + 1} cells; {place(quick.index)} for {forgotten()}"
    )


def better_than(data, other, words):
    r"""Is MeGU nearer to the retrained model than without one of its parts?  (word, evidence)."""
    rows, found = read(data, "comparison").query("scenario == 'class' and metric == 'tow'"), {}
    quick = rows.pivot_table(index="seed", columns="method", values="value")
    for cell, values in {("fashion-mini", forgotten()): quick, **_cells(data, "tow")}.items():
        if other in values:
            more = values["megu"] - values[other]
            found[" ".join(cell)] = more.mean(), half_width(more.to_numpy())
    better, worse = (sum(sign * mean > width for mean, width in found.values()) for sign in (1, -1))
    said = listed(f"{name} {number(*one, 2, '+')}" for name, one in found.items())
    count = f"{AWAY} (the rule), MeGU better in {better} of {len(found)}, worse in {worse}"
    return _word(better, len(found)), f"ToW of MeGU minus ToW of MeGU {words}, paired by seed: {said}; {count}"


def labels(data):
    r"""`better_than` random labels."""
    return better_than(data, "megu-random-labels", "with random labels")


def noise(data):
    r"""`better_than` without noise, and what the same noise with its pixels shuffled does."""
    word, said = better_than(data, "megu-no-noise", "without noise")
    shuffled = change(ablated(data).loc[("noise", "random", "tow")])
    return word, (
        f"{said}. For {forgotten()} the pair with its pixels shuffled changes ToW of MeGU by {shuffled}; MeGU without"
        " noise has settings that were tuned with it"
    )


def sources(data):
    r"""Does it matter who says which classes are alike?  It does where exchanged labels, the negative control, are
    worse.  (word, evidence)."""
    tow = ablated(data).xs("tow", level="metric").loc["A12"].rename(index=lambda name: name.removeprefix("guide: "))
    control, guides = tow.loc[["shuffled"]], tow[~tow.index.str.startswith("labels")].drop("shuffled")
    away = apart(guides, value="change")
    return _word(len(apart(control, -1, "change")), 1), (
        f"{forgotten()}: a guide with exchanged labels, the negative control, changes ToW by {change(control.iloc[0])}"
        f" (the rule: it falls, {AWAY}); of {len(guides)} other sources these change it:"
        f" {listed(f'{name} {change(row)}' for name, row in away.iterrows())}. On CIFAR-100 exchanged labels were not"
        " measured, and no large multimodal LLM has answered"
    )


def fast(data):
    r"""What does it cost?  (word, evidence)."""
    shares = time_share(data)
    share = shares["megu"] + shares["guide"]
    said = f"{shares['megu']:.0f} % of the time of retraining without the guide, {share:.0f} % with it"
    return _word(share <= FAST, 1), f"{said}; the rule: at most {FAST} % with it"


def table(data):
    r"""Markdown: claim by claim."""
    rest = "see [what the tables say](paper_figures/README.md#what-the-tables-say)"
    rows = [
        ("a class is forgotten", "Tables 1, 2", *forgets(data)),
        ("no rival stays nearer to the retrained model", "Tables 1, 2", *keeps(data)),
        ("guided labels are better than random ones", "Table 6", *labels(data)),
        ("the noise pair adds to the labels", "Table 6", *noise(data)),
        ("it matters who says which classes are alike", "section 4.1", *sources(data)),
        ("unlearning takes far less time than retraining", "Figure 4", *fast(data)),
        ("a sub-class, single images", "Tables 3, 4", "without a verdict", rest),
        ("the same on ViT-B/16; Tables 7 and 8", "Tables 1-4, 6-8", "not tested", "a small ViT, one seed, three cells"),
    ]
    return markdown.table(HEAD, rows) + "\n"
