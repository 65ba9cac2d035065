r"""Does the noise pair forget on CIFAR?  Variants of eq. 11, more requests, a network that is sure of its images."""

from shared.drawing import source
from shared.grid import read_grid
from shared.tracked import listed, table, title

from megu.figures import markdown
from megu.figures.markdown import number
from megu.measure.summary import half_width, summary
from megu.methods import method_settings
from megu.settings.profiles import resolve

FIRST = "rocket"  # the paper's first request
REQUESTS = "requests"  # folder of the tables of others, which are of another code
SURE = {  # metric -> (head of its column, decimals)
    "acc_retain_test": ("retained test acc., %", 1),
    "acc_forget_train": ("forget images named right, %", 1),
    "acc_forget_test": ("forgotten test images, %", 0),
    "tow": ("ToW", 3),
}
LEAVE = {"megu-printed": "MeGU as printed (rates inferred)", "megu": "the default", "megu-no-noise": "labels alone"}


def left(data, metric="acc_forget_test"):
    r"""Values of the ablation, by (point, variant), a list of those of its seeds: two have no interval."""
    return table(data, "ablation_cifar100").query("metric == @metric").groupby(["point", "variant"])["value"].agg(list)


def seed_by_seed(values, digits=0):
    r"""Text of a value for each seed."""
    return ", ".join(f"{value:.{digits}f}" for value in values)


def variants(data):
    r"""Markdown: other weights and uses of the pair, value by value."""
    noise, lines, named, tow = method_settings("megu", resolve()).noise, [], left(data), left(data, "tow")
    (a, b), eq11, seeds = noise.weights, "0.7, 0.3", source(data, "ablation_cifar100_source")["numbers"]
    variants = {
        ("A16", "not checked"): ("as tuned on Fashion, not checked", f"{a:g}, {b:g}", noise.lam),
        ("A10", "eq. 11"): ("eq. 11 as printed", eq11, noise.lam),
        ("A15", "eq. 11, lambda 1"): ("eq. 11, stronger penalty", eq11, 1),
        ("A15", "eq. 11, lambda 10"): ("eq. 11, stronger penalty", eq11, 10),
        ("noise", "random"): ("the tuned pair, its pixels shuffled", f"{a:g}, {b:g}", noise.lam),
        ("noise", "pos"): ("positive noise alone", f"{a:g}, 0", noise.lam),
        ("noise", "none"): ("labels alone", "0, 0", "-"),
        ("default", "as tuned"): ("**the default**: as tuned, and checked", f"{a:g}, {b:g}", noise.lam),
    }
    for key, (words, weights, lam) in variants.items():
        lines.append([words, weights, f"{lam}", seed_by_seed(named[key]), seed_by_seed(tow[key], 2)])
    head = ["variant", "weights of N_pos, N_neg", "lambda", f"named right, %, seeds {seeds}", "ToW"]
    return markdown.table(head, lines)


def requests(data):
    r"""Markdown: what MeGU as printed, the default and labels alone leave of each request of the small grid."""
    rows, lines, asked, worse = read_grid(data, "small")[0].query("arch == 'resnet-small'"), [], 0, []
    names = ("original", "retrain", *LEAVE)
    for (_, request, dataset), cell in rows.groupby(["scenario", "forget", "dataset"], sort=False):
        found = (
            summary(cell)
            .set_index(["metric", "method"])[["mean", "half_width"]]
            .reindex([(metric, name) for metric in ("acc_forget_train", "tow") for name in names])
        )
        left = (number(*found.loc[("acc_forget_train", name)], 0, missing="-") for name in names)
        tow = (number(*found.loc[("tow", name)], 2, missing="-") for name in LEAVE)
        more, reach = _farther(cell.query("metric == 'acc_forget_train'"))
        asked, named = asked + (more == more), f"{request} ({dataset})"
        worse += [named] * bool(more > reach)
        lines.append([named, *left, number(more, reach, 0, "+", missing="-"), *tow])
    head = [*map(title, names[:2]), *LEAVE.values(), "default farther than labels alone"]
    which = f": {listed(worse)}" if worse else ""
    return (
        "The requests of the small grid, a small ResNet and a part of CIFAR: forget images that are named right, %, and"
        " ToW. *Farther*: distance of the default's from the retrained model's, minus that of labels alone, points,"
        f" paired by seed; by its 95 % interval the default is farther in {len(worse)} of the {asked} where both were"
        f" measured{which}.\n\n" + markdown.table(["request", *head, *(f"ToW, {one}" for one in LEAVE.values())], lines)
    )


def _farther(rows):
    # Distance of MeGU's value from the retrained model's, minus that of labels alone: (mean, half of its interval).
    wide = rows.pivot_table(index="seed", columns="method", values="value")
    far = wide.sub(wide["retrain"], axis=0).abs().reindex(columns=["megu", "megu-no-noise"])
    more = far["megu"] - far["megu-no-noise"]
    return more.mean(), half_width(more)


def _sure(data):
    # (request, data set, architecture) -> (rows of `summary` by (metric, method), seeds, epochs of pre-training)
    out = {}
    for rows, _, about in (read_grid(folder, "fast") for folder in (data, data / REQUESTS)):
        for (name, dataset, arch), found in rows.groupby(["forget", "dataset", "arch"]):
            means = summary(found).set_index(["metric", "method"])
            epochs = about["epochs"][f"{dataset}, {arch}"]
            out[name, dataset, arch] = means, sorted(found["seed"].unique()), epochs
    return out


def _first(data):
    return [found[:2] for (name, *_), found in _sure(data).items() if name == FIRST]


def _value(row, digits, seeds, unit=""):
    few = " (one seed)" if row["seeds"] == 1 < len(seeds) else ""
    return f"{number(row['mean'], row['half_width'], digits)}{unit}{few}"


def sure(data):
    r"""Markdown: requests on the networks that are sure of their images, method by method."""
    parts, cells = [], sorted(_sure(data).items(), key=lambda cell: cell[0][0] != FIRST)
    for (name, dataset, arch), (found, seeds, epochs) in cells:
        lines = [
            [title(name), *(_value(found.loc[(metric, name)], digits, seeds) for metric, (_, digits) in SURE.items())]
            for name in found.loc["tow"].index
        ]
        head = [f"method, {arch}", *(words for words, _ in SURE.values())]
        about = markdown.interval(seeds, "Mean" if len(seeds) > 1 else "Value", f"seeds {', '.join(map(str, seeds))}")
        trained = f"{name} ({dataset}), {epochs} epochs of pre-training"
        parts.append(f"{markdown.table(head, lines)}\n\n{trained}. {about}.")
    return "\n\n".join(parts)


def _many(seeds):
    return "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds"


def said(data):
    r"""What the table `sure` adds to the finding on eq. 11; nothing where that cell was not run."""
    out = []
    for found, seeds in _first(data):
        accuracy, forget = (found.loc[metric] for metric in ("acc_retain_test", "acc_forget_test"))
        named = (
            f"{words.partition(' (')[0] if out else words} {_value(forget.loc[name], 0, seeds, ' %')}"
            for name, words in LEAVE.items()
            if name in forget.index
        )
        before = number(*accuracy.loc["original", ["mean", "half_width"]], 1)
        which = f"another of {before} %" if out else f"a network of {before} % test accuracy"
        out.append(f"by {which} ({_many(seeds)}): {listed(named)}")
    return f" On all of CIFAR-100, {'; '.join(out)}." if out else ""


def others(data):
    r"""What the tables of further requests add to it, of test images, or where none go, of forget images."""
    out = []
    for (name, dataset, _), (found, seeds, _) in _sure(data).items():
        tested = found["mean"].reindex([("acc_forget_test", "megu")]).notna().all()
        forget, before = found.loc["acc_forget_test" if tested else "acc_forget_train"], found.loc["acc_retain_test"]
        names = {**LEAVE} if tested else {**LEAVE, "retrain": "retraining"}
        named = [f"{words.partition(' (')[0]} {_value(forget.loc[key], 0, seeds)} %" for key, words in names.items()]
        by = number(*before.loc["original", ["mean", "half_width"]], 1)
        out += [f"of {name} ({dataset}, {by} %, {_many(seeds)}) {', '.join(named)}"] * (name != FIRST)
    return f" By the first network {'; '.join(out)}." if out else ""


def turned(data):
    r"""ToW of MeGU and fine-tuning in that cell where MeGU has surely the larger one, unlike in the comparison."""
    out = []
    for found, seeds in _first(data):
        megu, tuned = (found.reindex([("tow", name)]).iloc[0] for name in ("megu", "finetune"))
        if tuned["mean"] + tuned["half_width"] < megu["mean"] - megu["half_width"]:  # not of one seed, which has none
            out.append(f"MeGU {_value(megu, 3, seeds)}, Finetune {_value(tuned, 3, seeds)}")
    return f" On {FIRST}, all of CIFAR-100 and a surer network, it is the other way: {'; '.join(out)}." if out else ""
